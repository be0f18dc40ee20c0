"""Calls of OpenAI's own tools, counted in each of the shapes that LangChain gives them."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.messages import AIMessage, BaseMessage

from eco2_callbacks import TokenUsage
from tests.support.reading import add_server_tools as count_server_tools

SEARCH = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"type": "search", "query": "a"}}
OPEN = {"type": "web_search_call", "id": "ws_2", "status": "completed", "action": {"type": "open_page", "url": "u"}}
FIND = {
    "type": "web_search_call",
    "id": "ws_3",
    "status": "completed",
    "action": {"type": "find_in_page", "pattern": "p", "url": "u"},
}
FILES = {"type": "file_search_call", "id": "fs_1", "status": "completed", "queries": ["a", "b"]}
CODE = {
    "type": "code_interpreter_call",
    "id": "ci_1",
    "status": "completed",
    "code": "1",
    "container_id": "cntr_1",
    "outputs": [],
}
IMAGE = {
    "type": "image_generation_call",
    "id": "ig_1",
    "status": "completed",
    "result": "AAAA",
    "size": "1024x1536",
    "output_format": "png",
}


def responses(*blocks: dict[str, Any]) -> AIMessage:
    """Return a message in output_version responses/v1: the API's own items."""
    return AIMessage([*blocks, {"type": "text", "text": "Hi"}], response_metadata={"model_provider": "openai"})


def v1(*blocks: dict[str, Any]) -> AIMessage:
    """Return a message in output_version v1, by LangChain's own conversion."""
    return AIMessage(responses(*blocks).content_blocks)  # type: ignore[arg-type]


def v0(*blocks: dict[str, Any]) -> AIMessage:
    """Return a message in output_version v0: items beside a plain text."""
    return AIMessage("Hi", additional_kwargs={"tool_outputs": list(blocks)})


def wrapped(*blocks: dict[str, Any]) -> AIMessage:
    """Return a message whose items are in non_standard blocks."""
    return AIMessage([{"type": "non_standard", "value": block} for block in blocks])


every_shape = pytest.mark.parametrize("shape", [responses, v1, v0, wrapped])


def count(
    *messages: BaseMessage, params: dict[str, Any] | None = None, model: str = "gpt-5.2"
) -> tuple[TokenUsage, bool]:
    return count_server_tools(TokenUsage(), list(messages), params or {}, model)


@every_shape
def test_only_searches_are_billed(shape: Any) -> None:
    """A search is billed; opening a page and finding text in it are not."""
    assert count(shape(SEARCH, OPEN, FIND)) == (TokenUsage(web_searches=1), True)


@every_shape
def test_every_search_is_billed(shape: Any) -> None:
    """Two searches are two fees."""
    assert count(shape(SEARCH, SEARCH | {"id": "ws_9"})) == (TokenUsage(web_searches=2), True)


@every_shape
def test_a_search_of_several_queries_is_one(shape: Any) -> None:
    """One item with several queries is one search."""
    search = SEARCH | {"action": {"type": "search", "queries": ["a", "b"], "query": "a"}}

    assert count(shape(search)) == (TokenUsage(web_searches=1), True)


@every_shape
def test_a_file_search_is_billed_by_the_call(shape: Any) -> None:
    """A file search is billed once, whatever its queries."""
    assert count(shape(FILES)) == (TokenUsage(file_searches=1), True)


@every_shape
def test_calls_in_one_container_pay_it_once(shape: Any) -> None:
    """Two calls in one container are one session; a call in another container is a second one."""
    assert count(shape(CODE, CODE | {"id": "ci_2"})) == (TokenUsage(code_interpreter_sessions=1), True)
    assert count(shape(CODE, CODE | {"id": "ci_2", "container_id": "cntr_2"})) == (
        TokenUsage(code_interpreter_sessions=2),
        True,
    )


@pytest.mark.parametrize(
    ("tools", "sessions"),
    [
        ([{"type": "code_interpreter", "container": {"type": "auto"}}], 1),
        ([{"type": "code_interpreter", "container": "cntr_1"}], 0),
        ([{"type": "code_interpreter", "container": "cntr_9"}], 1),
        ([{"type": "web_search"}, {"type": "code_interpreter", "container": "cntr_1"}], 0),
        (None, 1),
        ("code_interpreter", 1),
        ([None, 7], 1),
    ],
    ids=["auto", "named", "another_named", "named_among_others", "no_tools", "text", "arbitrary"],
)
@every_shape
def test_a_container_that_the_request_names_is_not_billed_again(shape: Any, tools: object, sessions: int) -> None:
    """A container that the request names was billed when it was created."""
    assert count(shape(CODE), params={"tools": tools}) == (TokenUsage(code_interpreter_sessions=sessions), True)


@every_shape
def test_an_image_makes_the_bill_inexact(shape: Any) -> None:
    """A generated image is counted with its size, and the usage is not exact."""
    usage, exact = count(shape(IMAGE))

    assert usage == TokenUsage(image_generations=1, images=1, image_sizes=("1024x1536",))
    assert not exact


@every_shape
def test_calls_of_several_tools_are_each_counted(shape: Any) -> None:
    """Calls of several tools in one answer are each counted, beside the reported tokens."""
    reported = TokenUsage(input_tokens=10, output_tokens=5)

    usage, exact = count_server_tools(reported, [shape(SEARCH, OPEN, FILES, CODE, IMAGE)], {}, "gpt-5.2")

    assert usage == TokenUsage(
        input_tokens=10,
        output_tokens=5,
        web_searches=1,
        file_searches=1,
        code_interpreter_sessions=1,
        image_generations=1,
        images=1,
        image_sizes=("1024x1536",),
    )
    assert not exact


