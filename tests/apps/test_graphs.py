"""LangGraph itself: tasks, nested graphs, interrupts and retries make the requests and nodes that they are."""

from __future__ import annotations

import asyncio
import operator
import threading
from typing import Annotated, Any, TypedDict

import pytest
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt

from eco2_callbacks import NodeRun
from tests.support.measured_app import App, Measured, measure
from tests.support.scripted_openai import Reply, Request, Script


class State(TypedDict, total=False):
    message: str
    intent: str
    answers: Annotated[list[str], operator.add]


def graph(*nodes: Any, checkpointer: Any = None, **options: Any) -> Any:
    """Return a graph of the nodes in a row."""
    builder = StateGraph(State)
    above = START
    for node in nodes:
        builder.add_node(node.__name__, node, **options)
        builder.add_edge(above, node.__name__)
        above = node.__name__
    return builder.compile(checkpointer=checkpointer)


def failing(times: int) -> Script:
    failures = iter([Reply(status=500)] * times)
    return lambda request: next(failures, None)


def runs(measured: Measured, node: str) -> list[NodeRun]:
    return [run for run in measured.records.of(NodeRun) if run.node == node]


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_a_task_is_a_node(*, is_async: bool) -> None:
    """Functional API: each task has a NodeRun with its dollars, and the entrypoint has one with all of them."""

    def invoke(app: App) -> None:
        started = threading.Barrier(3)

        @task
        def write(text: str) -> str:
            started.wait(timeout=300)
            return str(app.model().invoke(text).text)

        @entrypoint()
        def flow(text: str) -> list[str]:
            return [future.result() for future in [write(text) for _ in range(3)]]

        flow.invoke("go", app.config())

    async def ainvoke(app: App) -> None:
        started = asyncio.Barrier(3)

        @task
        async def write(text: str) -> str:
            await started.wait()
            return str((await app.model().ainvoke(text)).text)

        @entrypoint()
        async def flow(text: str) -> list[str]:
            return list(await asyncio.gather(*(write(text) for _ in range(3))))

        await flow.ainvoke("go", app.config())

    measured = measure(ainvoke if is_async else invoke)

    assert measured.nodes == {("write", "success"): 3, ("flow", "success"): 1}
    (flow,) = runs(measured, "flow")
    assert sum(run.cost.total_usd for run in runs(measured, "write")) == flow.cost.total_usd
    assert [run.parallel for run in runs(measured, "write")] == [True] * 3
    assert {call.node for call in measured.calls} == {"write"}


def test_tasks_one_after_the_other_are_not_parallel() -> None:
    """Functional API: all tasks of an entrypoint have its step; only those that run side by side are parallel."""

    async def application(app: App) -> None:
        started = asyncio.Barrier(2)

        @task
        async def plan(text: str) -> str:
            return str((await app.model().ainvoke(text)).text)

        @task
        async def work(text: str) -> str:
            await started.wait()
            return str((await app.model().ainvoke(text)).text)

        @entrypoint()
        async def flow(text: str) -> str:
            await plan(text)
            await asyncio.gather(work(text), work(text))
            return await plan(text)

        await flow.ainvoke("go", app.config())

    measured = measure(application)

    marks = [(run.node, run.parallel) for run in measured.records.of(NodeRun)]
    assert marks == [("plan", False), ("work", True), ("work", True), ("plan", False), ("flow", False)]


def test_a_repeated_task_is_a_retry() -> None:
    """Functional API: the second attempt of a task is a second NodeRun, and its call is a retry."""

    def application(app: App) -> None:
        @task(retry_policy=RetryPolicy(initial_interval=0.001, retry_on=Exception))
        def write(text: str) -> str:
            return str(app.model().invoke(text).text)

        @entrypoint()
        def flow(text: str) -> str:
            return write(text).result()

        flow.invoke("go", app.config())

    measured = measure(application, script=lambda: failing(1))

    assert measured.nodes == {("write", "error"): 1, ("write", "success"): 1, ("flow", "success"): 1}
    assert [call.retry for call in measured.calls] == [None, "retry"]


