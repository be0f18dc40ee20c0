"""Business numbers: active users, questions by intent, and what an active user costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.coverage import read_coverage
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.rollups import rated_calls, successful_requests, sums_of
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import period_of
from eco2_callbacks.pricing import EXACT

__all__ = ["BusinessFigures", "BusinessReport", "IntentFigures", "read_business"]

_ZERO = Decimal(0)
_DOLLARS = ("sum_cost", "sum_unpriced_calls", "sum_estimated_cost")
# A request can have begun before the period in which its calls are.
_MAX_REQUEST = timedelta(days=1)


@dataclass(slots=True)
class BusinessFigures:
    """The figures of a day or a period.

    Attributes:
        active_users: Users with a request or a model call, each counted once.
        usd: Newest ratings; leaves out ``unpriced_calls``.
        estimated_usd: The part of ``usd`` that rests on an estimate.
    """

    active_users: int = 0
    requests: int = 0
    successful_requests: int = 0
    calls: int = 0
    usd: Decimal = _ZERO
    unpriced_calls: int = 0
    estimated_usd: Decimal = _ZERO

    @property
    def usd_per_active_user(self) -> Decimal | None:
        """Dollars for each active user, None without users."""
        return EXACT.divide(self.usd, Decimal(self.active_users)) if self.active_users else None


@dataclass(slots=True)
class IntentFigures:
    """Questions of one intent, none where only calls of no request have it.

    Attributes:
        by_day: Questions by day.
        before: Questions in the period of the same length before; None where the ledger covers less than half of it.
        usd: What the calls of the questions cost, those before the intent was known included. A call whose request has
            not ended, or that has none, counts for its own intent: the dollars of all intents are those of the period.
        unpriced_calls: Calls that these dollars leave out.
        estimated_usd: The part of them that rests on an estimate.
    """

    intent: str
    requests: int = 0
    successful_requests: int = 0
    users: int = 0
    usd: Decimal = _ZERO
    unpriced_calls: int = 0
    estimated_usd: Decimal = _ZERO
    by_day: dict[str, int] = field(default_factory=dict)
    before: int | None = None

    @property
    def change(self) -> float | None:
        """Growth against the period before, None where that had none."""
        return self.requests / self.before - 1 if self.before else None


@dataclass(slots=True)
class BusinessReport:
    """All business numbers of a period.

    Attributes:
        days: By day (YYYY-MM-DD), in order; days without any call or request are left out.
        intents: Those with the most questions first.
        mean_daily_users: Mean of the days' active users.
        before: The period before; None where the ledger covers less than half of it.
        began: When the ledger began, if that is inside the period before; else None.
    """

    period: Period
    days: dict[str, BusinessFigures]
    total: BusinessFigures
    intents: list[IntentFigures]
    before: BusinessFigures | None
    began: datetime | None

    @property
    def mean_daily_users(self) -> float:
        """Mean of the days' active users."""
        return sum(day.active_users for day in self.days.values()) / len(self.days)


def read_business(backend: Backend, period: Period) -> BusinessReport:
    """Return the business numbers of a period.

    Raises:
        LedgerError: If there is no ledger, or it has neither calls nor requests in the period.
    """
    Schema(backend).require()
    with backend.engine().connect() as connection:
        days = _figures(connection, period, by_day=True)
        if not days:
            raise LedgerError(
                f"The ledger {backend.shown_url} has no calls from {period.since.isoformat(timespec='seconds')} to "
                f"{period.until.isoformat(timespec='seconds')}. Choose --since and --until to match."
            )
        total = _figures(connection, period, by_day=False)[""]
        earlier = period.before()
        coverage = read_coverage(connection, earlier)
        before = _figures(connection, earlier, by_day=False).get("", BusinessFigures()) if coverage.suffices else None
        intents = _questions(connection, period)
        _add_dollars(connection, period, intents)
        if before is not None:
            counts = _questions(connection, earlier)
            for intent in intents.values():
                intent.before = counts[intent.intent].requests if intent.intent in counts else 0
    ordered = sorted(intents.values(), key=lambda intent: (-intent.requests, EXACT.minus(intent.usd), intent.intent))
    return BusinessReport(period, dict(sorted(days.items())), total, ordered, before, coverage.began)


