"""Cohere's rules: the billed units stand in a stream only."""

from __future__ import annotations

from typing import ClassVar

from eco2_callbacks.usage.providers.base import Exchange, ProviderRules
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["CohereRules"]


class CohereRules(ProviderRules):
    """Cohere's API."""

    names: ClassVar[frozenset[str]] = frozenset({"cohere"})

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether the counts are ``tokens`` in place of ``billed_units``.

        langchain-cohere reads the billed units of a stream, and only there writes a total.
        """
        return "total_tokens" not in exchange.answer.reported
