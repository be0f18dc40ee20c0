"""How old the public price data is."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from genai_prices.data_snapshot import DataSnapshot

__all__ = ["updated_at"]


def updated_at(snapshot: DataSnapshot, today: date) -> datetime:
    """Return when price data was current for certain, in UTC.

    Fetched data names its time. The data inside genai-prices has no date: it is at least as new as its latest price,
    so its age is never understated.
    """
    from genai_prices.types import StartDateConstraint  # noqa: PLC0415

    if snapshot.from_auto_update:
        return snapshot.timestamp.astimezone(UTC)
    starts = [
        dated.constraint.start_date
        for provider in snapshot.providers
        for model in provider.models
        for dated in [*(model.prices if isinstance(model.prices, list) else ()), *(model.price_variants or ())]
        if isinstance(dated.constraint, StartDateConstraint) and dated.constraint.start_date <= today
    ]
    return datetime.combine(max(starts, default=date(2024, 11, 1)), time(), UTC)
