"""RatesUsed: the prices behind one cost, with where they come from."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from datetime import date
from decimal import Decimal

import msgspec

__all__ = ["RatesUsed", "checked_on"]

_CHECKED = re.compile(r"\bchecked (\d{4}-\d{2}-\d{2})\b")


class RatesUsed(msgspec.Struct, frozen=True, kw_only=True):
    """The prices that made one cost.

    Attributes:
        version: Version of the price data, as ``PriceBook.version``.
        source: Where the prices come from, joined by ``"; "``: ``genai-prices``, ``built-in fees: <page>``, or the
            source of a custom rate.
        checked_on: The oldest day on which one of these sources was checked; None where none states a day.
        usd: Prices as applied, by price key (``input_mtok``, ``web_searches_kcount``, ...): long-context tiers and
            factors are included. Only what was billed is listed.
        list_usd: The public prices by the same keys, where a custom rate or a discount changed them; empty otherwise.
        context: What chose among the model's prices: ``service_tier``, ``region``, ``speed``, ...
        model: The name that the prices were found under.
        samplings: As for ``PriceBook.quote``: a sum of several prompts is no long prompt.
        window: Likewise.
        other_models: Further models of the call, such as an advisor's, whose prices are not among these.
    """

    version: str
    source: str
    checked_on: date | None = None
    usd: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    list_usd: Mapping[str, Decimal] = msgspec.field(default_factory=dict)
    context: Mapping[str, str] = msgspec.field(default_factory=dict)
    model: str = ""
    samplings: int = 1
    window: int | None = None
    other_models: tuple[str, ...] = ()


def checked_on(sources: Iterable[str]) -> date | None:
    """Return the oldest day that these sources state as ``checked YYYY-MM-DD``; None where none states one."""
    days = []
    for source in sources:
        for day in _CHECKED.findall(source):
            with suppress(ValueError):  # 2026-02-31
                days.append(date.fromisoformat(day))
    return min(days, default=None)
