"""The location node: finds places."""

from __future__ import annotations

from graph import models
from graph.clients.errors import ServiceError
from graph.conversation import conversation
from graph.results import failure, found
from graph.state import State
from graph.tools import call_tools
from graph.tools.location import search_places

__all__ = ["location"]


async def location(state: State) -> State:
    """Find out places to take waste to; the model chooses what to ask the service."""
    messages = conversation("location", state)
    try:
        answer = await call_tools(models.chat("location"), messages, [search_places])
    except ServiceError as error:
        return failure("location", "장소 정보", error)
    return found("location", answer.text, ["카카오맵"])
