"""Appends new ratings of stored calls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import sqlalchemy as sa

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.cells import microseconds
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.rows import Row, rating_row
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.pricing import Cost, RatesUsed

__all__ = ["Rating", "append_ratings"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
# So many moments stand in one statement: SQLite takes 32,766 parameters, ClickHouse 256 KiB.
_STARTS_AT_ONCE = 1000


@dataclass(frozen=True, slots=True)
class Rating:
    """A new rating of one call.

    Attributes:
        started_at: When the call started, as in ``calls``.
        run_id: The call's run id.
        cost: What it costs at these prices.
        rates: The prices.
        list_usd: What the public price gives; None where it is unknown.
        margin_usd: What is charged on top of the cost.
        is_unpriced: Whether the cost leaves out a unit or a tier that has no rate.
    """

    started_at: datetime
    run_id: str
    cost: Cost
    rates: RatesUsed | None = None
    list_usd: Decimal | None = None
    cache_savings_usd: Decimal = Decimal(0)
    cache_surcharge_usd: Decimal = Decimal(0)
    margin_usd: Decimal = Decimal(0)
    is_unpriced: bool = False


def append_ratings(
    backend: Backend, ratings: Sequence[Rating], *, at: datetime | None = None, skips_outdated: bool = False
) -> int:
    """Append new ratings of calls; the newest one holds. The hours of the calls are summed up anew.

    Args:
        backend: The ledger's backend.
        ratings: The ratings, one of each call.
        at: When they were computed; None is now.
        skips_outdated: Whether to leave out, and not to refuse, ratings that would not hold: the call started later,
            or has a rating that is as new. A machine whose clock is fast writes such calls.

    Returns:
        How many were appended.

    Raises:
        LedgerError: If there is no ledger, or a rating would not hold; nothing is appended then.
    """
    Schema(backend).require()
    computed_at = microseconds(at or datetime.now(UTC))
    newest = _newest_ratings(backend, ratings)
    rows: list[Row] = []
    for rating in ratings:
        started_at = microseconds(rating.started_at)
        latest = newest.get((started_at, rating.run_id), started_at)
        if computed_at > max(started_at, latest):
            newest[started_at, rating.run_id] = computed_at
            rows.append(_row(rating, computed_at))
        elif not skips_outdated:
            raise LedgerError(
                f"The rating of call {rating.run_id} would not hold: it was computed at {_shown(computed_at)}, and the "
                f"call started at {_shown(started_at)} and has a rating of {_shown(latest)}. Give one rating of each "
                "call, with a later at=."
            )
    if rows:
        backend.store([{"ratings": rows}])
    return len(rows)


def _newest_ratings(backend: Backend, ratings: Sequence[Rating]) -> dict[tuple[int, str], int]:
    """Return when the newest ratings of calls were computed, by start and run id; further calls may be among them."""
    found: dict[tuple[int, str], int] = {}
    rated = table("ratings").c
    starts = sorted({microseconds(rating.started_at) for rating in ratings})
    with backend.engine().connect() as connection:
        for begin in range(0, len(starts), _STARTS_AT_ONCE):
            some = [_moment(start) for start in starts[begin : begin + _STARTS_AT_ONCE]]
            query = (
                sa.select(rated.started_at, rated.run_id, sa.func.max(rated.computed_at, type_=rated.computed_at.type))
                .where(rated.started_at.in_(some))
                .group_by(rated.started_at, rated.run_id)
            )
            for started_at, run_id, computed_at in connection.execute(query):
                found[microseconds(started_at), str(run_id)] = microseconds(computed_at)
    return found


def _row(rating: Rating, computed_at: int) -> Row:
    return rating_row(
        microseconds(rating.started_at),
        rating.run_id,
        computed_at=computed_at,
        rates=rating.rates,
        cost=rating.cost,
        list_usd=rating.list_usd,
        cache_savings_usd=rating.cache_savings_usd,
        cache_surcharge_usd=rating.cache_surcharge_usd,
        margin_usd=rating.margin_usd,
        is_unpriced=rating.is_unpriced,
    )


def _moment(at: int) -> datetime:
    return _EPOCH + timedelta(microseconds=at)


def _shown(at: int) -> str:
    return _moment(at).isoformat()
