"""Estimates: known texts have their known number of tokens, offline, and any value has an estimate."""

from __future__ import annotations

import base64
import io
import struct
import wave
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage, SystemMessage
from pydantic import BaseModel

from eco2_callbacks import TokenUsage
from eco2_callbacks.usage import estimate_usage, rules_for
from eco2_callbacks.usage.function_tokens import function_tokens
from eco2_callbacks.usage.tokenizers import count_tokens
from tests.support.examples import examples


@pytest.mark.parametrize(
    ("text", "old", "new"),
    [
        # https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken, "Comparing encodings"
        ("antidisestablishmentarianism", 6, 6),
        ("2 + 2 = 4", 7, 7),
        ("お誕生日おめでとう", 9, 8),
        ("", 0, 0),
    ],
    ids=["english", "sum", "japanese", "empty"],
)
def test_a_text_has_its_published_number_of_tokens(text: str, old: int, new: int) -> None:
    """The older models count by cl100k_base, every other model by o200k_base."""
    counts = {
        model: count_tokens(text, model)
        for model in (
            *("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-35-turbo"),
            *("gpt-4o", "gpt-4.1", "gpt-5.2", "o3", "gemini-3-pro-preview", "claude-opus-4-5", ""),
        )
    }

    assert counts == {
        **dict.fromkeys(("gpt-4", "gpt-4-turbo", "gpt-3.5-turbo", "gpt-35-turbo"), old),
        **dict.fromkeys(("gpt-4o", "gpt-4.1", "gpt-5.2", "o3", "gemini-3-pro-preview", "claude-opus-4-5", ""), new),
    }


def test_a_special_token_in_a_text_is_text() -> None:
    """A control token in a text counts as the characters it is written with."""
    assert count_tokens("<|endoftext|>", "gpt-5.2") > 1


def test_a_lone_surrogate_is_counted() -> None:
    """A lone surrogate, which a broken stream can leave, is counted and raises nothing."""
    assert count_tokens("a\ud83d", "gpt-5.2") >= 1


def estimate(
    sent: Sequence[BaseMessage | str] = (),
    received: Sequence[BaseMessage] = (),
    params: dict[str, Any] | None = None,
    *,
    provider: str = "openai",
    model: str = "gpt-5.2",
) -> TokenUsage:
    return estimate_usage(sent, received, params or {}, rules=rules_for(provider), model=model)


@pytest.mark.parametrize(
    ("provider", "model", "each", "reply"),
    [
        ("openai", "gpt-5.2", 3, 3),
        ("openai", "o4-mini", 3, 3),
        ("azure", "gpt-4.1", 4, 3),
        ("openai", "gpt-4", 4, 3),
        ("google_genai", "gemini-3-flash-preview", 0, 0),
        ("anthropic", "claude-opus-4-5", 0, 0),
    ],
)
def test_messages_cost_their_overhead(provider: str, model: str, each: int, reply: int) -> None:
    """OpenAI's overhead for each message and for the reply counts; other providers have none."""
    prompt = [SystemMessage("2 + 2 = 4"), HumanMessage("antidisestablishmentarianism")]

    usage = estimate(prompt, provider=provider, model=model)

    assert usage == TokenUsage(input_tokens=7 + 6 + 2 * each + reply)


def test_a_prompt_of_a_text_completion_has_no_overhead() -> None:
    """The prompt of a text completion counts its tokens only."""
    assert estimate(["2 + 2 = 4"], model="gpt-3.5-turbo-instruct") == TokenUsage(input_tokens=7)


def test_streamed_chunks_count_as_one_text() -> None:
    """The chunks received so far are counted as one text, not one by one."""
    chunks = [AIMessageChunk(text) for text in ("antidis", "establishment", "arianism")]

    assert estimate([], chunks, provider="anthropic") == TokenUsage(output_tokens=6)
    assert estimate([], chunks, model="gpt-5.2") == TokenUsage(output_tokens=6 + 4)  # and an answer's delimiters
    assert estimate([], chunks, model="gpt-4.1") == TokenUsage(output_tokens=6)


def test_nothing_sent_and_received_is_nothing() -> None:
    """Without messages and tools the estimate is zero."""
    assert estimate() == TokenUsage()


def test_offered_functions_are_input() -> None:
    """Offered functions count as input, by OpenAI's rule."""
    tool = {"type": "function", "function": {"name": "찾기", "parameters": {}}}

    usage = estimate([], [], {"tools": [tool]})

    assert usage == TokenUsage(input_tokens=function_tokens([tool], lambda text: count_tokens(text, "gpt-5.2")))


class Bin(BaseModel):
    """A bin."""

    color: str


@pytest.mark.parametrize(
    "params",
    [
        {"response_format": Bin},
        {"response_format": {"type": "json_schema", "json_schema": {"name": "Bin", "schema": Bin.model_json_schema()}}},
        {"response_json_schema": Bin.model_json_schema()},
        {"response_schema": Bin.model_json_schema()},
    ],
    ids=["class", "openai", "gemini", "older_gemini"],
)
def test_the_schema_of_a_structured_output_is_input(params: dict[str, Any]) -> None:
    """The schema of a structured output counts as compact JSON."""
    schema = (
        '{"description":"A bin.","properties":{"color":{"title":"Color","type":"string"}},"required":["color"],'
        '"title":"Bin","type":"object"}'
    )

    assert estimate([], [], params) == TokenUsage(input_tokens=count_tokens(schema, "gpt-5.2"))


