"""SourcedPrices: prices by key while they are put together, each with the sources that made it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal

from eco2_callbacks.pricing.cost import EXACT
from eco2_callbacks.pricing.rates import Price, Rate

__all__ = ["SourcedPrices", "scaled"]


class SourcedPrices:
    """Prices of one model, and where each comes from.

    Attributes:
        usd: Price by price key.
        sources: Sources by price key: the price's own, then those of the factors that changed it.
    """

    def __init__(self) -> None:
        self.usd: dict[str, Price] = {}
        self.sources: dict[str, tuple[str, ...]] = {}

    def add(self, prices: Mapping[str, Price], source: str) -> None:
        """Add prices of one source; they win over those that are there."""
        self.usd.update(prices)
        self.sources.update(dict.fromkeys(prices, (source,)))

    def add_rates(self, rates: Iterable[Rate], *, prefix: str = "") -> None:
        """Add the prices of rates; of two for the same key the later one wins."""
        for rate in rates:
            self.add(rate.prices, prefix + rate.source)

    def apply_factors(self, rates: Iterable[Rate], *, prefix: str = "") -> None:
        """Apply the factors of rates: the price of cached input first, then that of all tokens."""
        for rate in rates:
            source = prefix + rate.source
            if rate.cache_read_factor is not None and "input_mtok" in self.usd and "cache_read_mtok" not in self.usd:
                self.usd["cache_read_mtok"] = scaled(self.usd["input_mtok"], rate.cache_read_factor)
                self.sources["cache_read_mtok"] = (*self.sources["input_mtok"], source)
            if rate.token_factor is not None:
                for key in [key for key in self.usd if key.endswith("_mtok")]:
                    self.usd[key] = scaled(self.usd[key], rate.token_factor)
                    self.sources[key] = (*self.sources[key], source)

    def discount(self, factor: Decimal, source: str) -> None:
        """Multiply every price."""
        self.usd = {key: scaled(price, factor) for key, price in self.usd.items()}
        self.sources = {key: (*sources, source) for key, sources in self.sources.items()}


def scaled(price: Price, factor: Decimal) -> Price:
    """Return a price times a factor, in all its tiers."""
    if isinstance(price, Decimal):
        return EXACT.multiply(price, factor)
    from genai_prices.types import Tier, TieredPrices  # noqa: PLC0415

    tiers = [Tier(start=tier.start, price=EXACT.multiply(tier.price, factor)) for tier in price.tiers]
    return TieredPrices(base=EXACT.multiply(price.base, factor), tiers=tiers)
