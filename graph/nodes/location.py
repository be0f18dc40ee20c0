"""The location node: looks up places."""

from __future__ import annotations

from graph import models
from graph.clients import ServiceError
from graph.conversation import conversation
from graph.results import failure, found
from graph.state import State
from graph.tools import call_tools, search_places

__all__ = ["location"]


async def location(state: State) -> State:
    """Return places that accept waste. The model chooses the service calls."""
    messages = conversation("location", state)
    try:
        answer = await call_tools(models.chat("location"), messages, [search_places])
    except ServiceError as error:
        return failure("location", "장소 정보", error)
    return found("location", answer.text, ["카카오맵"])
