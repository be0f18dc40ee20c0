"""Estimates: known texts have their known number of tokens, offline, and rubbish has some."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage, SystemMessage

from eco2_callbacks import TokenUsage
from eco2_callbacks.estimation import count_tokens, estimate_usage


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
    """What looks like a control token counts as the characters it is written with."""
    assert count_tokens("<|endoftext|>", "gpt-5.2") > 1


def test_a_lone_surrogate_is_counted() -> None:
    """Half a character, which a broken stream can leave, counts and breaks nothing."""
    assert count_tokens("a\ud83d", "gpt-5.2") >= 1


def test_messages_cost_their_overhead() -> None:
    """Sent messages count with 3 tokens each and 3 for the reply, received text without any."""
    prompt = [SystemMessage("2 + 2 = 4"), HumanMessage("antidisestablishmentarianism")]
    sent = count_tokens("2 + 2 = 4\nantidisestablishmentarianism", "gpt-5.2")

    usage = estimate_usage(prompt, [AIMessage("2 + 2 = 4")], {}, "gpt-5.2")

    assert usage == TokenUsage(input_tokens=sent + 2 * 3 + 3, output_tokens=7)


def test_streamed_chunks_count_as_one_text() -> None:
    """The chunks received so far are counted together, not token by token."""
    chunks = [AIMessageChunk(text) for text in ("antidis", "establishment", "arianism")]

    assert estimate_usage([], chunks, {}, "gpt-5.2") == TokenUsage(output_tokens=6)


def test_nothing_sent_and_received_is_nothing() -> None:
    """Without messages and tools the estimate is zero."""
    assert estimate_usage([], [], {}, "gpt-5.2") == TokenUsage()


def test_tool_schemas_were_sent_too() -> None:
    """The schemas of offered tools count as input, as compact JSON and in the writing they have."""
    tool = {"type": "function", "function": {"name": "찾기", "parameters": {}}}
    schema = '{"type":"function","function":{"name":"찾기","parameters":{}}}'

    usage = estimate_usage([], [], {"tools": [tool]}, "gpt-5.2")

    assert usage == TokenUsage(input_tokens=count_tokens(schema, "gpt-5.2"))


def test_called_tools_were_received() -> None:
    """Name and arguments of a tool call count as output."""
    answer = AIMessage("", tool_calls=[{"name": "search", "args": {"query": "소주"}, "id": "call_1"}])

    usage = estimate_usage([], [answer], {}, "gpt-5.2")

    assert usage == TokenUsage(output_tokens=count_tokens('search{"query":"소주"}', "gpt-5.2"))


def test_a_call_cut_off_in_mid_stream_counts() -> None:
    """The part of a tool call that was streamed before the end counts as far as it came."""
    chunk = AIMessageChunk("", tool_call_chunks=[{"name": "search", "args": '{"que', "id": "call_1", "index": 0}])

    assert estimate_usage([], [chunk], {}, "gpt-5.2").output_tokens > 0


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ([{"type": "text", "text": "2 + 2 = 4"}], "2 + 2 = 4"),
        (["2 + 2", {"type": "text", "text": " = 4"}], "2 + 2 = 4"),
        ([{"type": "thinking", "thinking": "2 + 2 = 4"}], "2 + 2 = 4"),
        ([{"type": "reasoning", "reasoning": "2 + 2 = 4"}], "2 + 2 = 4"),
        ([{"type": "image_url", "image_url": {"url": "data:image/png;base64,AAAA"}}], ""),
        ([{"type": "audio", "base64": "AAAA", "mime_type": "audio/wav"}], ""),
    ],
    ids=["text", "mixed", "thinking", "reasoning", "image", "audio"],
)
def test_only_words_are_counted(content: list[str | dict[str, object]], text: str) -> None:
    """Text and visible thinking count; images and sound are not guessed at."""
    assert estimate_usage([], [AIMessage(content)], {}, "gpt-5.2") == TokenUsage(
        output_tokens=count_tokens(text, "gpt-5.2")
    )


@settings(max_examples=50, deadline=None, derandomize=True)
@given(st.text(st.characters(), max_size=200))
def test_any_text_has_a_count(text: str) -> None:
    """Any text has between one token and one for each byte, lone surrogates included."""
    tokens = count_tokens(text, "gpt-5.2")

    assert bool(text) <= tokens <= 4 * len(text)
