"""Rollups: hourly sums of calls and requests, rebuilt for the hours that changed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta
from itertools import groupby
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.builds import begin_build
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import hour_of
from eco2_callbacks.ledger.unpriced import is_unpriced_in_sql

__all__ = ["Progress", "Rollups", "count_where", "rated_calls", "successful_requests", "sums_of"]

# Called with the number of hours done and of all.
Progress = Callable[[int, int], None]
_HOUR = timedelta(hours=1)
_HOURS_AT_ONCE = 24
# ClickHouse takes statements of 256 KiB; a mark is a UUID.
_MARKS_AT_ONCE = 4000
_POSTGRES_LOCK = 0x65636F34
_REQUEST_LABELS = ("tenant_id", "feature", "prompt_version", "agent_name", "path", "intent")


class Rollups:
    """The roll-ups of one ledger.

    A batch marks the hours of its rows as changed. ``refresh`` rebuilds those hours from the calls and their newest
    ratings, so that a roll-up is never updated in place.

    Args:
        backend: The ledger's backend.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._is_clickhouse = backend.name == "clickhouse"

    def refresh(
        self, since: datetime | None = None, until: datetime | None = None, *, progress: Progress | None = None
    ) -> int:
        """Rebuild the changed hours of a window, and return how many they were.

        Args:
            since: First moment of the window; None for all.
            until: The moment after it; None for all.
            progress: Told how far it is.
        """
        changed = table("changed_hours")
        query = sa.select(changed.c.hour).distinct().order_by(changed.c.hour)
        if since is not None:
            query = query.where(changed.c.hour > since - _HOUR)
        if until is not None:
            query = query.where(changed.c.hour < until)
        with self._backend.engine().connect() as connection:
            hours = list(connection.execute(query).scalars())
        done = 0
        for chunk in _chunks(hours):
            self._rebuild(chunk)
            done += len(chunk)
            if progress is not None:
                progress(done, len(hours))
        return done

    def _rebuild(self, hours: Sequence[datetime]) -> None:
        """Rebuild adjacent hours."""
        if self._is_clickhouse:
            self._rebuild_clickhouse(hours)
            return
        changed = table("changed_hours")
        engine = self._backend.engine()
        if self._backend.name == "postgres":
            # Marks and rows are read at one moment: a batch that comes later keeps its mark.
            engine = engine.execution_options(isolation_level="REPEATABLE READ")
        with engine.connect() as connection:
            if self._backend.name == "postgres":
                # Taken before the snapshot: the rebuild of another process must be visible.
                connection.execute(sa.text(f"SELECT pg_advisory_lock({_POSTGRES_LOCK})"))
                connection.commit()
            else:
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            try:
                in_window = _window(changed.c.hour, hours)
                marks = list(connection.execute(sa.select(changed.c.hour, changed.c.mark).where(in_window)))
                for name in ("hourly_calls", "hourly_histograms", "hourly_requests"):
                    rolled = table(name)
                    connection.execute(sa.delete(rolled).where(_window(rolled.c.hour, hours)))
                for statement in _insertions(hours, ""):
                    connection.execute(statement)
                for hour, mark in marks:
                    connection.execute(sa.delete(changed).where(changed.c.hour == hour, changed.c.mark == mark))
                connection.commit()
            finally:
                if self._backend.name == "postgres":
                    connection.rollback()
                    connection.execute(sa.text(f"SELECT pg_advisory_unlock({_POSTGRES_LOCK})"))
                    connection.commit()

    def _rebuild_clickhouse(self, hours: Sequence[datetime]) -> None:
        """Insert a new build, publish it, and delete the older ones; ``builds`` says why in this order."""
        changed, rolled = table("changed_hours"), table("rolled_hours")
        with self._backend.engine().connect() as connection:
            marks = list(connection.execute(sa.select(changed.c.mark).where(_window(changed.c.hour, hours))).scalars())
            build = begin_build(connection, hours)
            for statement in _insertions(hours, build.name):
                connection.execute(statement)
            published = [{"hour": hour, "build": build.name, "built_at": build.begun_at} for hour in hours]
            connection.execute(sa.insert(rolled), published)
            for start in range(0, len(marks), _MARKS_AT_ONCE):
                some = marks[start : start + _MARKS_AT_ONCE]
                connection.execute(sa.delete(changed).where(_window(changed.c.hour, hours), changed.c.mark.in_(some)))
            for name in ("hourly_calls", "hourly_histograms", "hourly_requests", "rolled_hours"):
                old = table(name)
                connection.execute(sa.delete(old).where(_window(old.c.hour, hours), old.c.build < build.name))


