"""Interrupts and handovers: LangGraph raises both as exceptions, and neither is an error."""

from __future__ import annotations

from typing import Any

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, interrupt
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, intent, sample


async def test_an_interrupt_is_no_error_and_marks_the_request(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A node that interrupts is interrupted, and so is its request, although the root run ends normally."""

    async def ask(state: State) -> State:
        return {"answers": [interrupt("which bin?")]}

    graph = graph_of(ask).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    await graph.ainvoke({"answers": []}, config)
    await graph.ainvoke(Command(resume="blue"), config)

    statuses = [(type(run).__name__, run.status) for run in records.all]
    assert statuses == [
        ("NodeRun", "interrupted"),
        ("GraphRun", "interrupted"),
        ("NodeRun", "success"),
        ("GraphRun", "success"),
    ]
    assert sample(registry, "graph_node_runs_total", node="ask", agent_name="eco2", status="error") == 0
    assert sample(registry, "chat_requests_total", intent="unclassified", status="interrupted", provider="") == 1


async def test_a_handover_to_the_parent_graph_is_a_success_and_updates_the_state(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """``Command.PARENT`` is raised as an exception, but the node has succeeded."""

    async def classify(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="answer", update={"intent": "bulk_waste"})

    graph = StateGraph(State)
    graph.add_node("inner", graph_of(classify).compile())
    graph.add_node("answer", answer)
    graph.add_edge(START, "inner")

    await graph.compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert records.nodes["classify"].status == "success"
    assert records.call.intent == records.request.intent == "bulk_waste"


async def test_an_intent_from_before_an_interrupt_still_holds(handler: Eco2CallbackHandler, records: Records) -> None:
    """A resumed request keeps the state that nodes wrote before the interrupt."""

    async def ask(state: State) -> State:
        return {"answers": [interrupt("which bin?")]}

    graph = graph_of(intent, ask, answer).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    await graph.ainvoke({"answers": []}, config)
    await graph.ainvoke(Command(resume="blue"), config)

    assert [(call.node, call.intent) for call in records.calls] == [("intent", "unclassified"), ("answer", "waste")]
    assert [run.intent for run in records.all if type(run).__name__ == "GraphRun"] == ["waste", "waste"]
