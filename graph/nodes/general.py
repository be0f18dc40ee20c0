"""The general node: answers what needs no service."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import found
from graph.state import State

__all__ = ["general"]


async def general(state: State) -> State:
    """Answer from what the model knows."""
    answer = await models.chat("general").ainvoke(conversation("general", state))
    return found("general", answer.text)
