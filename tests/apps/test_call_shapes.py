"""Ways to call a model inside a node: each one is a call of that node, in one request."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypedDict

import pytest
from langchain.agents import create_agent
from langchain_core.output_parsers import StrOutputParser
from langgraph.cache.memory import InMemoryCache
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import END, START, StateGraph
from langgraph.types import CachePolicy, Command, interrupt
from langsmith import trace, traceable
from pydantic import BaseModel

from eco2_callbacks import NodeRun
from tests.support.measured_app import App, measure
from tests.support.scripted_openai import Reply, Script


class State(TypedDict, total=False):
    message: str


class Verdict(BaseModel):
    """An answer with a schema."""

    text: str


def graph(answer: Any, **options: Any) -> Any:
    cache = options.pop("cache", None)
    return StateGraph(State).add_node("answer", answer, **options).add_edge(START, "answer").compile(cache=cache)


def failing_once() -> Script:
    failures: Iterator[Reply] = iter([Reply(status=500)])
    return lambda request: next(failures, None)


def context_manager(app: App) -> None:
    with trace("mine"):
        app.model().invoke("hello")


def schema_of_provider(app: App) -> None:
    app.model().with_structured_output(Verdict).invoke("hello")


def schema_by_tool(app: App) -> None:
    app.model().with_structured_output(Verdict, method="function_calling").invoke("hello")


def thread_pool(app: App) -> None:
    @traceable
    def call() -> None:
        app.model().invoke("hello")

    with ThreadPoolExecutor() as pool:
        pool.submit(contextvars.copy_context().run, call).result()


def events(app: App) -> None:
    @traceable
    async def call() -> None:
        async for _ in app.model().astream_events("hello", version="v2"):
            pass

    asyncio.run(call())


def parser(app: App) -> None:
    (app.model() | StrOutputParser()).invoke("hello")


@pytest.mark.parametrize(
    "call",
    [context_manager, schema_of_provider, schema_by_tool, thread_pool, events, parser],
    ids=lambda call: call.__name__,
)
def test_a_call_belongs_to_its_node(call: Any) -> None:
    """However a node calls the model: one call, of that node."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            call(app)
            return {}

        graph(answer).invoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [call.node for call in measured.calls] == ["answer"]
    assert measured.nodes == {("answer", "success"): 1}


@pytest.mark.parametrize("is_traced", [False, True], ids=["plain", "traceable"])
@pytest.mark.parametrize("reason", ["retry", "fallback"])
def test_a_repetition_inside_a_node_is_counted(reason: str, *, is_traced: bool) -> None:
    """``with_retry`` and ``with_fallbacks`` in a node, also below ``@traceable``."""

    def application(app: App) -> None:
        model = app.model()
        repeated: Any = (
            model.with_retry(wait_exponential_jitter=False, stop_after_attempt=2)
            if reason == "retry"
            else model.with_fallbacks([app.model("gpt-4.1")])
        )

        def call() -> None:
            repeated.invoke("hello")

        def answer(state: State) -> State:
            (traceable(call) if is_traced else call)()
            return {}

        graph(answer).invoke({"message": "go"}, app.config())

    measured = measure(application, script=failing_once)

    assert [call.retry for call in measured.calls] == [None, reason]


def test_another_question_after_a_failure_is_no_repetition() -> None:
    """A node goes on with another question after a failed call: that is no retry."""

    def application(app: App) -> None:
        @traceable
        def first() -> None:
            app.model().invoke("first")

        def answer(state: State) -> State:
            with pytest.raises(Exception, match="scripted"):
                first()
            app.model().invoke("second")
            return {}

        graph(answer).invoke({"message": "go"}, app.config())

    measured = measure(application, script=failing_once)

    assert not measured.retries


def test_a_batch_in_a_node_is_as_many_calls() -> None:
    """``abatch`` in a node: each prompt is a call of the node."""

    async def application(app: App) -> None:
        async def answer(state: State) -> State:
            await app.model().abatch(["one", "two", "three"])
            return {}

        await graph(answer).ainvoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [call.node for call in measured.calls] == ["answer"] * 3


def test_a_cached_node_costs_nothing_again() -> None:
    """A node from LangGraph's cache does not run: the second request has no call."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            app.model().invoke("hello")
            return {"message": "done"}

        cached = graph(answer, cache=InMemoryCache(), cache_policy=CachePolicy())
        for _ in range(2):
            cached.invoke({"message": "go"}, app.config())

    measured = measure(application, requests=2)

    assert [run.llm_calls for run in measured.requests] == [1, 0]


@pytest.mark.parametrize("is_traced", [False, True], ids=["plain", "traceable"])
def test_a_call_that_chooses_the_next_node_belongs_to_the_request(*, is_traced: bool) -> None:
    """A conditional edge that calls a model: the call lies in the request."""

    def application(app: App) -> None:
        def route(state: State) -> str:
            app.model().invoke("where to?")
            return END

        builder = StateGraph(State).add_node("answer", lambda state: {}).add_edge(START, "answer")
        builder.add_conditional_edges("answer", traceable(route) if is_traced else route, [END])
        builder.compile().invoke({"message": "go"}, app.config())

    measured = measure(application)

    assert measured.requests[0].llm_calls == 1


def test_an_interrupted_entrypoint_is_resumed() -> None:
    """Functional API: a task that has run is not counted again when its entrypoint is resumed."""

    def application(app: App) -> None:
        @task
        def draft(text: str) -> str:
            return str(app.model().invoke(text).text)

        @entrypoint(checkpointer=InMemorySaver())
        def flow(text: str) -> str:
            written = draft(text).result()
            return str(app.model().invoke(written + interrupt("ok?")).text)

        config = app.config(configurable={"thread_id": "1"})
        flow.invoke("go", config)
        flow.invoke(Command(resume="yes"), config)

    measured = measure(application, requests=2)

    assert measured.nodes == {("draft", "success"): 1, ("flow", "interrupted"): 1, ("flow", "success"): 1}
    assert [(run.status, run.resumed) for run in measured.requests] == [("interrupted", False), ("success", True)]


def test_agents_side_by_side_below_traced_code_are_parallel() -> None:
    """``asyncio.gather`` of agents below ``@traceable`` in a node: their nodes are parallel, in one request."""

    async def application(app: App) -> None:
        inner = create_agent(app.model("gpt-4.1"), [], name="inner")

        @traceable
        async def consult(question: str) -> None:
            await inner.ainvoke({"messages": [("user", question)]})

        async def answer(state: State) -> State:
            await asyncio.gather(consult("one"), consult("two"))
            return {}

        await graph(answer).ainvoke({"message": "go"}, app.config())

    measured = measure(application)

    assert measured.nodes == {("model", "success"): 2, ("answer", "success"): 1}
    assert [run.parallel for run in measured.records.of(NodeRun)] == [True, True, False]