def rated_calls(since: datetime | None, until: datetime | None) -> tuple[Any, Any, Any]:
    """Return the calls of a window, their newest ratings, and the join of both."""
    calls, newest = table("calls"), table("newest_ratings")
    chosen_calls = sa.select(calls)
    chosen = sa.select(newest)
    for moment, compare in ((since, "__ge__"), (until, "__lt__")):
        if moment is not None:
            chosen_calls = chosen_calls.where(getattr(calls.c.started_at, compare)(moment))
            chosen = chosen.where(getattr(newest.c.started_at, compare)(moment))
    called, rated = chosen_calls.subquery("called"), chosen.subquery("rated")
    on = sa.and_(called.c.started_at == rated.c.started_at, called.c.run_id == rated.c.run_id)
    return called, rated, called.outerjoin(rated, on)


def count_where(condition: Any) -> Any:
    """Return the number of rows with a condition, 0 where there are none."""
    return sa.func.coalesce(sa.func.sum(sa.case((condition, sa.literal(1)), else_=sa.literal(0))), sa.literal(0))


def successful_requests(request: Any) -> Any:
    """Return the number of requests that ended well, of the table ``requests`` or a part of it."""
    return count_where(request.c.status == "success")


def sums_of(called: Any, rated: Any) -> list[Any]:
    """Return the sums of a roll-up over calls and their ratings, in the order of ``hourly_calls``' columns.

    Answers from LangChain's cache consumed no tokens.
    """
    asked = sa.not_(sa.type_coerce(called.c.from_cache, sa.Boolean()))
    is_estimated = sa.type_coerce(called.c.estimated, sa.Boolean())
    no_usd = sa.literal(0, rated.c.contracted_cost.type)

    def total(column: Any) -> Any:
        return sa.func.coalesce(sa.func.sum(sa.case((asked, column), else_=sa.literal(0))), sa.literal(0))

    def dollars(column: Any) -> Any:
        return sa.func.coalesce(sa.func.sum(column), no_usd)

    return [
        sa.func.count().label("sum_calls"),
        count_where(called.c.status == "error").label("sum_errors"),
        total(called.c.input_tokens).label("sum_input_tokens"),
        total(called.c.output_tokens).label("sum_output_tokens"),
        total(called.c.cache_read_tokens).label("sum_cache_read_tokens"),
        total(called.c.reasoning_tokens).label("sum_reasoning_tokens"),
        dollars(rated.c.contracted_cost).label("sum_cost"),
        dollars(rated.c.cache_savings).label("sum_cache_savings"),
        dollars(rated.c.cache_surcharge).label("sum_cache_surcharge"),
        dollars(sa.case((is_estimated, rated.c.contracted_cost), else_=sa.null())).label("sum_estimated_cost"),
        count_where(is_unpriced_in_sql(called, rated)).label("sum_unpriced_calls"),
        sa.func.coalesce(sa.func.sum(called.c.duration_seconds), sa.literal(0.0)).label("sum_seconds"),
    ]


def _insertions(hours: Sequence[datetime], build: str) -> Iterator[Any]:
    """Yield the statements that fill the roll-ups of adjacent hours."""
    since, until = hours[0], hours[-1] + _HOUR
    hourly, histograms, requests = table("hourly_calls"), table("hourly_histograms"), table("hourly_requests")
    called, rated, joined = rated_calls(since, until)
    hour, series, built = hour_of(called.c.started_at).label("of_hour"), called.c.series, sa.literal(build)
    yield sa.insert(hourly).from_select(
        [column.name for column in hourly.columns],
        sa.select(hour, series, built.label("of_build"), *sums_of(called, rated))
        .select_from(joined)
        .group_by(hour, series),
    )
    for measure, bucket in (("seconds", called.c.seconds_bucket), ("cost", rated.c.cost_bucket)):
        yield sa.insert(histograms).from_select(
            [column.name for column in histograms.columns],
            sa.select(
                hour, series, built.label("of_build"), sa.literal(measure).label("of_measure"), bucket, sa.func.count()
            )
            .select_from(called if measure == "seconds" else joined)
            .where(bucket.is_not(None))
            .group_by(hour, series, bucket),
        )
    request = table("requests")
    started = hour_of(request.c.started_at).label("of_hour")
    labels = [sa.func.coalesce(request.c[name], "").label(f"of_{name}") for name in _REQUEST_LABELS]
    yield sa.insert(requests).from_select(
        [column.name for column in requests.columns],
        sa.select(
            started,
            *labels,
            built.label("of_build"),
            sa.func.count(),
            successful_requests(request).label("sum_successful"),
            sa.func.sum(request.c.duration_seconds).label("sum_seconds"),
        )
        .where(request.c.started_at >= since, request.c.started_at < until)
        .group_by(started, *labels),
    )


def _window(column: Any, hours: Sequence[datetime]) -> Any:
    return sa.and_(column >= hours[0], column <= hours[-1])


def _chunks(hours: Sequence[datetime]) -> Iterator[list[datetime]]:
    """Yield runs of adjacent hours, of a day at most."""
    for _, run in groupby(enumerate(hours), key=lambda item: item[1] - item[0] * _HOUR):
        adjacent = [hour for _, hour in run]
        for start in range(0, len(adjacent), _HOURS_AT_ONCE):
            yield adjacent[start : start + _HOURS_AT_ONCE]
