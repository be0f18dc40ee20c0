"""Prices in tests: a fixed time, one million tokens, the total of a usage and a custom rate."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from eco2_callbacks import PriceBook, Rate, TokenUsage

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
MTOK = 1_000_000


def usd(
    usage: TokenUsage, provider: str, model: str, *, book: PriceBook | None = None, at: datetime = AT, tier: str = ""
) -> Decimal:
    return (book or PriceBook()).price(usage, provider=provider, model=model, service_tier=tier, at=at).total_usd


def custom_rate(prices: dict[str, Any], *, model: str = "gpt-5.2", provider: str = "openai", **about: Any) -> Rate:
    return Rate(
        **{"start": date(2026, 1, 1), "source": "contract 7"} | about, provider=provider, model=model, prices=prices
    )
