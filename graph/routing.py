"""Decides which nodes run next, by pure functions of the state."""

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
    "have_all_ended",
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
POOR_SCORE = 0.6  # below it, a web search supplements the answer from the knowledge base
KEPT_MESSAGES = 2  # the last question and its answer are never summarized
_CHARS_PER_TOKEN = 2.0  # for Korean text; the library's default fits English


def entry(state: State) -> Literal["vision", "intent"]:
    """Return the first node: vision if there is an image, else intent."""
    return "vision" if state.get("image") else "intent"


def branches(state: State) -> tuple[Branch, ...]:
    """Return the nodes that run in parallel for this turn, plus weather if the answer depends on it."""
    nodes = BRANCHES[state["intent"]]
    return (*nodes, "weather") if state.get("weather") and "weather" not in nodes else nodes


def have_all_ended(state: State) -> bool:
    """Return whether every branch that the router started has its result."""
    return state["results"].keys() >= set(branches(state))


def after_feedback(state: State) -> Literal["aggregator", "web_search"]:
    """Return the node after feedback: web_search if the answer from the knowledge base scored poorly."""
    return "web_search" if state["scores"]["rag_quality"] < POOR_SCORE else "aggregator"


def after_answer(state: State, *, summarize_tokens: int) -> Literal["summarize", "__end__"]:
    """Return ``summarize`` if the conversation exceeds the token limit and has more than one turn."""
    has_old_turns = len(state.get("messages", [])) > KEPT_MESSAGES
    return "summarize" if has_old_turns and conversation_tokens(state) > summarize_tokens else "__end__"


def conversation_tokens(state: State) -> int:
    """Return the approximate token count of the conversation's messages."""
    return count_tokens_approximately(state.get("messages", []), chars_per_token=_CHARS_PER_TOKEN)
