"""The summarize node: keeps a long conversation short."""

from __future__ import annotations

from typing import cast

from langchain_core.messages import (
    AnyMessage,
    BaseMessage,
    HumanMessage,
    RemoveMessage,
    SystemMessage,
    get_buffer_string,
)

from graph import models
from graph.prompts import prompt
from graph.routing import KEPT_MESSAGES
from graph.state import State

__all__ = ["summarize"]


async def summarize(state: State) -> State:
    """Replace all but the last turn by a summary, which takes up the one before."""
    old: list[BaseMessage] = list(state["messages"][:-KEPT_MESSAGES])
    said = get_buffer_string(old, human_prefix="사용자", ai_prefix="이코에코")
    if before := state.get("summary"):
        said = f"이전 요약: {before}\n\n{said}"
    written = await models.chat("summarize").ainvoke([SystemMessage(prompt("summarize")), HumanMessage(said)])
    removed = [RemoveMessage(id=message.id or "") for message in old]
    return {"summary": written.text, "messages": cast("list[AnyMessage]", removed)}
