"""Coverage: how much of a period a ledger can know of, as it began at some moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.schema import table

__all__ = ["Coverage", "read_coverage"]


@dataclass(frozen=True, slots=True)
class Coverage:
    """What a ledger can know of a period.

    Attributes:
        began: Start of the ledger's first call or request, if that lies inside the period; else None.
        suffices: Whether it covers at least half of the period, so that another one can be compared with it.
    """

    began: datetime | None
    suffices: bool


def read_coverage(connection: Any, period: Period) -> Coverage:
    """Return what a ledger can know of a period."""
    starts = [
        # The first one itself: in ClickHouse the least of no rows is 1970.
        connection.execute(sa.select(started).order_by(started).limit(1)).scalar()
        for started in (table(name).c.started_at for name in ("calls", "requests"))
    ]
    first = min((start for start in starts if start is not None), default=None)
    if first is None or first <= period.since:
        return Coverage(None, first is not None)
    if first >= period.until:
        return Coverage(None, False)
    return Coverage(first, first <= period.since + (period.until - period.since) / 2)
