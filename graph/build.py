"""The graph's topology."""

from __future__ import annotations

import os
from functools import partial

from langgraph.checkpoint.base import BaseCheckpointSaver
from langgraph.graph import END, START, StateGraph
from langgraph.graph.state import CompiledStateGraph

from graph.errors import GraphConfigError
from graph.nodes.aggregator import aggregator
from graph.nodes.answer import answer
from graph.nodes.bulk_waste import bulk_waste
from graph.nodes.character import character
from graph.nodes.collection_point import collection_point
from graph.nodes.feedback import feedback
from graph.nodes.general import general
from graph.nodes.image_generation import image_generation
from graph.nodes.intent import intent
from graph.nodes.location import location
from graph.nodes.recyclable_price import recyclable_price
from graph.nodes.router import router
from graph.nodes.summarize import summarize
from graph.nodes.vision import vision
from graph.nodes.waste_rag import waste_rag
from graph.nodes.weather import weather
from graph.nodes.web_search import web_search
from graph.routing import after_answer, entry
from graph.state import State

__all__ = ["SUMMARIZE_TOKENS", "build_graph"]

SUMMARIZE_TOKENS = 4000


def build_graph(
    *, checkpointer: BaseCheckpointSaver[str] | None = None, summarize_tokens: int | None = None
) -> CompiledStateGraph[State, None, State, State]:
    """Return the compiled graph.

    Args:
        checkpointer: Stores conversations by ``thread_id``; None stores none.
        summarize_tokens: Token limit of a conversation, above which old turns are summarized. None reads
            ``ECO2_SUMMARIZE_TOKENS``, which defaults to 4000.

    Raises:
        GraphConfigError: If ``ECO2_SUMMARIZE_TOKENS`` is not a whole number above 0.
    """
    limit = _summarize_tokens() if summarize_tokens is None else summarize_tokens
    graph = StateGraph(State)

    graph.add_node("vision", vision)
    graph.add_node("intent", intent)
    graph.add_node("router", router)
    graph.add_node("waste_rag", waste_rag)
    graph.add_node("feedback", feedback)
    graph.add_node("character", character)
    graph.add_node("location", location)
    graph.add_node("web_search", web_search)
    graph.add_node("bulk_waste", bulk_waste)
    graph.add_node("recyclable_price", recyclable_price)
    graph.add_node("weather", weather)
    graph.add_node("collection_point", collection_point)
    graph.add_node("image_generation", image_generation)
    graph.add_node("general", general)
    graph.add_node("aggregator", aggregator, defer=True)  # runs once, after all branches
    graph.add_node("answer", answer)
    graph.add_node("summarize", summarize)

    graph.add_conditional_edges(START, entry)
    graph.add_edge("vision", "intent")
    graph.add_edge("intent", "router")  # the router sends the turn to its branches
    graph.add_edge("waste_rag", "feedback")  # feedback continues with web_search or aggregator
    graph.add_edge("character", "aggregator")
    graph.add_edge("location", "aggregator")
    graph.add_edge("web_search", "aggregator")
    graph.add_edge("bulk_waste", "aggregator")
    graph.add_edge("recyclable_price", "aggregator")
    graph.add_edge("weather", "aggregator")
    graph.add_edge("collection_point", "aggregator")
    graph.add_edge("image_generation", "aggregator")
    graph.add_edge("general", "aggregator")  # the aggregator continues with answer
    graph.add_conditional_edges(
        "answer", partial(after_answer, summarize_tokens=limit), {"summarize": "summarize", END: END}
    )
    graph.add_edge("summarize", END)
    return graph.compile(checkpointer=checkpointer, name="eco2")


def _summarize_tokens() -> int:
    value = os.environ.get("ECO2_SUMMARIZE_TOKENS", "").strip()
    if not value:
        return SUMMARIZE_TOKENS
    if not value.isdecimal() or int(value) == 0:
        raise GraphConfigError(f"ECO2_SUMMARIZE_TOKENS is {value!r}, wanted a whole number above 0; correct it.")
    return int(value)
