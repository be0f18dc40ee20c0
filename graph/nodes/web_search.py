"""The web_search node: searches the web with the provider's search."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import cast

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from graph import models
from graph.conversation import conversation
from graph.prompts import prompt
from graph.results import found, missing
from graph.state import State

__all__ = ["web_search"]

_MAX_QUERIES = 2


class Plan(BaseModel):
    """웹 검색 계획."""

    queries: list[str] = Field(description="검색할 질문 한두 개.")


async def web_search(state: State) -> State:
    """Plan the queries, run them in parallel, and return the answers with their sources."""
    planner = models.chat("web_search").with_structured_output(Plan)
    plan = cast("Plan", await planner.ainvoke(conversation("web_search_plan", state)))
    queries = plan.queries[:_MAX_QUERIES] or [state.get("message", "")]
    model = models.with_search("web_search")
    system = SystemMessage(prompt("web_search"))
    answers = await asyncio.gather(*(model.ainvoke([system, HumanMessage(query)]) for query in queries))
    text = "\n\n".join(answer.text for answer in answers if answer.text)
    if not text:
        return missing("web_search", "웹에서 찾은 것이 없습니다.")
    return found("web_search", text, [url for answer in answers for url in _sources(answer)])


def _sources(answer: AIMessage) -> Iterator[str]:
    """Return the URLs that an answer cites. LangChain's annotations are the same for both providers."""
    for block in answer.content_blocks:
        if block["type"] == "text":
            for annotation in block.get("annotations", []):
                if annotation["type"] == "citation" and (url := annotation.get("url")):
                    yield url
