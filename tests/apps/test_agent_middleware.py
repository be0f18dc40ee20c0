"""``create_agent`` with its middlewares: each model and tool call is recorded once, wherever a middleware makes it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import (
    ClearToolUsesEdit,
    ContextEditingMiddleware,
    HumanInTheLoopMiddleware,
    LLMToolEmulator,
    LLMToolSelectorMiddleware,
    ModelCallLimitMiddleware,
    ModelFallbackMiddleware,
    ModelRetryMiddleware,
    PIIMiddleware,
    SummarizationMiddleware,
    TodoListMiddleware,
    ToolCallLimitMiddleware,
    ToolRetryMiddleware,
)
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command

from tests.support.measured_app import App, measure
from tests.support.scripted_openai import Reply, Request, Script

QUESTION = {"messages": [("user", "write to ann@example.com")]}
MODEL_OK, TOOLS_OK = ("model", "success"), ("tools", "success")


@tool
def look_up(query: str) -> str:
    """Look it up."""
    return "found"


@tool
def send(text: str) -> str:
    """Send it."""
    return "sent"


def calls_once(name: str, arguments: dict[str, Any]) -> Callable[[], Script]:
    """Return a script that calls a tool once, then answers."""

    def script(request: Request) -> Reply | None:
        return Reply("", [(name, arguments)]) if name in request.tools and not request.tool_results else None

    return lambda: script


def fails_first(times: int, status: int = 500) -> Callable[[], Script]:
    """Return a script whose first calls fail."""

    def script() -> Script:
        failures = iter([Reply(status=status)] * times)
        return lambda request: next(failures, None)

    return script


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
@pytest.mark.parametrize(("failures", "status"), [(1, 500), (2, 429)])
def test_a_repeated_model_call_is_a_retry(failures: int, status: int, *, is_async: bool) -> None:
    """ModelRetryMiddleware: each repetition counts as a retry of the first call, in one request."""

    def agent(app: App) -> Any:
        retry = ModelRetryMiddleware(max_retries=2, initial_delay=0.001, jitter=False)
        return create_agent(app.model(), [], middleware=[retry])

    async def ainvoke(app: App) -> None:
        await agent(app).ainvoke(QUESTION, app.config())

    measured = measure(
        ainvoke if is_async else lambda app: agent(app).invoke(QUESTION, app.config()),
        script=fails_first(failures, status),
    )

    assert [call.retry for call in measured.calls] == [None, *["retry"] * failures]
    assert measured.nodes == {MODEL_OK: 1}
    assert measured.total("llm_rate_limit_errors_total") == (failures if status == 429 else 0)


def test_the_next_model_is_a_fallback() -> None:
    """ModelFallbackMiddleware: the call of the next model counts as a fallback, at its own price."""

    def application(app: App) -> None:
        fallback = ModelFallbackMiddleware(app.model("gpt-4.1"), app.model("gpt-4.1-nano"))
        create_agent(app.model(), [], middleware=[fallback]).invoke(QUESTION, app.config())

    measured = measure(application, script=fails_first(2))

    calls = [(call.request_model, call.status, call.retry) for call in measured.calls]
    assert calls == [
        ("gpt-4.1-mini", "error", None),
        ("gpt-4.1", "error", "fallback"),
        ("gpt-4.1-nano", "success", "fallback"),
    ]
    assert measured.nodes == {MODEL_OK: 1}


def test_a_repeated_tool_call_is_recorded_as_often_as_it_ran() -> None:
    """ToolRetryMiddleware: each attempt of the tool is a tool call; the model is called twice, without a retry."""

    def application(app: App) -> None:
        failures = iter([ValueError("once")])

        @tool
        def shaky(query: str) -> str:
            """Fail once."""
            for failure in failures:
                raise failure
            return "found"

        retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.001, jitter=False)
        create_agent(app.model(), [shaky], middleware=[retry]).invoke(QUESTION, app.config())

    measured = measure(application, script=calls_once("shaky", {"query": "x"}))

    assert measured.tools == {("shaky", "error"): 1, ("shaky", "success"): 1}
    assert measured.nodes == {MODEL_OK: 2, TOOLS_OK: 1}
    assert not measured.retries


def test_a_model_call_inside_a_repeated_tool_is_a_retry() -> None:
    """ToolRetryMiddleware: the model calls of the second attempt are retries."""

    def application(app: App) -> None:
        failures = iter([ValueError("once")])

        @tool
        def summarise(query: str) -> str:
            """Call a model, then fail once."""
            text = app.model("gpt-4.1").invoke(query).text
            for failure in failures:
                raise failure
            return text

        retry = ToolRetryMiddleware(max_retries=2, initial_delay=0.001, jitter=False)
        create_agent(app.model(), [summarise], middleware=[retry]).invoke(QUESTION, app.config())

    measured = measure(application, script=calls_once("summarise", {"query": "x"}))

    calls = [(call.node, call.model, call.retry) for call in measured.calls]
    assert calls == [
        ("model", "gpt-4.1-mini", None),
        ("tools", "gpt-4.1", None),
        ("tools", "gpt-4.1", "retry"),
        ("model", "gpt-4.1-mini", None),
    ]


def test_the_selection_of_tools_is_a_call() -> None:
    """LLMToolSelectorMiddleware: the selecting model's call belongs to the model node of the same request."""

    def script(request: Request) -> Reply | None:
        return Reply('{"tools": ["send"]}') if request.model == "gpt-4.1-nano" else None

    def application(app: App) -> None:
        selector = LLMToolSelectorMiddleware(model=app.model("gpt-4.1-nano"), max_tools=1)
        create_agent(app.model(), [look_up, send], middleware=[selector]).invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert [(call.node, call.model) for call in measured.calls] == [
        ("model", "gpt-4.1-nano"),
        ("model", "gpt-4.1-mini"),
    ]
    assert measured.nodes == {MODEL_OK: 1}


