"""Pricing: what a usage costs, in exact US dollars."""

from __future__ import annotations

from eco2_callbacks.pricing.cost import COST_PARTS, EXACT, Cost
from eco2_callbacks.pricing.listing import Listing, UnusedRate, list_prices, public_models, sellers_of, unused_rates
from eco2_callbacks.pricing.price_book import Context, PriceBook, Quote
from eco2_callbacks.pricing.rates import PRICE_KEYS, Price, Rate
from eco2_callbacks.pricing.rates_used import RatesUsed

__all__ = [
    "COST_PARTS",
    "EXACT",
    "PRICE_KEYS",
    "Context",
    "Cost",
    "Listing",
    "Price",
    "PriceBook",
    "Quote",
    "Rate",
    "RatesUsed",
    "UnusedRate",
    "list_prices",
    "public_models",
    "sellers_of",
    "unused_rates",
]
