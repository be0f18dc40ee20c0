"""Routing: the next nodes, from the state alone."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from langchain_core.messages import AIMessage, HumanMessage

from graph.routing import (
    BRANCHES,
    POOR_SCORE,
    Branch,
    after_answer,
    after_feedback,
    branches,
    conversation_tokens,
    entry,
)
from graph.state import Intent, State, merge_results

TABLE = [
    ("waste", ("waste_rag", "weather")),
    ("bulk_waste", ("bulk_waste", "weather")),
    ("character", ("character",)),
    ("location", ("location", "web_search")),
    ("web_search", ("web_search",)),
    ("recyclable_price", ("recyclable_price",)),
    ("collection_point", ("collection_point",)),
    ("image_generation", ("image_generation",)),
    ("general", ("general",)),
    ("greeting", ("general",)),
]


@pytest.mark.parametrize(("intent", "nodes"), TABLE, ids=[intent for intent, _ in TABLE])
@pytest.mark.parametrize("weather", [False, True])
def test_an_intent_s_nodes(intent: Intent, nodes: tuple[str, ...], weather: bool) -> None:
    """The nodes are those of the table, plus weather at most once."""
    expected = (*nodes, "weather") if weather and "weather" not in nodes else nodes

    assert branches({"intent": intent, "weather": weather}) == expected


def test_every_intent_and_every_branch_is_served() -> None:
    """Every intent has nodes, and every branch has an intent."""
    assert list(BRANCHES) == list(get_args(Intent))
    assert {node for nodes in BRANCHES.values() for node in nodes} == set(get_args(Branch))


@pytest.mark.parametrize(
    ("state", "node"),
    [({"image": "data:image/png;base64,"}, "vision"), ({"image": ""}, "intent"), ({}, "intent")],
    ids=["with_image", "blank_image", "without_image"],
)
def test_an_image_goes_to_vision_first(state: State, node: str) -> None:
    """With an image, vision is the first node."""
    assert entry(state) == node


@pytest.mark.parametrize(
    ("score", "node"), [(0.0, "web_search"), (0.59, "web_search"), (POOR_SCORE, "aggregator"), (1.0, "aggregator")]
)
def test_a_poor_answer_leads_to_a_web_search(score: float, node: str) -> None:
    """A score below the threshold leads to web_search; a score at the threshold does not."""
    assert after_feedback({"scores": {"rag_quality": score}}) == node


def test_a_conversation_is_summarized_above_its_limit() -> None:
    """At the limit nothing is summarized; one token above it is."""
    state: State = {"messages": [HumanMessage("가" * 100), AIMessage("나" * 100)] * 2}
    tokens = conversation_tokens(state)

    assert after_answer(state, summarize_tokens=tokens) == "__end__"
    assert after_answer(state, summarize_tokens=tokens - 1) == "summarize"


def test_one_turn_is_never_summarized() -> None:
    """A single turn stays as it is, however long."""
    state: State = {"messages": [HumanMessage("가" * 10_000), AIMessage("나")]}

    assert after_answer(state, summarize_tokens=1) == "__end__"


def test_results_add_up_until_a_turn_begins() -> None:
    """Branches add their results. None clears them."""
    one: Any = {"text": "하나", "failed": False, "sources": []}

    assert merge_results(None, {"weather": one}) == {"weather": one}
    assert merge_results({"weather": one}, {"general": one}) == {"weather": one, "general": one}
    assert merge_results({"weather": one}, None) == {}