def test_a_todo_list_is_a_tool_call() -> None:
    """TodoListMiddleware: writing the list is a tool call, and the model is called before and after it."""
    todos = {"todos": [{"content": "sort", "status": "in_progress"}]}

    def application(app: App) -> None:
        create_agent(app.model(), [look_up], middleware=[TodoListMiddleware()]).invoke(QUESTION, app.config())

    measured = measure(application, script=calls_once("write_todos", todos))

    assert measured.tools == {("write_todos", "success"): 1}
    assert measured.nodes[MODEL_OK] == 2
    assert measured.requests[0].tool_calls == 1


def test_a_summary_is_a_call_of_its_own_node() -> None:
    """SummarizationMiddleware: the summary's call belongs to the middleware's node."""

    def application(app: App) -> None:
        summary = SummarizationMiddleware(app.model("gpt-4.1-nano"), trigger=("messages", 3), keep=("messages", 1))
        messages = [("user", "one"), ("assistant", "two"), ("user", "three"), ("assistant", "four"), ("user", "five")]
        create_agent(app.model(), [], middleware=[summary]).invoke({"messages": messages}, app.config())

    measured = measure(application)

    assert [(call.node, call.model) for call in measured.calls] == [
        ("SummarizationMiddleware.before_model", "gpt-4.1-nano"),
        ("model", "gpt-4.1-mini"),
    ]


def test_edited_context_changes_no_count() -> None:
    """ContextEditingMiddleware: the edited messages go out in the same calls."""

    def application(app: App) -> None:
        editing = ContextEditingMiddleware(edits=[ClearToolUsesEdit(trigger=1, keep=0)])
        create_agent(app.model(), [look_up], middleware=[editing]).invoke(QUESTION, app.config())

    measured = measure(application, script=calls_once("look_up", {"query": "x"}))

    assert measured.nodes == {MODEL_OK: 2, TOOLS_OK: 1}
    assert measured.tools == {("look_up", "success"): 1}


