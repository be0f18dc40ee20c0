"""The recyclable_price node: looks up prices of recyclables."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State
from graph.tools import call_tools, recyclable_prices

__all__ = ["recyclable_price"]


@branch("재활용품 시세")
async def recyclable_price(state: State) -> State:
    """Return the prices of recyclables. The model chooses the service calls."""
    messages = conversation("recyclable_price", state)
    answer = await call_tools(models.chat("recyclable_price"), messages, [recyclable_prices])
    return found("recyclable_price", answer.text, ["한국환경공단 재활용가능자원 가격조사"])
