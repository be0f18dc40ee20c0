"""Nodes: parallel branches, subgraphs, scores, and the calls that belong to each."""

from __future__ import annotations

import asyncio
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, NodeRun, ToolCall, run_config
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, sample


async def test_send_branches_of_one_step_are_parallel(handler: Eco2CallbackHandler, records: Records) -> None:
    """Two tasks of one step are parallel; the node after them is not."""
    both = asyncio.Barrier(2)

    async def branch(state: State) -> State:
        await both.wait()
        await FakeModel().ainvoke("branch")
        return {"answers": ["branch"]}

    graph = StateGraph(State)
    graph.add_node("branch", branch)
    graph.add_node("answer", answer)
    graph.add_conditional_edges(START, lambda state: [Send("branch", state), Send("branch", state)], ["branch"])
    graph.add_edge("branch", "answer")

    await graph.compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    runs = [(run.node, run.parallel) for run in records.all if type(run).__name__ == "NodeRun"]
    assert runs == [("branch", True), ("branch", True), ("answer", False)]
    assert records.request.cost.total_usd == 3 * COST


async def test_a_subgraphs_cost_counts_for_its_node_and_for_the_outer_node(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """An inner node's cost also counts for the outer node, and once for the request."""
    inner = graph_of(answer).compile()

    async def outer(state: State) -> State:
        result: State = await inner.ainvoke(state)
        return {"answers": result["answers"]}

    await graph_of(outer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert {name: run.cost.total_usd for name, run in records.nodes.items()} == {"answer": COST, "outer": COST}
    assert records.request.cost.total_usd == COST
    assert records.call.node == "answer"


async def test_feedback_that_a_node_returns_is_observed(registry: CollectorRegistry, records: Records) -> None:
    """The mapping names the node, the key and the path of a score in the node's output."""
    handler = Eco2CallbackHandler(
        registry=registry, sinks=[records], feedback={"grade": {"rag_quality": "scores.rag", "missing": "scores.no"}}
    )

    class Graded(TypedDict, total=False):
        scores: dict[str, float]

    async def grade(state: Graded) -> Graded:
        return {"scores": {"rag": 0.75}}

    graph = StateGraph(Graded)
    graph.add_node("grade", grade)
    graph.add_edge(START, "grade")
    await graph.compile().ainvoke({}, {"callbacks": [handler]})

    assert records.nodes["grade"].feedback == {"rag_quality": 0.75}
    assert sample(registry, "chat_feedback_score_bucket", node="grade", key="rag_quality", le="0.8") == 1
    assert sample(registry, "chat_feedback_score_bucket", node="grade", key="rag_quality", le="0.7") == 0


@pytest.mark.parametrize("nested", [False, True], ids=["model", "chain"])
async def test_a_call_with_callbacks_of_its_own_stays_in_its_node(
    handler: Eco2CallbackHandler, records: Records, nested: bool
) -> None:
    """A config passed inside a node cuts LangChain's run tree, but the call still counts for the node and request."""

    async def node(state: State) -> State:
        model: Any = RunnableLambda(lambda text: text) | FakeModel() if nested else FakeModel()
        await model.ainvoke("hello", config={"callbacks": [handler]})
        return {}

    await graph_of(node).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert records.nodes["node"].cost.total_usd == records.request.cost.total_usd == COST
    assert records.call.trace_id == records.request.trace_id


class AgentState(TypedDict, total=False):
    question: str


@pytest.mark.parametrize("way", ["edge", "send"])
def test_a_graph_named_like_its_node_is_no_second_node(
    handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """One task has one node run, whether an edge or a ``Send`` leads to it; the graph inside is the agent."""

    def model(state: AgentState) -> AgentState:
        FakeModel().invoke("hello")
        return {}

    agent = StateGraph(AgentState).add_node("model", model).add_edge(START, "model").compile(name="researcher")
    graph = StateGraph(AgentState).add_node("researcher", agent)
    if way == "edge":
        graph.add_edge(START, "researcher")
    else:
        graph.add_conditional_edges(START, lambda state: [Send("researcher", state)], ["researcher"])

    graph.compile().invoke({"question": "?"}, {"callbacks": [handler]})

    runs = [(run.node, run.path) for run in records.of(NodeRun)]
    assert sorted(runs) == [("model", "eco2/researcher/model"), ("researcher", "eco2/researcher")]
    assert (records.call.agent_name, records.call.path) == ("researcher", "eco2/researcher/model")


@pytest.mark.parametrize("way", ["chain", "tool"])
def test_a_config_of_its_own_keeps_the_node(handler: Eco2CallbackHandler, records: Records, way: str) -> None:
    """What a node calls with callbacks and metadata of its own, which hide LangGraph's, still belongs to the node."""

    @tool
    def find(item: str) -> str:
        """Find an item."""
        return str(FakeModel().invoke(item).content)

    called: Any = find if way == "tool" else RunnableLambda(lambda item: FakeModel().invoke(str(item)))

    def look(state: AgentState) -> AgentState:
        called.invoke("glass", run_config(handler, job_id="inner", tenant_id="acme"))
        return {}

    graph = StateGraph(AgentState).add_node("look", look).add_edge(START, "look").compile()
    graph.invoke({"question": "?"}, {"callbacks": [handler]})

    assert records.call.node == "look"
    assert [run.node for run in records.of(ToolCall)] == (["look"] if way == "tool" else [])
    assert records.nodes["look"].cost.total_usd == COST