def test_a_repeated_node_is_a_retry() -> None:
    """RetryPolicy: each attempt of a node is a NodeRun; the calls of the later ones are retries."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("hello").text)]}

        graph(answer, retry_policy=RetryPolicy(initial_interval=0.001, retry_on=Exception)).invoke({}, app.config())

    measured = measure(application, script=lambda: failing(2))

    assert measured.nodes == {("answer", "error"): 2, ("answer", "success"): 1}
    assert [call.retry for call in measured.calls] == [None, "retry", "retry"]
    assert [run.status for run in measured.requests] == ["success"]


def test_a_fan_out_is_parallel() -> None:
    """Send: every branch is a parallel run of its node, with its own dollars."""

    def application(app: App) -> None:
        started = threading.Barrier(4)

        def work(state: State) -> State:
            started.wait(timeout=300)
            return {"answers": [str(app.model().invoke("hello").text)]}

        builder = StateGraph(State).add_node("work", work)
        builder.add_conditional_edges(START, lambda state: [Send("work", state)] * 4, ["work"])
        builder.compile().invoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [run.parallel for run in runs(measured, "work")] == [True] * 4
    assert measured.nodes == {("work", "success"): 4}


def test_nested_graphs_side_by_side_are_parallel() -> None:
    """``asyncio.gather`` of nested graphs inside a node: their nodes are parallel, and belong to one request."""

    async def application(app: App) -> None:
        started = asyncio.Barrier(3)

        async def inner(state: State) -> State:
            await started.wait()
            return {"answers": [str((await app.model().ainvoke("hello")).text)]}

        nested = graph(inner)

        async def outer(state: State) -> State:
            await asyncio.gather(*(nested.ainvoke({"message": "go"}) for _ in range(3)))
            return {}

        await graph(outer).ainvoke({"message": "go"}, app.config())

    measured = measure(application)

    assert measured.nodes == {("inner", "success"): 3, ("outer", "success"): 1}
    assert [run.parallel for run in runs(measured, "inner")] == [True] * 3
    assert [run.parallel for run in runs(measured, "outer")] == [False]


def test_nested_graphs_one_after_the_other_are_not_parallel() -> None:
    """Nested graphs in turn: their nodes are not parallel."""

    async def application(app: App) -> None:
        async def inner(state: State) -> State:
            return {"answers": [str((await app.model().ainvoke("hello")).text)]}

        nested = graph(inner)

        async def outer(state: State) -> State:
            for _ in range(3):
                await nested.ainvoke({"message": "go"})
            return {}

        await graph(outer).ainvoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [run.parallel for run in measured.records.of(NodeRun)] == [False] * 4


def test_a_resumed_question_is_linked() -> None:
    """An interrupt and its resumption are two requests of one session; the second is marked as resumed."""

    def application(app: App) -> None:
        def classify(state: State) -> State:
            app.model().invoke("classify")
            return {"intent": "waste"}

        def approve(state: State) -> State:
            return {"answers": [str(interrupt("ok?"))]}

        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("answer").text)]}

        compiled = graph(classify, approve, answer, checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "t1"})
        compiled.invoke({"message": "go"}, config)
        compiled.invoke(Command(resume="yes"), config)

    measured = measure(application, requests=2)

    halves = [(run.status, run.resumed, run.session_id, run.intent) for run in measured.requests]
    assert halves == [("interrupted", False, "t1", "waste"), ("success", True, "t1", "waste")]
    assert measured.metric("chat_requests_resumed_total", "intent") == {"waste": 1}
    assert [call.retry for call in measured.calls] == [None, None]


def test_a_request_continued_after_a_failure_is_resumed() -> None:
    """``invoke(None)`` after a failed node: the second request is marked as resumed."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("answer").text)]}

        compiled = graph(answer, checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "t1"})
        with pytest.raises(Exception, match="scripted"):
            compiled.invoke({"message": "go"}, config)
        compiled.invoke(None, config)

    measured = measure(application, script=lambda: failing(1), requests=2)

    assert [(run.status, run.resumed) for run in measured.requests] == [("error", False), ("success", True)]


