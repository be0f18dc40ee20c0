"""Fireworks' rules: no answer names the tier that served it, so the requested one counts."""

from __future__ import annotations

from typing import ClassVar

from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, context_of

__all__ = ["FireworksRules"]


class FireworksRules(ProviderRules):
    """Fireworks' API, whose counts are OpenAI's."""

    names: ClassVar[frozenset[str]] = frozenset({"fireworks"})

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return the requested tier where the answer names none: a request is served at it or refused.

        Source: https://docs.fireworks.ai/serverless/serverless-modes
        """
        return context_of({"service_tier": service_tier or exchange.requested("service_tier")})
