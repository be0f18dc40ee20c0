"""The collection_point node: looks up collection points."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State
from graph.tools import call_tools, collection_points

__all__ = ["collection_point"]


@branch("수거처 정보")
async def collection_point(state: State) -> State:
    """Return collection points for waste that must not go into the bin. The model chooses the service calls."""
    messages = conversation("collection_point", state)
    answer = await call_tools(models.chat("collection_point"), messages, [collection_points])
    return found("collection_point", answer.text, ["한국환경공단 수거회수처"])
