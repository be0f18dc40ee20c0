"""Small graphs on a fake model, and a reader of one sample."""

from __future__ import annotations

import operator
from typing import Annotated, Any, TypedDict

from langgraph.graph import END, START, StateGraph
from prometheus_client import CollectorRegistry

from tests.support.fake_model import FakeModel


class State(TypedDict, total=False):
    intent: str
    answers: Annotated[list[str], operator.add]


def graph_of(*nodes: Any, **settings: Any) -> Any:
    """Return a graph of the nodes in a row."""
    graph = StateGraph(State)
    names = [node.__name__ for node in nodes]
    for node in nodes:
        graph.add_node(node.__name__, node, **settings)
    for before, after in zip([START, *names], [*names, END], strict=True):
        graph.add_edge(before, after)
    return graph


async def intent(state: State) -> State:
    await FakeModel().ainvoke("classify")
    return {"intent": "waste"}


async def answer(state: State) -> State:
    reply = await FakeModel().ainvoke("answer")
    return {"answers": [str(reply.content)]}


def sample(registry: CollectorRegistry, name: str, **labels: str) -> float | None:
    return registry.get_sample_value(name, labels)
