"""The loop in which a model calls tools until it can answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any, cast

from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.tools import BaseTool
from langgraph.prebuilt import ToolNode
from langgraph.prebuilt.tool_node import ToolInvocationError

from graph.clients import WrongArguments

__all__ = ["MAX_ROUNDS", "as_json", "call_tools"]

MAX_ROUNDS = 3


async def call_tools(model: BaseChatModel, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
    """Return the model's answer. After three rounds of tool calls, the model answers without tools.

    If the arguments do not fit a tool, the error goes back to the model, which may correct them.

    Raises:
        ServiceError: If a tool's service fails.
    """
    model_with_tools = model.bind_tools(tools)
    history = list(messages)
    tool_node = ToolNode(tools, handle_tool_errors=_explain)
    for _ in range(MAX_ROUNDS):
        answer = await model_with_tools.ainvoke(history)
        if not answer.tool_calls:
            return answer
        history += [answer, *cast("list[BaseMessage]", await tool_node.ainvoke([answer]))]
    return await model.ainvoke(history)


def _explain(error: Exception) -> str:
    """Return the message for the model that chose wrong arguments; raise any other error."""
    if isinstance(error, ToolInvocationError):
        return error.message
    if isinstance(error, WrongArguments):
        return str(error)
    raise error


def as_json(rows: Iterable[Any], **fields: Any) -> str:
    """Return dataclasses as JSON for a model: the rows under ``results`` without unknown values, and these fields."""
    results = [{name: value for name, value in asdict(row).items() if value not in {None, ""}} for row in rows]
    return json.dumps({**fields, "results": results}, ensure_ascii=False, default=str)