def test_a_nested_graph_hands_over_to_its_parent() -> None:
    """``Command.PARENT``: the handover is no error, and its update counts."""

    def application(app: App) -> None:
        def child(state: State) -> Any:
            app.model().invoke("classify")
            return Command(graph=Command.PARENT, goto="answer", update={"intent": "waste"})

        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("answer").text)]}

        builder = StateGraph(State).add_node("sub", graph(child)).add_node("answer", answer).add_edge(START, "sub")
        builder.compile().invoke({"message": "go"}, app.config())

    measured = measure(application)

    assert measured.nodes == {("child", "success"): 1, ("sub", "success"): 1, ("answer", "success"): 1}
    assert [(call.node, call.intent) for call in measured.calls][1] == ("answer", "waste")


@pytest.mark.parametrize("mode", ["values", "messages", "updates"])
def test_a_streamed_graph_is_one_request(mode: str) -> None:
    """Every stream mode: calls stream or not, and the dollars are the same."""

    async def application(app: App) -> None:
        async def answer(state: State) -> State:
            return {"answers": [str((await app.model().ainvoke("answer")).text)]}

        async for _ in graph(answer).astream({"message": "go"}, app.config(), stream_mode=mode):
            pass

    measured = measure(application)

    assert [call.streamed for call in measured.calls] == [mode == "messages"]


def test_a_batch_is_a_request_for_each_input() -> None:
    """``batch``: each input is a request with its own trace."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("answer").text)]}

        graph(answer).batch([{"message": "go"}] * 5, app.config(max_concurrency=2))

    measured = measure(application, requests=5)

    assert [run.llm_calls for run in measured.requests] == [1] * 5
    assert len({run.trace_id for run in measured.requests}) == 5


@pytest.mark.needs_core("1.8")
@pytest.mark.filterwarnings("ignore:.*is in beta")
def test_a_decision_is_a_call() -> None:
    """A decision model of langchain-core 1.8 is a call of its node, with tokens and dollars."""
    from langchain_openai.decisions import Predicate

    def application(app: App) -> None:
        def triage(state: State) -> State:
            question = Predicate(instructions="Is it urgent?")
            app.provider.decisions().invoke({"input": "It is down.", "questions": {"urgent": question}})
            return {"intent": "urgent"}

        def answer(state: State) -> State:
            return {"answers": [str(app.model().invoke("answer").text)]}

        graph(triage, answer).invoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [(call.node, call.model) for call in measured.calls] == [
        ("triage", "gpt-4.1-mini"),
        ("answer", "gpt-4.1-mini"),
    ]


@pytest.mark.needs_core("1.8")
@pytest.mark.filterwarnings("ignore:.*is in beta")
def test_a_refused_decision_is_a_failed_call() -> None:
    """A decision that the provider refuses is a failed call that costs nothing."""
    from langchain_openai.decisions import Predicate

    def refuse(request: Request) -> Reply | None:
        return Reply(status=429)

    def application(app: App) -> None:
        def triage(state: State) -> State:
            question = Predicate(instructions="Is it urgent?")
            with pytest.raises(Exception, match="scripted"):
                app.provider.decisions().invoke({"input": "It is down.", "questions": {"urgent": question}})
            return {"intent": "unknown"}

        graph(triage).invoke({"message": "go"}, app.config())

    measured = measure(application, script=lambda: refuse)

    assert [(call.node, call.status, call.rate_limited) for call in measured.calls] == [("triage", "error", True)]