def test_an_approval_makes_two_linked_requests() -> None:
    """HumanInTheLoopMiddleware: the interrupted half and the resumed half are two requests, linked by ``resumed``."""

    def application(app: App) -> None:
        approval = HumanInTheLoopMiddleware({"send": True})
        agent = create_agent(app.model(), [send], middleware=[approval], checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "1"})
        agent.invoke(QUESTION, config)
        agent.invoke(Command(resume={"decisions": [{"type": "approve"}]}), config)

    measured = measure(application, script=calls_once("send", {"text": "x"}), requests=2)

    halves = [(run.status, run.resumed, run.llm_calls, run.tool_calls) for run in measured.requests]
    assert halves == [("interrupted", False, 1, 0), ("success", True, 1, 1)]
    assert measured.nodes["HumanInTheLoopMiddleware.after_model", "interrupted"] == 1
    assert measured.total("chat_requests_resumed_total") == 1


def test_redacted_text_changes_no_count() -> None:
    """PIIMiddleware: its nodes cost nothing, and the model's call is recorded once."""

    def application(app: App) -> None:
        agent = create_agent(app.model(), [], middleware=[PIIMiddleware("email", apply_to_output=True)])
        agent.invoke(QUESTION, app.config())

    measured = measure(application)

    assert measured.nodes[MODEL_OK] == 1
    assert [call.node for call in measured.calls] == ["model"]


@pytest.mark.parametrize("limit", [1, 2, 3])
def test_a_limit_of_model_calls_stops_the_calls(limit: int) -> None:
    """ModelCallLimitMiddleware: a call that the limit prevents is not recorded."""

    def script(request: Request) -> Reply | None:
        return Reply("", [("look_up", {"query": str(request.tool_results)})])

    def application(app: App) -> None:
        agent = create_agent(app.model(), [look_up], middleware=[ModelCallLimitMiddleware(run_limit=limit)])
        agent.invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert len(measured.calls) == measured.nodes[MODEL_OK] == limit
    assert measured.tools == {("look_up", "success"): limit}


def test_a_limit_of_tool_calls_stops_the_calls() -> None:
    """ToolCallLimitMiddleware: a tool call that the limit prevents is not recorded."""

    def script(request: Request) -> Reply | None:
        return Reply("", [("look_up", {"query": "x"})]) if request.tool_results < 2 else None

    def application(app: App) -> None:
        agent = create_agent(app.model(), [look_up], middleware=[ToolCallLimitMiddleware(run_limit=1)])
        agent.invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert measured.tools == {("look_up", "success"): 1}
    assert len(measured.calls) == 3


def test_an_emulated_tool_is_a_model_call() -> None:
    """LLMToolEmulator: the emulating model's call belongs to the tools node, and no tool runs."""

    def application(app: App) -> None:
        emulator = LLMToolEmulator(model=app.model("gpt-4.1-nano"))
        create_agent(app.model(), [look_up], middleware=[emulator]).invoke(QUESTION, app.config())

    measured = measure(application, script=calls_once("look_up", {"query": "x"}))

    assert [(call.node, call.model) for call in measured.calls] == [
        ("model", "gpt-4.1-mini"),
        ("tools", "gpt-4.1-nano"),
        ("model", "gpt-4.1-mini"),
    ]
    assert not measured.tools


def test_all_of_them_at_once_make_one_request() -> None:
    """Retry, fallback, tool retry, selector and todo list together: one request, one trace, every dollar inside."""

    def script() -> Script:
        failures = iter([Reply(status=500)])

        def reply(request: Request) -> Reply | None:
            if request.model == "gpt-4.1-nano":
                return Reply('{"tools": ["look_up"]}')
            if (failure := next(failures, None)) is not None:
                return failure
            return None if request.tool_results else Reply("", [("look_up", {"query": "x"})])

        return reply

    def application(app: App) -> None:
        middleware = [
            LLMToolSelectorMiddleware(model=app.model("gpt-4.1-nano")),
            TodoListMiddleware(),
            ModelRetryMiddleware(max_retries=1, initial_delay=0.001, jitter=False, on_failure="error"),
            ModelFallbackMiddleware(app.model("gpt-4.1")),
            ToolRetryMiddleware(max_retries=1, initial_delay=0.001, jitter=False),
        ]
        create_agent(app.model(), [look_up, send], middleware=middleware).invoke(QUESTION, app.config())

    measured = measure(application, script=script)

    assert measured.retries == {"fallback": 1}
    assert measured.tools == {("look_up", "success"): 1}
    assert len(measured.calls) == 5
