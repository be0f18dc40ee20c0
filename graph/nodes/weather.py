"""The weather node: finds the weather."""

from __future__ import annotations

from graph import models
from graph.clients.errors import ServiceError
from graph.conversation import conversation
from graph.results import failure, found
from graph.state import State
from graph.tools import call_tools
from graph.tools.weather import forecast

__all__ = ["weather"]


async def weather(state: State) -> State:
    """Find out the weather, as far as it matters for taking waste out; the model chooses what to ask the service."""
    messages = conversation("weather", state)
    try:
        answer = await call_tools(models.chat("weather"), messages, [forecast])
    except ServiceError as error:
        return failure("weather", "날씨 정보", error)
    return found("weather", answer.text, ["기상청 단기예보"])
