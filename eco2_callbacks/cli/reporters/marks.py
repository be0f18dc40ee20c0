"""Marks on dollars that are not whole or not exact, the same in every output for people."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eco2_callbacks.ledger import Mover

__all__ = ["began_remark", "change_usd", "estimate_remark", "marked_usd", "mover_note", "usd"]


def usd(amount: Decimal) -> str:
    """Return dollars with two to six decimal places, as many as show something."""
    places = 2 if abs(amount) >= 100 else 4 if abs(amount) >= 1 else 6
    return f"{amount:,.{places}f}"


def marked_usd(amount: Decimal, *, unpriced_calls: int = 0, estimated_usd: Decimal = Decimal(0)) -> str:
    """Return dollars with ``?`` where calls without a price are left out, and ``~`` where a part is an estimate."""
    return f"{'?' if unpriced_calls else ''}{'~' if estimated_usd else ''}{usd(amount)}"


def change_usd(mover: Mover) -> str:
    """Return by how many dollars a mover's cost changed, with its sign, and ``?`` where dollars are unknown."""
    sign = "+" if mover.change_usd > 0 else ""
    return f"{'?' if mover.unpriced_calls else ''}{sign}{usd(mover.change_usd)}"


def mover_note(mover: Mover) -> str:
    """Return the change as a percentage, ``new`` where there was no cost before, and nothing where it is unknown."""
    if mover.is_new:
        return "new"
    return "" if mover.change_share is None else f"{mover.change_share:+.0%}"


def estimate_remark(estimated: Decimal, currency: str = "USD") -> str:
    """Return what ``~`` stands for."""
    return f"~ {usd(estimated)} {currency} rest on an estimate"


def began_remark(began: datetime) -> str:
    """Return why a comparison with the period before is not of two whole ones."""
    return f"The ledger began on {began:%Y-%m-%d}: it has a part of the period before."
