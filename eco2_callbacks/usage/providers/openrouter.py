"""OpenRouter's rules: it states what it charged, since it chooses the upstream provider."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any, ClassVar

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.providers.base import Exchange, ProviderRules, stated_usd
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["OpenRouterRules"]


class OpenRouterRules(ProviderRules):
    """OpenRouter through ChatOpenRouter or ChatOpenAI."""

    names: ClassVar[frozenset[str]] = frozenset({"openrouter"})

    def stated_cost(self, exchange: Exchange) -> Decimal | None:
        """Return what the account was charged, plus what the upstream bills where the user's own key served the call.

        Source: https://openrouter.ai/docs/use-cases/usage-accounting
        """
        answer = exchange.answer
        for source in (answer.metadata, answer.reported):
            if (cost := stated_usd(source.get("cost"))) is not None:
                return cost + _upstream_usd(source, answer.reported, cost)
        return None

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether the stated cost was dropped: which upstream answered, at which rate, is then unknown."""
        return self.stated_cost(exchange) is None


def _upstream_usd(source: Mapping[str, Any], reported: Mapping[str, Any], cost: Decimal) -> Decimal:
    """Return what the upstream provider bills on the user's own key (BYOK).

    ChatOpenRouter drops ``is_byok``. Without a key of the user's, the upstream's cost is never above the charge.
    """
    upstream = stated_usd(as_mapping(source.get("cost_details")).get("upstream_inference_cost")) or Decimal(0)
    is_byok = source.get("is_byok", reported.get("is_byok"))
    if is_byok is None:
        is_byok = upstream > cost
    return upstream if is_byok is True else Decimal(0)
