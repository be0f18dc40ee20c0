"""State: what the nodes read and write."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

__all__ = ["Intent", "Result", "Seen", "State", "merge_results", "turn"]

Intent: TypeAlias = Literal[
    "waste",
    "bulk_waste",
    "character",
    "location",
    "web_search",
    "recyclable_price",
    "collection_point",
    "image_generation",
    "general",
    "greeting",
]


class Seen(TypedDict):
    """What is on the user's picture."""

    item: str
    material: str
    condition: str


class Result(TypedDict):
    """What one branch found out; a failed one says in ``text`` what it could not."""

    text: str
    failed: bool
    sources: list[str]


def merge_results(old: dict[str, Result] | None, new: dict[str, Result] | None) -> dict[str, Result]:
    """Return the results with the new ones added; None begins a new turn without any."""
    return {} if new is None else {**(old or {}), **new}


class State(TypedDict, total=False):
    """One turn of a conversation on its way through the graph."""

    message: str
    """What the user wrote in this turn."""
    image: str
    """The data URL of this turn's picture until the intent node has run, ``""`` without one."""
    messages: Annotated[list[AnyMessage], add_messages]
    """The turns before this one, as far as they are not summarized."""
    summary: str
    """What was said before ``messages``."""
    vision: Seen | None
    """What is on this turn's picture."""
    intent: Intent
    """What the user wants, once the intent node has said so."""
    weather: bool
    """Whether the user's question depends on the weather."""
    place: str
    """The place that the message names, ``""`` without one."""
    results: Annotated[dict[str, Result], merge_results]
    """What the branches of this turn found out, by the node's name."""
    scores: dict[str, float]
    """How good the answer from the knowledge base is, 0 to 1, as ``rag_quality``."""
    images: list[str]
    """The data URLs of the pictures made in this turn."""
    context: str
    """All results as one text, for the answer."""
    answer: str
    """The whole answer, once the answer node has streamed it."""


def turn(message: str, *, image: str = "") -> State:
    """Return what a conversation's next turn begins with."""
    return {"message": message, "image": image}
