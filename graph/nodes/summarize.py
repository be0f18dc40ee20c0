"""The summarize node: shortens a long conversation."""

from __future__ import annotations

import logging
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

_logger = logging.getLogger(__name__)


async def summarize(state: State) -> State:
    """Replace all turns except the last by a summary, which includes the previous summary.

    Without a summary the turns stay: the user has the answer already, and the next turn tries again.
    """
    old: list[BaseMessage] = list(state["messages"][:-KEPT_MESSAGES])
    history = get_buffer_string(old, human_prefix="사용자", ai_prefix="이코에코")
    if previous := state.get("summary"):
        history = f"이전 요약: {previous}\n\n{history}"
    try:
        summary = await models.chat("summarize").ainvoke([SystemMessage(prompt("summarize")), HumanMessage(history)])
    except Exception as error:
        _logger.warning("The conversation is not summarized: %s.", type(error).__name__)
        return {}
    if not summary.text.strip():
        _logger.warning("The conversation is not summarized: the model wrote nothing.")
        return {}
    removed = [RemoveMessage(id=message.id or "") for message in old]
    return {"summary": summary.text, "messages": cast("list[AnyMessage]", removed)}