def _figures(connection: Any, period: Period, *, by_day: bool) -> dict[str, BusinessFigures]:
    """Return the figures by day, or all under ``""``."""
    found: dict[str, BusinessFigures] = {}
    called, rated, joined = rated_calls(period.since, period.until)
    request = table("requests")
    asked = _inside(sa.select(request), request, period).subquery("asked")

    def keys(source: Any) -> list[Any]:
        if not by_day:
            return []
        return [period_of(source.c.started_at, sa.literal("day"), sa.literal(period.timezone)).label("of_day")]

    def grouped(query: Any, source: Any) -> Any:
        rows = connection.execute(query.group_by(*keys(source)) if by_day else query)
        return [(str(row[0]), row[1:]) if by_day else ("", tuple(row)) for row in rows]

    sums = {column.name: column for column in sums_of(called, rated)}
    chosen = [sums[name] for name in ("sum_calls", *_DOLLARS)]
    for day, (calls, *dollars) in grouped(sa.select(*keys(called), *chosen).select_from(joined), called):
        figures = found.setdefault(day, BusinessFigures())
        figures.calls = int(calls)
        _set_dollars(figures, dollars)
    counted = sa.select(*keys(asked), sa.func.count(), successful_requests(asked)).select_from(asked)
    for day, (requests, successful) in grouped(counted, asked):
        figures = found.setdefault(day, BusinessFigures())
        figures.requests, figures.successful_requests = int(requests), int(successful)
    users = [
        sa.select(*keys(source), source.c.user_id.label("of_user")).where(source.c.user_id.is_not(None))
        for source in (called, asked)
    ]
    active = sa.union_all(*users).subquery("active")
    distinct = sa.func.count(sa.distinct(active.c.of_user))
    if by_day:
        for day, number in connection.execute(sa.select(active.c.of_day, distinct).group_by(active.c.of_day)):
            found.setdefault(str(day), BusinessFigures()).active_users = int(number)
    else:
        found.setdefault("", BusinessFigures()).active_users = int(connection.execute(sa.select(distinct)).scalar_one())
    return found


def _questions(connection: Any, period: Period) -> dict[str, IntentFigures]:
    found: dict[str, IntentFigures] = {}
    request = table("requests")
    day = period_of(request.c.started_at, sa.literal("day"), sa.literal(period.timezone)).label("of_day")
    counts = sa.select(request.c.intent, day, sa.func.count(), successful_requests(request))
    for intent, of_day, requests, successful in connection.execute(
        _inside(counts, request, period).group_by(request.c.intent, day)
    ):
        figures = found.setdefault(intent, IntentFigures(intent))
        figures.requests += int(requests)
        figures.successful_requests += int(successful)
        figures.by_day[str(of_day)] = int(requests)
    users = sa.select(request.c.intent, sa.func.count(sa.distinct(request.c.user_id)))
    for intent, number in connection.execute(_inside(users, request, period).group_by(request.c.intent)):
        found[intent].users = int(number)
    return found


def _add_dollars(connection: Any, period: Period, found: dict[str, IntentFigures]) -> None:
    """Add what each intent cost, with the intents that no question of the period has."""
    called, rated, joined = rated_calls(period.since, period.until)
    sums = {column.name: column for column in sums_of(called, rated)}
    request = table("requests")
    ended = (
        sa.select(request.c.trace_id, sa.func.max(request.c.intent).label("of_request"))
        .where(request.c.started_at >= period.since - _MAX_REQUEST, request.c.started_at < period.until)
        .group_by(request.c.trace_id)
        .subquery("ended")
    )
    # In ClickHouse a call without a request gets an empty text, not NULL.
    intent = sa.func.coalesce(sa.func.nullif(ended.c.of_request, ""), called.c.intent).label("of_intent")
    source = joined.outerjoin(ended, ended.c.trace_id == called.c.trace_id)
    chosen = sa.select(intent, *(sums[name] for name in _DOLLARS)).select_from(source)
    for name, *dollars in connection.execute(chosen.group_by(intent)):
        _set_dollars(found.setdefault(name, IntentFigures(name)), dollars)


def _set_dollars(figures: BusinessFigures | IntentFigures, dollars: Sequence[Any]) -> None:
    usd, unpriced, estimated = dollars
    figures.usd, figures.estimated_usd = Decimal(str(usd or 0)), Decimal(str(estimated or 0))
    figures.unpriced_calls = int(unpriced or 0)


def _inside(query: Any, source: Any, period: Period) -> Any:
    return query.where(source.c.started_at >= period.since, source.c.started_at < period.until)