def test_a_call_reported_twice_counts_once() -> None:
    """A call in the content and beside it, or twice in a stream, is one call."""
    message = AIMessage([SEARCH, SEARCH], additional_kwargs={"tool_outputs": [SEARCH]})

    assert count(message, responses(SEARCH)) == (TokenUsage(web_searches=1), True)


def test_calls_without_an_id_count_each() -> None:
    """Calls without an id are distinguished by their position."""
    call = {"type": "file_search_call", "queries": []}

    assert count(AIMessage([call, call])) == (TokenUsage(file_searches=2), True)


@pytest.mark.parametrize("action", [None, "x", {}, {"query": "a"}], ids=["none", "text", "empty", "no_type"])
def test_a_search_without_a_readable_action_is_a_search(action: object) -> None:
    """A web search call without a readable action is billed as a search."""
    message = AIMessage([{"type": "web_search_call", "id": "ws_1", "action": action}])

    assert count(message) == (TokenUsage(web_searches=1), True)


@pytest.mark.parametrize(
    ("model", "searches"),
    [
        ("gpt-4o-search-preview", 1),
        ("gpt-4o-mini-search-preview-2025-03-11", 1),
        ("gpt-5-search-api", 1),
        ("gpt-5-search-api-2025-10-14", 1),
        ("gpt-4o", 0),
        ("gpt-search", 0),
    ],
)
def test_a_search_model_searches_on_every_request(model: str, searches: int) -> None:
    """A model that always searches pays for one search per request, though its answer reports none."""
    assert count(AIMessage("Hi"), model=model) == (TokenUsage(web_searches=searches), True)


def test_a_search_model_pays_once_for_all_choices() -> None:
    """Several choices of one request are one search."""
    assert count(AIMessage("Hi"), AIMessage("Ho"), model="gpt-4o-search-preview") == (TokenUsage(web_searches=1), True)


def test_reported_searches_of_a_search_model_win() -> None:
    """Where a search model reports its searches, those are counted."""
    messages = responses(SEARCH, SEARCH | {"id": "ws_9"})

    assert count(messages, model="gpt-5-search-api") == (TokenUsage(web_searches=2), True)


@pytest.mark.parametrize(
    "message",
    [
        AIMessage("Hi"),
        AIMessage([{"type": "text", "text": "web_search_call"}]),
        AIMessage([{"type": "image", "base64": "AAAA", "id": "other"}]),
        AIMessage([{"type": "server_tool_call", "name": "tool_search", "id": "ts_1", "args": {}}]),
        AIMessage([{"type": "server_tool_result", "tool_call_id": "ws_1"}]),
        AIMessage([], tool_calls=[{"name": "web_search", "args": {}, "id": "call_1"}]),
        AIMessage("Hi", additional_kwargs={"tool_outputs": None}),
        AIMessage("Hi", additional_kwargs={"tool_outputs": {"type": "web_search_call"}}),
    ],
    ids=["text", "text_block", "plain_image", "other_tool", "result", "own_tool", "no_outputs", "outputs_no_list"],
)
def test_an_answer_without_a_billed_call_costs_no_fee(message: AIMessage) -> None:
    """Text, the application's own tools and results of tools are no billed calls."""
    usage = TokenUsage(input_tokens=10)

    counted, exact = count_server_tools(usage, [message], {}, "gpt-5.2")

    assert (counted, exact) == (TokenUsage(input_tokens=10), True)


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (
            {"type": "code_interpreter_call", "id": "a", "container_id": {"x": 1}},
            TokenUsage(code_interpreter_sessions=1),
        ),
        ({"type": "code_interpreter_call", "id": "a", "container_id": ["x"]}, TokenUsage(code_interpreter_sessions=1)),
        ({"type": "code_interpreter_call", "id": "a", "extras": "x"}, TokenUsage(code_interpreter_sessions=1)),
        ({"type": "file_search_call", "id": {"x": 1}}, TokenUsage(file_searches=1)),
        ({"type": ["file_search_call"]}, TokenUsage()),
        ({"type": "server_tool_call", "name": None}, TokenUsage()),
        ({"type": "non_standard", "value": None}, TokenUsage()),
        ({"value": {"value": {"type": "file_search_call"}}}, TokenUsage()),
    ],
    ids=[
        "container_dict",
        "container_list",
        "extras_text",
        "id_dict",
        "type_list",
        "no_name",
        "no_value",
        "wrapped_twice",
    ],
)
def test_a_malformed_block_is_counted_by_its_readable_parts(block: dict[str, Any], expected: TokenUsage) -> None:
    """A malformed block is counted by its readable parts, and raises nothing."""
    assert count(AIMessage([block])) == (expected, True)


def test_an_anthropic_search_is_counted_by_its_result() -> None:
    """A result of Anthropic's search is billed; a result that is an error is free."""
    found: dict[str, object] = {"type": "web_search_tool_result", "tool_use_id": "srvtoolu_1", "content": []}
    error = {"type": "web_search_tool_result_error", "error_code": "max_uses_exceeded"}
    message = AIMessage(
        [
            {"type": "server_tool_use", "id": "srvtoolu_1", "name": "web_search", "input": {"query": "bins"}},
            found,
            {**found, "tool_use_id": "srvtoolu_2", "content": error},
        ]
    )

    usage, exact = count_server_tools(TokenUsage(input_tokens=1), [message], {}, "claude-sonnet-4-5")

    assert (usage.web_searches, exact) == (1, True)
