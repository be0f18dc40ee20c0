"""The general node: answers questions that need no service."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State

__all__ = ["general"]


@branch("일반 답변")
async def general(state: State) -> State:
    """Answer from the model's own knowledge."""
    answer = await models.chat("general").ainvoke(conversation("general", state))
    return found("general", answer.text)
