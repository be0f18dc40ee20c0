"""The weather node: looks up the weather forecast."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State
from graph.tools import call_tools, forecast

__all__ = ["weather"]


@branch("날씨 정보")
async def weather(state: State) -> State:
    """Return the weather as far as it matters for waste disposal. The model chooses the service calls."""
    messages = conversation("weather", state)
    answer = await call_tools(models.chat("weather"), messages, [forecast])
    return found("weather", answer.text, ["기상청 단기예보"])
