"""Nanodollars: the whole numbers in which budgets are added up.

A billionth of a dollar fits any rate, and whole numbers add up exactly in every store. Amounts are rounded up.
"""

from __future__ import annotations

from decimal import Decimal

from eco2_callbacks.pricing import EXACT

__all__ = ["from_nano", "to_nano"]

_NANO = Decimal("1e9")
_NANO_USD = Decimal("1e-9")
_ONE = Decimal(1)


def to_nano(usd: Decimal) -> int:
    """Return dollars as nanodollars, rounded up."""
    exact = EXACT.multiply(usd, _NANO)
    whole = int(exact)
    return whole + (whole < exact)


def from_nano(nano: int) -> Decimal:
    """Return nanodollars as dollars, without trailing zeros."""
    usd = EXACT.multiply(Decimal(nano), _NANO_USD).normalize(EXACT)
    # Normalised, a round amount becomes 1E+2.
    return usd.quantize(_ONE, context=EXACT) if usd == usd.to_integral_value() else usd
