"""The general node: answers questions that need no service."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import found
from graph.state import State

__all__ = ["general"]


async def general(state: State) -> State:
    """Answer from the model's own knowledge."""
    answer = await models.chat("general").ainvoke(conversation("general", state))
    return found("general", answer.text)
