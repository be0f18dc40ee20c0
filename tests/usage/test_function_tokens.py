"""function_tokens: OpenAI's published rule, and what recorded requests were billed for functions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eco2_callbacks.usage.function_tokens import function_tokens
from eco2_callbacks.usage.tokenizers import count_tokens


def count(text: str) -> int:
    return count_tokens(text, "gpt-4o")


WEATHER: dict[str, Any] = {
    "name": "get_current_weather",
    "description": "Get the current weather in a given location",
    "parameters": {
        "type": "object",
        "properties": {
            "location": {"type": "string", "description": "The city and state, e.g. San Francisco, CA"},
            "unit": {
                "type": "string",
                "description": "The unit of temperature to return",
                "enum": ["celsius", "fahrenheit"],
            },
        },
        "required": ["location"],
    },
}


def test_the_published_example_has_its_published_tokens() -> None:
    """The cookbook's request has 101 tokens, 19 of them for its two messages and the reply."""
    # https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions
    system = "You are a helpful assistant that can answer to questions about the weather."
    user = "What's the weather like in San Francisco?"
    messages = sum(3 + 1 + count(text) for text in (system, user)) + 3

    assert messages + function_tokens([{"type": "function", "function": WEATHER}], count) == 101


@pytest.mark.parametrize(
    "tool",
    [
        {"type": "function", "function": WEATHER},
        {"type": "function", **WEATHER},
        {"function_declarations": [WEATHER]},
        {"name": WEATHER["name"], "description": WEATHER["description"], "input_schema": WEATHER["parameters"]},
    ],
    ids=["chat_completions", "responses", "gemini", "anthropic"],
)
def test_every_shape_counts_alike(tool: dict[str, Any]) -> None:
    """A function has the same number of tokens in every provider's shape."""
    assert function_tokens([tool], count) == function_tokens([WEATHER], count) > 50


def test_nested_schemas_count() -> None:
    """Objects, lists, alternatives and definitions are counted at every level by the same rule."""
    place = {"type": "object", "properties": {"city": {"type": "string"}}}
    flat = function_tokens([{"name": "f", "parameters": place}], count)

    def with_place(value: dict[str, Any], **more: Any) -> int:
        return function_tokens([{"name": "f", "parameters": {"properties": {"place": value}, **more}}], count)

    city = 3 + 3 + count("city:string:")
    empty = with_place({"type": "object"})
    assert with_place(place) == empty + city
    assert with_place({"type": "array", "items": place}) == with_place({"type": "array"}) + city
    assert with_place({"$ref": "#/$defs/Place"}, **{"$defs": {"Place": place}}) == empty + city
    optional = {"anyOf": [place, {"type": "null"}]}
    assert with_place(optional) == 7 + 12 + count("f:") + 3 + 3 + count("place:object|null:") + city
    assert flat == 7 + 12 + count("f:") + city


def test_a_definition_counts_once_however_often_it_is_referenced() -> None:
    """A tree with six references to itself is sent once and counted once."""
    tree = {"type": "object", "properties": {f"child_{number}": {"$ref": "#/$defs/Tree"} for number in range(6)}}
    listed = {"anyOf": [{"type": "array", "items": {"$ref": "#/$defs/Tree"}}, {"type": "null"}]}

    tokens = function_tokens(
        [{"name": "f", "parameters": {"properties": {"tree": listed}, "$defs": {"Tree": tree}}}], count
    )

    level = 3 + sum(3 + count(f"child_{number}:object:") for number in range(6))
    assert tokens == 7 + 12 + count("f:") + 3 + 3 + count("tree:array|null:") + level


@pytest.mark.parametrize("tools", [None, [], [{"type": "web_search"}], [{"google_search": {}}], ["f"], "f"])
def test_what_is_no_function_has_no_tokens(tools: object) -> None:
    """A provider's own tools have no published number of tokens."""
    assert function_tokens(tools, count) == 0


json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=20,
)
keys = st.sampled_from(
    ["name", "parameters", "properties", "items", "anyOf", "enum", "$ref", "$defs", "type", "function"]
)


@given(
    st.recursive(
        json, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=5), max_leaves=30
    )
)
def test_any_tool_is_counted(tool: object) -> None:
    """Any value that is bound as a tool has a number of tokens."""
    assert function_tokens([tool], len) >= 0
    assert function_tokens([{"name": "f", "parameters": tool}], len) > 0
