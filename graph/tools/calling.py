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

__all__ = ["MOST_ROUNDS", "as_json", "call_tools"]

MOST_ROUNDS = 3


async def call_tools(model: BaseChatModel, messages: Sequence[BaseMessage], tools: Sequence[BaseTool]) -> AIMessage:
    """Return the model's answer once it needs no tool any more; after three rounds it has to do without.

    Arguments that do not fit a tool go back to the model, which may correct them.

    Raises:
        ServiceError: If a tool's service fails.
    """
    asking = model.bind_tools(tools)
    said = list(messages)
    runs = ToolNode(tools)
    for _ in range(MOST_ROUNDS):
        answer = await asking.ainvoke(said)
        if not answer.tool_calls:
            return answer
        said += [answer, *cast("list[BaseMessage]", await runs.ainvoke([answer]))]
    return await model.ainvoke(said)


def as_json(rows: Iterable[Any], **beside: Any) -> str:
    """Return dataclasses as the JSON that a model reads, without what is unknown, under ``results``."""
    results = [{name: value for name, value in asdict(row).items() if value not in {None, ""}} for row in rows]
    return json.dumps({**beside, "results": results}, ensure_ascii=False, default=str)
