"""The aggregator node: joins the results of the branches."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

from langgraph.types import Command

from graph.routing import Branch, have_all_ended
from graph.state import Result, State

__all__ = ["aggregator"]

# The order of the sections, whichever branch ended first.
_TITLES: Mapping[Branch, str] = MappingProxyType(
    {
        "waste_rag": "분리배출 지침",
        "bulk_waste": "대형 폐기물",
        "location": "장소",
        "collection_point": "수거처",
        "recyclable_price": "재활용품 시세",
        "character": "캐릭터",
        "image_generation": "그림",
        "general": "일반 답변",
        "web_search": "웹 검색",
        "weather": "날씨",
    }
)


async def aggregator(state: State) -> Command[Literal["answer"]]:
    """Join the results into one text. Failed results are marked.

    A turn that fails or is cancelled after its first results leaves this node's trigger behind. LangGraph keeps a
    deferred trigger, so the node also runs beside the branches of the next turn. That run must not write an answer.
    """
    if not have_all_ended(state):
        return Command()
    results = state["results"]
    sections = [_section(title, results[node]) for node, title in _TITLES.items() if node in results]
    return Command(goto="answer", update={"context": "\n\n".join(sections)})


def _section(title: str, result: Result) -> str:
    heading = f"## {title} (실패)" if result["failed"] else f"## {title}"
    sources = f"\n출처: {', '.join(result['sources'])}" if result["sources"] else ""
    return f"{heading}\n{result['text']}{sources}"
