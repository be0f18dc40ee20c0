"""The graph's state: what nodes read and write."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias, TypedDict

from langchain_core.messages import AnyMessage
from langgraph.graph.message import add_messages

__all__ = ["Intent", "Result", "State", "WasteItem", "merge_results", "turn"]

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


class WasteItem(TypedDict):
    """The item on the user's image."""

    item: str
    material: str
    condition: str


class Result(TypedDict):
    """The result of one branch. If it failed, ``text`` says what is missing."""

    text: str
    failed: bool
    sources: list[str]


def merge_results(old: dict[str, Result] | None, new: dict[str, Result] | None) -> dict[str, Result]:
    """Return the old results with the new ones added. None clears them for a new turn."""
    return {} if new is None else {**(old or {}), **new}


class State(TypedDict, total=False):
    """One turn of a conversation."""

    message: str
    """The user's message."""
    image: str
    """The data URL of this turn's image, until the intent node has run. ``""`` without an image."""
    messages: Annotated[list[AnyMessage], add_messages]
    """The earlier turns that are not summarized yet."""
    summary: str
    """A summary of the turns before ``messages``."""
    vision: WasteItem | None
    """The item on this turn's image."""
    intent: Intent
    """The user's intent, set by the intent node."""
    weather: bool
    """Whether the answer depends on the weather."""
    place: str
    """The place that the message names, ``""`` if none."""
    results: Annotated[dict[str, Result], merge_results]
    """The results of this turn's branches, by node name."""
    scores: dict[str, float]
    """``rag_quality``: the score of the answer from the knowledge base, 0 to 1."""
    images: list[str]
    """The data URLs of the images generated in this turn."""
    context: str
    """All results joined into one text, for the answer node."""
    answer: str
    """The complete answer, set when the answer node has streamed it."""


def turn(message: str, *, image: str = "") -> State:
    """Return the initial state of a conversation's next turn."""
    return {"message": message, "image": image}