def test_a_response_format_without_a_schema_costs_nothing() -> None:
    """Plain text and JSON without a schema add no tokens."""
    for response_format in ({"type": "text"}, {"type": "json_object"}, None, "auto"):
        assert estimate([], [], {"response_format": response_format}) == TokenUsage()


@pytest.mark.parametrize(
    ("provider", "model", "overhead"),
    [("openai", "gpt-5.2", 12), ("openai", "gpt-4.1", 8), ("google_genai", "gemini-3-flash-preview", 0)],
)
def test_tool_calls_are_output(provider: str, model: str, overhead: int) -> None:
    """Name and arguments of a tool call count as output, with OpenAI's overhead for a call."""
    answer = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "소주"}, "id": "call_1"}])

    usage = estimate([], [answer], provider=provider, model=model)

    assert usage == TokenUsage(output_tokens=count_tokens('search{"query":"소주"}', model) + overhead)


def test_a_refusal_is_an_answer() -> None:
    """The text of a refusal is billed like any text."""
    refused = [AIMessage("", additional_kwargs={"refusal": "2 + 2 = 4"}), AIMessage([{"refusal": "2 + 2 = 4"}])]

    assert [estimate([], [message], model="gpt-4o").output_tokens for message in refused] == [7, 7]


def test_a_call_cut_off_in_mid_stream_counts() -> None:
    """The part of a tool call that was streamed before the end is counted."""
    chunk = AIMessageChunk("", tool_call_chunks=[{"name": "search", "args": '{"que', "id": "call_1", "index": 0}])

    usage = estimate([], [chunk], model="gpt-4.1")

    assert usage == TokenUsage(output_tokens=count_tokens('search{"que', "gpt-4.1") + 8)


def image(width: int, height: int) -> str:
    header = struct.pack(">II5B", width, height, 8, 2, 0, 0, 0)
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + struct.pack(">I", len(header)) + b"IHDR" + header).decode()


def audio(seconds: int) -> str:
    data = io.BytesIO()
    with wave.open(data, "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 8000 * seconds))
    return base64.b64encode(data.getvalue()).decode()


@pytest.mark.parametrize(
    "block",
    [
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image(1024, 1024)}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{image(1024, 1024)}"},
        {"type": "image", "base64": image(1024, 1024), "mime_type": "image/png"},
        {"type": "media", "data": image(1024, 1024), "mime_type": "image/png"},
    ],
    ids=["chat_completions", "responses", "langchain", "media"],
)
def test_an_image_sent_counts_by_its_rule(block: dict[str, Any]) -> None:
    """An image counts by its provider's rule and its size, whatever block it is sent in."""
    sent = [HumanMessage([{"type": "text", "text": "2 + 2 = 4"}, block])]

    assert estimate(sent, model="gpt-4o") == TokenUsage(input_tokens=7 + 4 + 3 + 765)
    assert estimate(sent, provider="google_genai", model="gemini-3-flash-preview").input_tokens == 7 + 1120
    low = {"media_resolution": "MEDIA_RESOLUTION_LOW"}
    assert estimate(sent, [], low, provider="google_genai", model="gemini-3-flash-preview").input_tokens == 7 + 280


@pytest.mark.parametrize(
    ("provider", "model", "overhead", "tokens"),
    [("openai", "gpt-4o-audio-preview", 4 + 3, 20), ("google_genai", "gemini-3-flash-preview", 0, 64)],
)
def test_audio_sent_counts_by_its_seconds(provider: str, model: str, overhead: int, tokens: int) -> None:
    """Two seconds of audio have a fixed number of tokens, billed as audio."""
    sent = [HumanMessage([{"type": "audio", "base64": audio(2), "mime_type": "audio/wav"}])]

    usage = estimate(sent, provider=provider, model=model)

    assert usage == TokenUsage(input_tokens=tokens + overhead, input_audio_tokens=tokens)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "2 + 2 = 4"}], "2 + 2 = 4"),
        (["2 + 2", {"type": "text", "text": " = 4"}], "2 + 2 = 4"),
        ([{"type": "thinking", "thinking": "2 + 2 = 4"}], "2 + 2 = 4"),
        ([{"type": "reasoning", "reasoning": "2 + 2 = 4"}], "2 + 2 = 4"),
        ([{"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}}], ""),
        ([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}], ""),
    ],
    ids=["text", "mixed", "thinking", "reasoning", "file", "broken_audio"],
)
def test_only_what_can_be_read_is_counted(content: list[str | dict[str, Any]], text: str) -> None:
    """Text and visible reasoning count; files and unreadable audio are not guessed."""
    received = estimate([], [AIMessage(content)], model="gpt-4.1")
    sent = estimate([HumanMessage(content)], model="gpt-4.1")

    assert received == TokenUsage(output_tokens=count_tokens(text, "gpt-4.1"))
    assert sent == TokenUsage(input_tokens=count_tokens(text, "gpt-4.1") + 4 + 3)


def test_an_image_received_from_gemini_counts_by_its_size() -> None:
    """The images of an answer that was cut short are billed like those of a complete one."""
    made = AIMessage([{"type": "image_url", "image_url": {"url": f"data:image/png;base64,{image(1024, 1024)}"}}])

    usage = estimate([], [made], provider="google_genai", model="gemini-3-pro-image-preview")

    assert usage == TokenUsage(output_tokens=1120)


@settings(max_examples=examples(50), deadline=None, derandomize=True)
@given(st.text(st.characters(), max_size=200))
def test_any_text_has_a_count(text: str) -> None:
    """A text has between one token and four tokens for each character, lone surrogates included."""
    tokens = count_tokens(text, "gpt-5.2")

    assert bool(text) <= tokens <= 4 * len(text)
