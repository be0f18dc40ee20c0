"""Listings: the prices of models with their sources, and custom rates that price nothing."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, date, datetime
from typing import NamedTuple

from genai_prices.data_snapshot import get_snapshot

from eco2_callbacks.pricing.adjustments import Adjustment
from eco2_callbacks.pricing.price_book import PriceBook, standard_sheet
from eco2_callbacks.pricing.rates import Price, Rate
from eco2_callbacks.pricing.rates_used import checked_on

__all__ = ["Listing", "UnusedRate", "list_prices", "public_models", "sellers_of", "unused_rates"]


class Listing(NamedTuple):
    """The standard prices of one model on a day.

    Attributes:
        usd: Prices by price key; a ``TieredPrices`` depends on the length of the prompt.
        sources: Where each comes from, by price key.
        checked_on: The day on which each was checked, by price key; for public prices the day of the data.
        is_custom: Whether a custom rate sets a price.
    """

    provider: str
    model: str
    usd: Mapping[str, Price]
    sources: Mapping[str, tuple[str, ...]]
    checked_on: Mapping[str, date]
    is_custom: bool


class UnusedRate(NamedTuple):
    """A custom rate, discount or margin that prices nothing, and why: ``matches nothing`` or ``starts later``."""

    rate: Rate | Adjustment
    reason: str


def list_prices(book: PriceBook, *, provider: str, model: str, at: datetime | None = None) -> Listing | None:
    """Return the standard prices of a model, None where no price is known then; ``at`` None is now."""
    sheet = standard_sheet(book, provider=provider, model=model, at=(at or datetime.now(UTC)).astimezone(UTC))
    if sheet is None:
        return None
    public = book.updated_at.date()
    checked = {key: checked_on(sheet.sources.get(key, ())) or public for key in sheet.prices}
    return Listing(provider, model, sheet.prices, sheet.sources, checked, sheet.is_custom)


def sellers_of(book: PriceBook, model: str) -> tuple[str, ...]:
    """Return the providers that sell a model: those of the public prices, and those that a custom rate names."""
    public = [provider.id for provider in get_snapshot().providers if provider.find_model(model) is not None]
    own = [
        rate.provider for rate in book.custom_rates if "*" not in rate.provider and rate.is_for(rate.provider, model)
    ]
    return tuple(dict.fromkeys([*public, *own]))


def public_models() -> Iterator[tuple[str, str]]:
    """Yield provider and model of every public price."""
    for provider in get_snapshot().providers:
        for info in provider.models:
            yield provider.id, info.id


def unused_rates(
    book: PriceBook, *, at: datetime | None = None, used: Iterable[tuple[str, str]] = ()
) -> list[UnusedRate]:
    """Return the custom rates, discounts and margins that price nothing at a time.

    Args:
        book: The price book.
        at: The time; None is now.
        used: Provider and model of calls that were made, besides the public models.
    """
    day = (at or datetime.now(UTC)).astimezone(UTC).date()
    known = {*public_models(), *used}
    unused = []
    own: list[Rate | Adjustment] = [*book.custom_rates, *book.adjustments]
    for rate in own:
        if not any(rate.is_for(provider, model) for provider, model in known) and not _matches_alias(rate):
            unused.append(UnusedRate(rate, "matches nothing"))
        elif rate.start > day:
            unused.append(UnusedRate(rate, "starts later"))
    return unused


def _matches_alias(rate: Rate | Adjustment) -> bool:
    """Return whether the rate's model is another name of a public one, such as a dated one."""
    if "*" in rate.model:
        return False
    return any(
        provider.find_model(rate.model) is not None and rate.is_for(provider.id, rate.model)
        for provider in get_snapshot().providers
    )
