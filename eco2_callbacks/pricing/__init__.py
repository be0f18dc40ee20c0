"""Pricing: what a usage costs, in exact US dollars.

What lists prices needs the public price data, and is imported with its first use.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names
from eco2_callbacks.pricing.adjustments import Adjustment
from eco2_callbacks.pricing.bill import billed_counts
from eco2_callbacks.pricing.cost import COST_PARTS, EXACT, Cost
from eco2_callbacks.pricing.exchange import ExchangeRates, check_currency
from eco2_callbacks.pricing.price_book import Context, PriceBook, Quote
from eco2_callbacks.pricing.rates import PRICE_KEYS, Price, Rate
from eco2_callbacks.pricing.rates_used import RatesUsed
from eco2_callbacks.pricing.refresh import PriceRefresh, start_refresh

if TYPE_CHECKING:
    from eco2_callbacks.pricing.listing import (
        Listing,
        UnusedRate,
        list_prices,
        public_models,
        sellers_of,
        unused_rates,
    )

__all__ = [
    "COST_PARTS",
    "EXACT",
    "PRICE_KEYS",
    "Adjustment",
    "Context",
    "Cost",
    "ExchangeRates",
    "Listing",
    "Price",
    "PriceBook",
    "PriceRefresh",
    "Quote",
    "Rate",
    "RatesUsed",
    "UnusedRate",
    "billed_counts",
    "check_currency",
    "list_prices",
    "public_models",
    "sellers_of",
    "start_refresh",
    "unused_rates",
]

__getattr__ = lazy_names(
    __name__, {"listing": ("Listing", "UnusedRate", "list_prices", "public_models", "sellers_of", "unused_rates")}
)
