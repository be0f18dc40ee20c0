"""The collection_point node: finds collection points."""

from __future__ import annotations

from graph import models
from graph.clients.errors import ServiceError
from graph.conversation import conversation
from graph.results import failure, found
from graph.state import State
from graph.tools import call_tools
from graph.tools.collection_point import collection_points

__all__ = ["collection_point"]


async def collection_point(state: State) -> State:
    """Find out who takes back what must not go into the bin; the model chooses what to ask the service."""
    messages = conversation("collection_point", state)
    try:
        answer = await call_tools(models.chat("collection_point"), messages, [collection_points])
    except ServiceError as error:
        return failure("collection_point", "수거처 정보", error)
    return found("collection_point", answer.text, ["한국환경공단 수거회수처"])
