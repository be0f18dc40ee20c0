"""The web_search node: searches the web with the provider's search."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import cast

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage
from pydantic import BaseModel, Field

from graph import models
from graph.conversation import conversation
from graph.prompts import prompt
from graph.results import branch, found, missing
from graph.state import State

__all__ = ["web_search"]

_MAX_QUERIES = 2

_logger = logging.getLogger(__name__)


class Plan(BaseModel):
    """웹 검색 계획."""

    queries: list[str] = Field(description="검색할 질문 한두 개.")


@branch("웹 검색 결과")
async def web_search(state: State) -> State:
    """Plan the queries, run them in parallel, and return the answers with their sources.

    A search that fails is left out, unless all fail.
    """
    planner = models.chat("web_search").with_structured_output(Plan)
    plan = cast("Plan", await planner.ainvoke(conversation("web_search_plan", state)))
    queries = plan.queries[:_MAX_QUERIES] or [state.get("message", "")]
    model = models.with_search("web_search")
    system = SystemMessage(prompt("web_search"))
    searches = (model.ainvoke([system, HumanMessage(query)]) for query in queries)
    outcomes = await asyncio.gather(*searches, return_exceptions=True)
    failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
    if len(failures) == len(outcomes):
        raise failures[0]
    for failure in failures:
        _logger.warning("web_search: %s; the other search is used alone.", type(failure).__name__)
    answers = [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]
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
