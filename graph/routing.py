"""Where the graph goes next: pure functions of the state."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal, TypeAlias

from langchain_core.messages.utils import count_tokens_approximately

from graph.state import Intent, State

__all__ = [
    "BRANCHES",
    "KEPT_MESSAGES",
    "POOR_SCORE",
    "Branch",
    "after_answer",
    "after_feedback",
    "branches",
    "conversation_tokens",
    "entry",
]

Branch: TypeAlias = Literal[
    "waste_rag",
    "bulk_waste",
    "character",
    "location",
    "web_search",
    "recyclable_price",
    "collection_point",
    "image_generation",
    "general",
    "weather",
]

BRANCHES: Mapping[Intent, tuple[Branch, ...]] = MappingProxyType(
    {
        "waste": ("waste_rag", "weather"),
        "bulk_waste": ("bulk_waste", "weather"),
        "character": ("character",),
        "location": ("location", "web_search"),
        "web_search": ("web_search",),
        "recyclable_price": ("recyclable_price",),
        "collection_point": ("collection_point",),
        "image_generation": ("image_generation",),
        "general": ("general",),
        "greeting": ("general",),
    }
)
POOR_SCORE = 0.6  # an answer from the knowledge base below it is backed by a web search
KEPT_MESSAGES = 2  # the last question and its answer are never summarized
_CHARS_PER_TOKEN = 2.0  # of Korean text; the library's default is that of English


def entry(state: State) -> Literal["vision", "intent"]:
    """Return the first node: a picture is looked at before the intent is read."""
    return "vision" if state.get("image") else "intent"


def branches(state: State) -> tuple[Branch, ...]:
    """Return the nodes that serve this turn side by side; the weather rides along where it was asked for too."""
    nodes = BRANCHES[state["intent"]]
    return (*nodes, "weather") if state.get("weather") and "weather" not in nodes else nodes


def after_feedback(state: State) -> Literal["aggregator", "web_search"]:
    """Return where an answer from the knowledge base goes: a poor one is backed by a web search."""
    return "web_search" if state["scores"]["rag_quality"] < POOR_SCORE else "aggregator"


def after_answer(state: State, *, summarize_tokens: int) -> Literal["summarize", "__end__"]:
    """Return ``summarize`` once the conversation holds more tokens than it may, and more than one turn."""
    old = len(state.get("messages", [])) > KEPT_MESSAGES
    return "summarize" if old and conversation_tokens(state) > summarize_tokens else "__end__"


def conversation_tokens(state: State) -> int:
    """Return about how many tokens the conversation's messages hold."""
    return count_tokens_approximately(state.get("messages", []), chars_per_token=_CHARS_PER_TOKEN)
