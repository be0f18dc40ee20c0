"""The rules of disposal in Korea, and the retriever that finds the ones that fit a question."""

from __future__ import annotations

from graph.knowledge.retriever import DisposalRules
from graph.knowledge.rules import Rule, rules

__all__ = ["DisposalRules", "Rule", "rules"]
