"""LangSmith's ``@traceable`` inside and outside a graph leaves the run tree as it is without tracing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, TypedDict

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableLambda
from langgraph.graph import START, StateGraph
from langsmith import traceable

from tests.support.measured_app import App, measure


class State(TypedDict, total=False):
    message: str
    intent: str


def classify(state: State) -> State:
    return {"intent": "waste"}


def graph(answer: Any) -> Any:
    """Return a graph that sets an intent, then runs a node named ``answer``."""
    builder = StateGraph(State).add_node("classify", classify).add_node("answer", answer)
    return builder.add_edge(START, "classify").add_edge("classify", "answer").compile()


def chain_of(app: App) -> Any:
    return ChatPromptTemplate.from_template("{question}") | app.model()


def model_in_function(app: App) -> Any:
    @traceable
    def helper(question: str) -> None:
        app.model().invoke(question)

    return lambda state: helper("hello")


def chain_in_function(app: App) -> Any:
    @traceable
    def helper(question: str) -> None:
        chain_of(app).invoke({"question": question})

    return lambda state: helper("hello")


def three_functions_deep(app: App) -> Any:
    @traceable
    def inner(question: str) -> None:
        app.model().invoke(question)

    @traceable
    def middle(question: str) -> None:
        inner(question)

    @traceable
    def outer(question: str) -> None:
        middle(question)

    return lambda state: outer("hello")


def graph_in_function(app: App) -> Any:
    def inner(state: State) -> State:
        app.model().invoke("hello")
        return {}

    nested = StateGraph(State).add_node("inner", inner).add_edge(START, "inner").compile()

    @traceable
    def helper() -> None:
        nested.invoke({"message": "go"})

    return lambda state: helper()


def traced_node(app: App) -> Any:
    @traceable
    def answer(state: State) -> State:
        app.model().invoke("hello")
        return {}

    return answer


def stream_in_generator(app: App) -> Any:
    @traceable
    def helper(question: str) -> Iterator[str]:
        for chunk in app.model().stream(question):
            yield str(chunk.text)

    return lambda state: {"message": "".join(helper("hello"))}


@pytest.mark.parametrize(
    "node",
    [model_in_function, chain_in_function, three_functions_deep, graph_in_function, traced_node, stream_in_generator],
    ids=lambda node: node.__name__,
)
def test_traced_code_inside_a_node_is_part_of_the_request(node: Any) -> None:
    """Whatever runs below ``@traceable`` in a node belongs to the node, its request and its intent."""

    def application(app: App) -> None:
        graph(node(app)).invoke({"message": "go"}, app.config())

    measured = measure(application)

    (call,) = measured.calls
    assert (call.intent, call.tenant_id) == ("waste", "acme")
    assert measured.nodes["answer", "success"] == 1
    assert [run.intent for run in measured.requests] == ["waste"]


def test_traced_coroutines_side_by_side_are_part_of_the_request() -> None:
    """``asyncio.gather`` of traced coroutines in a node: every call belongs to the request."""

    async def application(app: App) -> None:
        @traceable
        async def helper(question: str) -> None:
            await app.model().ainvoke(question)

        async def answer(state: State) -> State:
            await asyncio.gather(*(helper(str(number)) for number in range(4)))
            return {}

        await graph(answer).ainvoke({"message": "go"}, app.config())

    measured = measure(application)

    assert [call.node for call in measured.calls] == ["answer"] * 4
    assert {call.intent for call in measured.calls} == {"waste"}


def test_a_graph_below_traced_code_is_one_request() -> None:
    """``@traceable`` outside the graph: one request, whose dollars stand on the graph's run."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            app.model().invoke("hello")
            return {}

        @traceable
        def serve(question: str) -> None:
            graph(answer).invoke({"message": question}, app.config())

        serve("go")

    measured = measure(application)

    roots = [run["name"] for run in measured.langsmith.values() if run.get("parent_run_id") is None]
    assert roots == ["serve"]


def test_two_graphs_below_traced_code_are_two_requests() -> None:
    """``@traceable`` around two graphs: each of them is a request of its own."""

    def application(app: App) -> None:
        def answer(state: State) -> State:
            app.model().invoke("hello")
            return {}

        @traceable
        def serve(question: str) -> None:
            graph(answer).invoke({"message": question}, app.config())
            graph(answer).invoke({"message": question}, app.config())

        serve("go")

    measured = measure(application, requests=2)

    assert [run.llm_calls for run in measured.requests] == [1, 1]


def test_a_chain_between_two_traced_functions_is_one_request() -> None:
    """Traced code, a chain, and traced code inside it: the inner call belongs to the chain."""

    def application(app: App) -> None:
        @traceable
        def inner(question: str) -> str:
            return str(app.model().invoke(question).text)

        @traceable
        def outer(question: str) -> None:
            RunnableLambda(inner).invoke(question, app.config())

        outer("go")

    measured = measure(application)

    assert [run.llm_calls for run in measured.requests] == [1]
