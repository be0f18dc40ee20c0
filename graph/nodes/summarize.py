"""The summarize node: shortens a long conversation."""

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
    """Replace all turns except the last by a summary, which includes the previous summary."""
    old: list[BaseMessage] = list(state["messages"][:-KEPT_MESSAGES])
    history = get_buffer_string(old, human_prefix="사용자", ai_prefix="이코에코")
    if previous := state.get("summary"):
        history = f"이전 요약: {previous}\n\n{history}"
    summary = await models.chat("summarize").ainvoke([SystemMessage(prompt("summarize")), HumanMessage(history)])
    removed = [RemoveMessage(id=message.id or "") for message in old]
    return {"summary": summary.text, "messages": cast("list[AnyMessage]", removed)}
