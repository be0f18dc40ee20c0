"""Work that starts in a node and ends after its request keeps trace, intent and tenant, and is no new request."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Awaitable, Callable
from typing import Any, TypedDict

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langgraph.graph import START, StateGraph
from langsmith import traceable

from tests.support.measured_app import App, measure


class State(TypedDict, total=False):
    message: str
    intent: str


def classify(state: State) -> State:
    return {"intent": "waste"}


def graph(answer: Any) -> Any:
    builder = StateGraph(State).add_node("classify", classify).add_node("answer", answer)
    return builder.add_edge(START, "classify").add_edge("classify", "answer").compile()


async def model_call(app: App) -> None:
    await app.model().ainvoke("remember")


async def chain(app: App) -> None:
    await (ChatPromptTemplate.from_template("{question}") | app.model()).ainvoke({"question": "remember"})


async def nested_graph(app: App) -> None:
    async def remember(state: State) -> State:
        await app.model().ainvoke("remember")
        return {}

    await StateGraph(State).add_node("remember", remember).add_edge(START, "remember").compile().ainvoke({})


async def traced_function(app: App) -> None:
    @traceable
    async def remember() -> None:
        await app.model().ainvoke("remember")

    await remember()


@pytest.mark.parametrize("work", [model_call, chain, nested_graph, traced_function], ids=lambda work: work.__name__)
def test_a_task_after_the_request_keeps_its_trace(work: Callable[[App], Awaitable[None]]) -> None:
    """A task that begins its calls after the request ended belongs to the same trace and is no request."""

    async def application(app: App) -> None:
        ended, tasks = asyncio.Event(), []

        async def later() -> None:
            await ended.wait()
            await work(app)

        async def answer(state: State) -> State:
            tasks.append(asyncio.create_task(later()))
            await app.model().ainvoke("hello")
            return {}

        await graph(answer).ainvoke({"message": "go"}, app.config())
        ended.set()
        await asyncio.gather(*tasks)

    measured = measure(application, late_calls=1)

    assert {(call.intent, call.tenant_id) for call in measured.calls} == {("waste", "acme")}
    assert len({record.trace_id for record in measured.records.all}) == 1


def test_a_task_that_outlives_its_request_is_counted_once() -> None:
    """A call that starts before the request's end and ends after it is counted once, in the same trace."""

    async def application(app: App) -> None:
        started, ended, tasks = asyncio.Event(), asyncio.Event(), []

        async def later() -> None:
            stream = app.model().astream("remember")
            await anext(stream)
            started.set()
            await ended.wait()
            async for _ in stream:
                pass

        async def answer(state: State) -> State:
            tasks.append(asyncio.create_task(later()))
            await started.wait()
            await app.model().ainvoke("hello")
            return {}

        await graph(answer).ainvoke({"message": "go"}, app.config())
        ended.set()
        await asyncio.gather(*tasks)

    measured = measure(application, late_calls=1)

    assert [call.status for call in measured.calls] == ["success", "success"]
    assert len({record.trace_id for record in measured.records.all}) == 1


def test_a_thread_after_the_request_keeps_its_trace() -> None:
    """A thread with a copied context belongs to the trace of the request that started it."""

    def application(app: App) -> None:
        ended, threads = threading.Event(), []

        def later() -> None:
            assert ended.wait(timeout=300)
            app.model().invoke("remember")

        def answer(state: State) -> State:
            threads.append(threading.Thread(target=contextvars.copy_context().run, args=(later,)))
            threads[0].start()
            app.model().invoke("hello")
            return {}

        graph(answer).invoke({"message": "go"}, app.config())
        ended.set()
        threads[0].join()

    measured = measure(application, late_calls=1)

    assert {(call.intent, call.tenant_id) for call in measured.calls} == {("waste", "acme")}
    assert len({record.trace_id for record in measured.records.all}) == 1


def test_a_new_request_in_the_context_of_an_ended_one_is_a_request() -> None:
    """Two graphs one after the other in one context are two requests."""

    async def application(app: App) -> None:
        async def answer(state: State) -> State:
            await app.model().ainvoke("hello")
            return {}

        for _ in range(2):
            await graph(answer).ainvoke({"message": "go"}, app.config())

    measured = measure(application, requests=2)

    assert len({run.trace_id for run in measured.requests}) == 2
