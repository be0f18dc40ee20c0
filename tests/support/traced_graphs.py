"""Graphs of one node for tests of tracing."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import START, StateGraph
from langgraph.types import Send

from tests.support.fake_model import DETAILED_USAGE, FakeModel


class State(TypedDict, total=False):
    message: str
    intent: str
    tenant_id: str
    answers: Annotated[list[str], operator.add]
    scores: dict[str, float]


def sync_answer(state: State) -> State:
    return {"answers": [str(FakeModel(usage=DETAILED_USAGE).invoke(state["message"]).content)]}


async def async_answer(state: State) -> State:
    return {"answers": [str((await FakeModel(usage=DETAILED_USAGE).ainvoke(state["message"])).content)]}


def one_node(node: Any) -> Any:
    return StateGraph(State).add_node("answer", node).add_edge(START, "answer").compile()


def fan_out(node: Any) -> Any:
    graph = StateGraph(State).add_node("answer", node)
    return graph.add_conditional_edges(START, lambda state: [Send("answer", state)] * 3, ["answer"]).compile()
