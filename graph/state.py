"""State: what the nodes read and write."""

from __future__ import annotations

from typing import Literal, TypeAlias, TypedDict

__all__ = ["Intent", "State"]

Intent: TypeAlias = Literal["waste", "bulk_waste", "location", "general"]


class State(TypedDict, total=False):
    """One question on its way through the graph."""

    message: str
    """What the user wrote."""
    intent: Intent
    """What the user wants, once the intent node has said so."""
    answer: str
    """The whole answer, once the answer node has streamed it."""
