"""The disposal rules of Korea, and the retriever for them."""

from __future__ import annotations

from graph.knowledge.retriever import DisposalRules
from graph.knowledge.rules import Rule, rules

__all__ = ["DisposalRules", "Rule", "rules"]
