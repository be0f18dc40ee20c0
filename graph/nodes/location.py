"""The location node: looks up places."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State
from graph.tools import call_tools, search_places

__all__ = ["location"]


@branch("장소 정보")
async def location(state: State) -> State:
    """Return places that accept waste. The model chooses the service calls."""
    messages = conversation("location", state)
    answer = await call_tools(models.chat("location"), messages, [search_places])
    return found("location", answer.text, ["카카오맵"])
