"""The answer node: writes to the user."""

from __future__ import annotations

from langchain_core.messages import HumanMessage, SystemMessage

from graph import models
from graph.prompts import prompt
from graph.state import State

__all__ = ["answer"]


async def answer(state: State) -> State:
    """Stream the answer to the message, and return it whole."""
    system = prompt("answer").format(intent=state["intent"])
    messages = [SystemMessage(system), HumanMessage(state["message"])]
    chunks = [chunk.text async for chunk in models.google().astream(messages)]
    return {"answer": "".join(chunks)}
