"""The graph's topology."""

from __future__ import annotations

from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.nodes.answer import answer
from graph.nodes.intent import intent
from graph.state import State

__all__ = ["build_graph"]


def build_graph() -> CompiledStateGraph[State, None, State, State]:
    """Return the compiled graph."""
    graph = StateGraph(State)
    graph.add_node("intent", intent)
    graph.add_node("answer", answer)
    graph.add_edge(START, "intent")
    graph.add_edge("intent", "answer")
    graph.add_edge("answer", END)
    return graph.compile()
