"""What LangChain drops from Gemini's usage is computed again from the message."""

from __future__ import annotations

import base64
import io
import struct
import wave
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage, HumanMessage

from eco2_callbacks import PriceBook, TokenUsage
from tests.support.reading import add_gemini_usage as complete

AT = datetime(2026, 11, 1, tzinfo=UTC)


def picture(width: int, height: int) -> dict[str, Any]:
    """Return an image block with a PNG header only."""
    header = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + struct.pack(">II", width, height) + b"\x08\x02\0\0\0"
    return {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{base64.b64encode(header).decode()}"}}


def audio_block(seconds: float) -> dict[str, Any]:
    """Return an audio block with some seconds of silence."""
    file = io.BytesIO()
    with wave.open(file, "wb") as sound:
        sound.setnchannels(1)
        sound.setsampwidth(1)
        sound.setframerate(1000)
        sound.writeframes(bytes(round(1000 * seconds)))
    return {"type": "media", "data": base64.b64encode(file.getvalue()).decode(), "mime_type": "audio/wav"}


def grounded(**metadata: Any) -> AIMessage:
    return AIMessage("Answer", response_metadata={"grounding_metadata": metadata})


def test_a_plain_answer_stays_unchanged() -> None:
    """A text answer to a text prompt keeps its usage and is exact."""
    usage = TokenUsage(input_tokens=10, output_tokens=5)

    completed, exact = complete(usage, [AIMessage("Hi")], [HumanMessage("Hello")], "gemini-3-pro-preview")

    assert completed is usage
    assert exact


@pytest.mark.parametrize(
    ("model", "pixels", "size", "tokens"),
    [
        ("gemini-2.5-flash-image", (1024, 1024), "1K", 1290),
        ("gemini-2.5-flash-image", (4096, 4096), "4K", 1290),
        ("gemini-3-pro-image-preview", (512, 512), "512x512", 1120),
        ("gemini-3-pro-image-preview", (1024, 1024), "1K", 1120),
        ("gemini-3-pro-image-preview", (2752, 1536), "2K", 1120),
        ("gemini-3-pro-image-preview", (5504, 3072), "4K", 2000),
        ("gemini-3.1-flash-image-preview", (512, 512), "512x512", 747),
        ("gemini-3.1-flash-image-preview", (1376, 768), "1K", 1120),
        ("gemini-3.1-flash-image-preview", (2048, 2048), "2K", 1680),
        ("gemini-3.1-flash-image-preview", (4096, 4096), "4K", 2520),
        ("gemini-3.9-some-image", (1024, 1024), "1K", 1120),
        ("imagine-1", (1024, 1024), "1K", 1120),
    ],
    ids=[
        "flash_2.5",
        "flash_2.5_large",
        "pro_half",
        "pro_1k",
        "pro_2k",
        "pro_4k",
        "flash_3.1_half",
        "flash_3.1_1k",
        "flash_3.1_2k",
        "flash_3.1_4k",
        "new_gemini_3",
        "unknown_family",
    ],
)
def test_an_image_costs_the_documented_tokens(model: str, pixels: tuple[int, int], size: str, tokens: int) -> None:
    """Image output follows from the model and the image's size, and is exact."""
    usage = TokenUsage(input_tokens=10, output_tokens=3000)

    completed, exact = complete(usage, [AIMessage(["Here:", picture(*pixels)])], [], model)

    assert completed == TokenUsage(
        input_tokens=10, output_tokens=3000, output_image_tokens=tokens, images=1, image_sizes=(size,)
    )
    assert exact


@pytest.mark.parametrize(
    ("output_tokens", "image_tokens", "exact"),
    [(2339, 2239, False), (2340, 2240, True), (2341, 2240, True)],
    ids=["one_below", "at", "one_above"],
)
def test_images_take_no_more_than_the_output_holds(output_tokens: int, image_tokens: int, exact: bool) -> None:
    """Two images need 2240 tokens beside 100 of reasoning; with fewer left they take all, which is not exact."""
    usage = TokenUsage(output_tokens=output_tokens, reasoning_tokens=100)
    answer = AIMessage([picture(1024, 1024), picture(1024, 1024)])

    completed, is_exact = complete(usage, [answer], [], "gemini-3-pro-image-preview")

    assert (completed.output_image_tokens, completed.images, is_exact) == (image_tokens, 2, exact)


def test_an_unreadable_image_counts_as_1k() -> None:
    """A linked image counts as the default size."""
    answer = AIMessage([{"type": "image", "url": "https://example.org/a.png"}])

    completed, _ = complete(TokenUsage(output_tokens=2000), [answer], [], "gemini-3-pro-image-preview")

    assert (completed.output_image_tokens, completed.image_sizes) == (1120, ("1K",))


def test_a_priced_image_is_not_billed_as_text() -> None:
    """The image's tokens cost the image rate, the rest of the output the text rate."""
    usage = TokenUsage(output_tokens=1220)

    completed, _ = complete(usage, [AIMessage([picture(1024, 1024)])], [], "gemini-3-pro-image-preview")
    cost = PriceBook().price(completed, provider="google_genai", model="gemini-3-pro-image-preview", at=AT)

    # $120 image, $12 text: 1120 x 120 + 100 x 12
    assert cost.total_usd == Decimal("0.1356")


@pytest.mark.parametrize("model", ["gemini-2.5-flash-preview-tts", "gemini-2.5-pro-tts"])
def test_a_speech_model_answers_in_audio(model: str) -> None:
    """All output of a speech model is audio, and exact."""
    completed, exact = complete(TokenUsage(input_tokens=5, output_tokens=80), [AIMessage("")], [], model)

    assert completed == TokenUsage(input_tokens=5, output_tokens=80, output_audio_tokens=80)
    assert exact


@pytest.mark.parametrize(
    ("seconds", "tokens"), [(1, 32), (10, 320), (10.01, 320), (10.02, 321)], ids=["one", "ten", "down", "up"]
)
def test_a_second_of_audio_is_32_tokens(seconds: float, tokens: int) -> None:
    """Audio input is 32 tokens a second, rounded, and not exact."""
    usage = TokenUsage(input_tokens=1000, output_tokens=5)

    completed, exact = complete(usage, [AIMessage("Hi")], [HumanMessage([audio_block(seconds)])], "gemini-2.5-flash")

    assert completed == TokenUsage(input_tokens=1000, output_tokens=5, input_audio_tokens=tokens)
    assert not exact


def test_an_mp3_is_32_tokens_a_second_too() -> None:
    """The playing time of an MP3 counts like that of a WAV."""
    # MPEG-1 Layer III, 128 kbit/s at 44.1 kHz: a frame is 417 bytes and 1152 samples; 1000 of them play 26.12 s.
    sound = (b"\xff\xfb\x90\x00" + bytes(413)) * 1000
    block = {"type": "audio", "base64": base64.b64encode(sound).decode(), "mime_type": "audio/mpeg"}

    completed, exact = complete(
        TokenUsage(input_tokens=1000), [AIMessage("Hi")], [HumanMessage([block])], "gemini-2.5-flash"
    )

    # 26.12 x 32 = 836
    assert completed.input_audio_tokens == pytest.approx(836, abs=4)
    assert not exact


def test_the_audio_of_all_messages_adds_up() -> None:
    """All audio in the conversation was sent and counts."""
    prompt: list[BaseMessage] = [
        HumanMessage([audio_block(1), {"type": "text", "text": "and"}, audio_block(2)]),
        AIMessage("Hm"),
        HumanMessage([{"type": "input_audio", "input_audio": {"data": audio_block(3)["data"], "format": "wav"}}]),
    ]

    completed, _ = complete(TokenUsage(input_tokens=1000), [AIMessage("Hi")], prompt, "gemini-2.5-flash")

    # (1 + 2 + 3) x 32
    assert completed.input_audio_tokens == 192


def test_audio_takes_no_more_than_the_input_holds() -> None:
    """Audio tokens never exceed the input, and tokens that must be cached and audio count as both."""
    usage = TokenUsage(input_tokens=100, cache_read_tokens=30)

    completed, exact = complete(usage, [AIMessage("Hi")], [HumanMessage([audio_block(10)])], "gemini-2.5-flash")

    assert completed == TokenUsage(
        input_tokens=100, cache_read_tokens=30, input_audio_tokens=100, cache_read_audio_tokens=30
    )
    assert not exact


@pytest.mark.parametrize(
    "block",
    [
        {"type": "audio", "url": "https://example.org/a.mp3"},
        {"type": "video", "url": "https://example.org/a.mp4"},
        {"type": "media", "file_uri": "gs://bucket/a.mp3", "mime_type": "audio/mpeg"},
        {"type": "media", "data": "AAAA", "mime_type": "video/mp4"},
    ],
    ids=["audio_link", "video_link", "audio_uri", "video_bytes"],
)
def test_unreadable_audio_stays_text_and_is_not_exact(block: dict[str, Any]) -> None:
    """Audio of unknown length is billed as text, and the usage is not exact."""
    usage = TokenUsage(input_tokens=1000)

    completed, exact = complete(usage, [AIMessage("Hi")], [HumanMessage([block])], "gemini-2.5-flash")

    assert completed == usage
    assert not exact


@pytest.mark.parametrize(
    "block",
    [{"type": "image", "base64": "AAAA", "mime_type": "image/png"}, {"type": "text", "text": "audio/wav"}, "text"],
    ids=["image", "text", "plain"],
)
def test_a_prompt_without_audio_is_exact(block: dict[str, Any] | str) -> None:
    """Images and text in the prompt cost the text rate and change nothing."""
    usage = TokenUsage(input_tokens=1000)

    assert complete(usage, [AIMessage("Hi")], [HumanMessage([block])], "gemini-2.5-flash") == (usage, True)


@pytest.mark.parametrize(
    ("model", "queries", "searches"),
    [
        ("gemini-2.5-flash", ["a", "b", "c"], 1),
        ("gemini-2.0-flash", ["a"], 1),
        ("gemini-2.5-flash", [], 0),
        ("gemini-2.5-flash", [""], 0),
        ("gemini-1.5-pro", ["a", "b"], 1),
        ("gemini-3-pro-preview", ["a", "b", "c"], 3),
        ("gemini-3-pro-preview", ["a", "b", "a", ""], 2),
        ("gemini-3.1-flash-image-preview", ["a"], 1),
        ("gemini-3-pro-preview", [], 0),
        ("gemini-10-pro", ["a", "b"], 2),
        ("some-model", ["a", "b"], 2),
    ],
    ids=[
        "gemini_2_by_prompt",
        "gemini_2_one",
        "gemini_2_none",
        "gemini_2_empty_query",
        "gemini_1",
        "gemini_3_by_query",
        "gemini_3_unique_non_empty",
        "gemini_3_image",
        "gemini_3_none",
        "gemini_10",
        "unknown_family",
    ],
)
def test_searches_are_billed_as_the_generation_bills_them(model: str, queries: list[str], searches: int) -> None:
    """Before Gemini 3 a prompt with searches is billed once, from Gemini 3 on each unique query."""
    answer = grounded(web_search_queries=queries)

    completed, exact = complete(TokenUsage(), [answer], [], model)

    assert completed == TokenUsage(web_searches=searches)
    assert exact


def test_image_searches_are_searches() -> None:
    """Image queries are billed with page queries, the same text once."""
    answer = grounded(web_search_queries=["a"], image_search_queries=["a", "b"])

    completed, _ = complete(TokenUsage(), [answer], [], "gemini-3-pro-preview")

    assert completed.web_searches == 2


def test_the_choices_of_one_answer_search_once() -> None:
    """A query that several choices report was made once."""
    answers = [grounded(web_search_queries=["a"]), grounded(web_search_queries=["a"]), AIMessage("Hi")]

    completed, _ = complete(TokenUsage(), answers, [], "gemini-3-pro-preview")

    assert completed.web_searches == 1


@pytest.mark.parametrize(
    ("model", "metadata", "groundings"),
    [
        ("gemini-2.5-flash", {"grounding_chunks": [{"maps": {"title": "A"}}, {"maps": {"title": "B"}}]}, 1),
        (
            "gemini-3-pro-preview",
            {"grounding_chunks": [{"maps": {"title": "A"}}], "retrieval_queries": ["x", "y", "x"]},
            2,
        ),
        ("gemini-3-pro-preview", {"grounding_chunks": [{"maps": {"title": "A"}}]}, 1),
        ("gemini-3-pro-preview", {"grounding_chunks": [{"web": {"title": "A"}}], "retrieval_queries": ["x"]}, 0),
        ("gemini-3-pro-preview", {"grounding_chunks": [{"maps": None}]}, 0),
    ],
    ids=["gemini_2_by_prompt", "gemini_3_by_query", "gemini_3_unreported", "web_only", "no_maps"],
)
def test_grounding_in_maps_is_counted(model: str, metadata: dict[str, Any], groundings: int) -> None:
    """Maps is billed where the answer uses a place: per prompt before Gemini 3, then per query."""
    completed, exact = complete(TokenUsage(), [grounded(**metadata)], [], model)

    assert completed == TokenUsage(maps_groundings=groundings)
    assert exact


@pytest.mark.parametrize(
    "metadata",
    [
        {"grounding_metadata": None},
        {"grounding_metadata": "x"},
        {"grounding_metadata": {"web_search_queries": "x", "grounding_chunks": 7, "retrieval_queries": None}},
        {"grounding_metadata": {"web_search_queries": [None, 1, {}, []], "grounding_chunks": [None, 1, "maps"]}},
    ],
    ids=["none", "text", "no_lists", "no_texts"],
)
def test_malformed_grounding_bills_nothing(metadata: dict[str, Any]) -> None:
    """Malformed grounding adds no fee and raises nothing."""
    completed, exact = complete(TokenUsage(), [AIMessage("Hi", response_metadata=metadata)], [], "gemini-3-pro-preview")

    assert completed == TokenUsage()
    assert exact


@pytest.mark.parametrize(
    ("usage", "answer", "model"),
    [
        (
            TokenUsage(output_tokens=100, reasoning_tokens=30, output_audio_tokens=50),
            AIMessage([picture(1024, 1024)]),
            "gemini-3-pro-image-preview",
        ),
        (TokenUsage(output_tokens=2000, reasoning_tokens=30), AIMessage([picture(1024, 1024)]), "gemini-3-pro-tts"),
        (TokenUsage(output_tokens=100, reasoning_tokens=30), AIMessage("Hi"), "gemini-3-pro-tts"),
    ],
    ids=["image_beside_audio", "image_of_a_speech_model", "thinking_speech_model"],
)
def test_output_parts_never_exceed_the_output(usage: TokenUsage, answer: AIMessage, model: str) -> None:
    """Reasoning, images and audio together never exceed the whole output."""
    completed, _ = complete(usage, [answer], [], model)

    parts = completed.reasoning_tokens + completed.output_audio_tokens + completed.output_image_tokens
    assert parts <= completed.output_tokens


def test_cache_writes_are_not_audio() -> None:
    """Audio tokens leave room for the tokens written to the cache."""
    usage = TokenUsage(input_tokens=100, cache_read_tokens=30, cache_creation_tokens=60)

    completed, _ = complete(usage, [AIMessage("Hi")], [HumanMessage([audio_block(10)])], "gemini-2.5-flash")

    assert (completed.input_audio_tokens, completed.cache_read_audio_tokens) == (40, 30)


def test_a_block_without_a_string_type_is_no_audio() -> None:
    """A block whose type is no string is ignored."""
    prompt = HumanMessage.model_construct(content=[{"type": ["audio"]}, {"type": {}}, {"mime_type": 7}])

    assert complete(TokenUsage(), [AIMessage("Hi")], [prompt], "gemini-2.5-flash") == (TokenUsage(), True)


def test_a_model_name_with_a_huge_generation_is_read() -> None:
    """A model name with thousands of digits raises nothing."""
    completed, _ = complete(TokenUsage(), [grounded(web_search_queries=["a", "b"])], [], "gemini-" + "9" * 5000)

    assert completed.web_searches == 2
