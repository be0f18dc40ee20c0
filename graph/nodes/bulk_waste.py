"""The bulk_waste node: looks up bulk-waste fees."""

from __future__ import annotations

from graph import models
from graph.conversation import conversation
from graph.results import branch, found
from graph.state import State
from graph.tools import bulk_waste_fees, call_tools

__all__ = ["bulk_waste"]


@branch("대형 폐기물 수수료")
async def bulk_waste(state: State) -> State:
    """Return a district's fees for bulk waste. The model chooses the service calls."""
    messages = conversation("bulk_waste", state)
    answer = await call_tools(models.chat("bulk_waste"), messages, [bulk_waste_fees])
    return found("bulk_waste", answer.text, ["전국대형폐기물수거수수료정보"])
