"""Report: what calls consumed and cost in a period, by any of their dimensions."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any

import sqlalchemy as sa

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.columns import SERIES_DIMENSIONS
from eco2_callbacks.ledger.figures import SUMS, Figures
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.rollups import Progress, Rollups, rated_calls, sums_of
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import period_of

__all__ = ["DIMENSIONS", "Group", "Mover", "Report", "make_report"]

_PERIODS = ("day", "week", "month")
# Dimension -> column of the calls.
_COLUMNS: Mapping[str, str] = MappingProxyType(
    {
        "tenant": "tenant_id",
        "user": "user_id",
        "session": "session_id",
        "agent": "agent_name",
        "node": "node",
        "path": "path",
        "purpose": "purpose",
        "intent": "intent",
        "model": "model",
        "provider": "provider",
        "tag": "tags",
        "prompt_version": "prompt_version",
        "feature": "feature",
    }
)
DIMENSIONS = (*_PERIODS, *_COLUMNS)
# A request has these too, with the same meaning as its calls; the others do not narrow the number of requests.
_OF_REQUESTS = frozenset({*_PERIODS, "tenant", "user", "session", "intent", "tag", "prompt_version", "feature"})
_MAX_MOVERS = 5

Key = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Group:
    """One row of a report: the values of the dimensions, and the figures."""

    key: Key
    figures: Figures


@dataclass(frozen=True, slots=True)
class Mover:
    """A group whose cost changed against the period before, without its dates."""

    key: Key
    now: Figures
    before: Figures


@dataclass(frozen=True, slots=True)
class Report:
    """A report.

    Attributes:
        by: The dimensions of the groups.
        groups: The dearest first; by date, if the first dimension is one. A call with several tags is in several.
        total: All calls once.
        movers_by: The dimensions of the movers.
        movers: The greatest changes of cost first.
    """

    by: tuple[str, ...]
    period: Period
    groups: tuple[Group, ...]
    total: Figures
    movers_by: tuple[str, ...]
    movers: tuple[Mover, ...]


def make_report(
    backend: Backend,
    by: Sequence[str],
    period: Period,
    *,
    progress: Progress | None = None,
    is_read_only: bool = False,
) -> Report:
    """Return the report of a period.

    Args:
        backend: The ledger's backend.
        by: Some of ``DIMENSIONS``.
        period: The period.
        progress: Told how many changed hours are summed up.
        is_read_only: Whether nothing may be written: the calls themselves are read, and not their hourly sums.

    Raises:
        ConfigError: If a dimension is unknown or given twice.
        LedgerError: If there is no ledger, or it has no calls in the period.
    """
    by = tuple(by)
    if unknown := [name for name in by if name not in DIMENSIONS]:
        raise ConfigError(f"--by is {unknown[0]!r}, wanted some of {', '.join(DIMENSIONS)}.")
    if len(set(by)) != len(by) or sum(name in _PERIODS for name in by) > 1:
        raise ConfigError(f"--by is {', '.join(by)!r}, wanted each dimension once, and one of {', '.join(_PERIODS)}.")
    Schema(backend).require()
    reader = _Reader(backend, uses_rollups=not is_read_only)
    movers_by = tuple(name for name in by if name not in _PERIODS) or ("model",)
    earlier = period.before()
    if not is_read_only:
        Rollups(backend).refresh(earlier.since, period.until, progress=progress)
    groups = reader.groups(by, period)
    total = reader.total(groups, by, period)
    if not total.calls:
        raise LedgerError(_empty(backend, period))
    now = groups if movers_by == by else reader.groups(movers_by, period)
    before = reader.groups(movers_by, earlier)
    is_dated = bool(by) and by[0] in _PERIODS
    ordered = sorted(
        groups.items(),
        key=lambda item: (item[0][0] if is_dated else "", -item[1].cost, -item[1].calls, item[0]),
    )
    movers = [Mover(key, now.get(key, Figures()), before.get(key, Figures())) for key in {**now, **before}]
    movers = [mover for mover in movers if mover.now.cost != mover.before.cost]
    movers.sort(key=lambda mover: (-abs(mover.now.cost - mover.before.cost), mover.key))
    return Report(
        by,
        period,
        tuple(Group(key, figures) for key, figures in ordered),
        total,
        movers_by,
        tuple(movers[:_MAX_MOVERS]) if before else (),
    )


class _Reader:
    """Reads groups: from the roll-ups where they have the dimensions, from the calls themselves otherwise."""

    def __init__(self, backend: Backend, *, uses_rollups: bool) -> None:
        self._backend = backend
        self._uses_rollups = uses_rollups

    def groups(self, by: tuple[str, ...], period: Period) -> dict[Key, Figures]:
        """Return the figures by the values of the dimensions."""
        found: dict[Key, Figures] = {}
        with self._backend.engine().connect() as connection:
            for part, is_rolled in self._parts(by, period):
                self._read(connection, by, part, found, is_rolled=is_rolled)
        return found

    def total(self, groups: Mapping[Key, Figures], by: tuple[str, ...], period: Period) -> Figures:
        """Return the figures of all calls, each once; ``groups`` are those of the same period."""
        if "tag" in by:
            return self.groups((), period).get((), Figures())
        total = Figures()
        for figures in groups.values():
            total.add_group(figures)
        if not total.calls:
            return total
        # Read anew: a request without calls is in no group, one with calls of two models in two.
        with self._backend.engine().connect() as connection:
            for part, is_rolled in self._parts((), period):
                _, _, requests = self._rolled((), part) if is_rolled else self._raw((), part)
                for count, successful in connection.execute(requests):
                    total.requests += int(count)
                    total.successful_requests += int(successful or 0)
        return total

    def _parts(self, by: tuple[str, ...], period: Period) -> list[tuple[Period, bool]]:
        """Return the parts of a period that are read by themselves, and whether from the roll-ups."""
        columns = {_COLUMNS[name] for name in by if name in _COLUMNS}
        rolled_since, rolled_until = period.whole_hours()
        is_rolled = self._uses_rollups and columns <= set(SERIES_DIMENSIONS) and rolled_since < rolled_until
        if is_rolled and any(name in _PERIODS for name in by):
            is_rolled = period.has_whole_hours()
        if not is_rolled:
            return [(period, False)]
        edges = [(period.since, rolled_since, False), (rolled_since, rolled_until, True)]
        edges.append((rolled_until, period.until, False))
        return [(replace(period, since=since, until=until), rolled) for since, until, rolled in edges if since < until]

    def _read(
        self, connection: Any, by: tuple[str, ...], period: Period, found: dict[Key, Figures], *, is_rolled: bool
    ) -> None:
        sums, histograms, requests = self._rolled(by, period) if is_rolled else self._raw(by, period)
        places = [place for place, name in enumerate(by) if name == "tag"]
        for row in connection.execute(sums):
            for key in _keys(row[: len(by)], places):
                found.setdefault(key, Figures()).add(dict(zip(SUMS, row[len(by) :], strict=True)))
        for query in histograms:
            for row in connection.execute(query):
                *values, measure, bucket, calls = row
                for key in _keys(values, places):
                    figures = found.setdefault(key, Figures())
                    buckets = figures.seconds_buckets if measure == "seconds" else figures.cost_buckets
                    buckets[int(bucket)] += int(calls)
        shared = [name for name in by if name in _OF_REQUESTS]
        shared_places = [place for place, name in enumerate(shared) if name == "tag"]
        counts: dict[Key, list[int]] = {}
        for row in connection.execute(requests):
            *values, count, successful = row
            for key in _keys(values, shared_places):
                seen = counts.setdefault(key, [0, 0])
                seen[0] += int(count)
                seen[1] += int(successful or 0)
        for key, figures in found.items():
            of_request = tuple(value for value, name in zip(key, by, strict=True) if name in _OF_REQUESTS)
            count, successful = counts.get(of_request, (0, 0))
            figures.requests += count
            figures.successful_requests += successful

    def _rolled(self, by: tuple[str, ...], period: Period) -> tuple[Any, list[Any], Any]:
        series = table("series")
        hourly, histograms, requests = (
            self._newest_builds(table(name)) for name in ("hourly_calls", "hourly_histograms", "hourly_requests")
        )
        needs_series = any(name in _COLUMNS for name in by)

        def grouped(rolled: Any, *, joins: bool) -> tuple[list[Any], Any]:
            labels = series if joins else rolled
            keys = _key_columns(by, labels, rolled.c.hour, period.timezone)
            return keys, rolled.join(series, rolled.c.series == series.c.id) if joins else rolled

        keys, source = grouped(hourly, joins=needs_series)
        sums = _grouped(
            sa.select(*keys, *(sa.func.sum(hourly.c[name]).label(f"sum_{name}") for name in SUMS)).select_from(source),
            keys,
            hourly.c.hour,
            period,
        )
        keys, source = grouped(histograms, joins=needs_series)
        buckets = _grouped(
            sa.select(
                *keys, histograms.c.measure, histograms.c.bucket, sa.func.sum(histograms.c.calls).label("sum_calls")
            ).select_from(source),
            [*keys, histograms.c.measure, histograms.c.bucket],
            histograms.c.hour,
            period,
        )
        keys = _key_columns([name for name in by if name in _OF_REQUESTS], requests, requests.c.hour, period.timezone)
        counted = sa.select(
            *keys,
            sa.func.coalesce(sa.func.sum(requests.c.requests), 0).label("sum_requests"),
            sa.func.coalesce(sa.func.sum(requests.c.successful), 0).label("sum_successful"),
        )
        return sums, [buckets], _grouped(counted.select_from(requests), keys, requests.c.hour, period)

    def _newest_builds(self, rolled: Any) -> Any:
        """Return a roll-up's rows; in ClickHouse those of each hour's newest build."""
        if self._backend.name != "clickhouse":
            return rolled
        built = table("rolled_hours")
        newest = sa.select(built.c.hour, sa.func.argMax(built.c.build, built.c.built_at)).group_by(built.c.hour)
        return (
            sa.select(rolled)
            .where(sa.tuple_(rolled.c.hour, rolled.c.build).in_(newest))
            .subquery(f"newest_{rolled.name}")
        )

    def _raw(self, by: tuple[str, ...], period: Period) -> tuple[Any, list[Any], Any]:
        called, rated, joined = rated_calls(period.since, period.until)
        keys = _key_columns(by, called, called.c.started_at, period.timezone)
        sums = _grouped(sa.select(*keys, *sums_of(called, rated)).select_from(joined), keys)
        buckets = []
        for measure, bucket in (("seconds", called.c.seconds_bucket), ("cost", rated.c.cost_bucket)):
            query = sa.select(
                *keys, sa.literal(measure).label("of_measure"), bucket, sa.func.count().label("sum_calls")
            )
            source = called if measure == "seconds" else joined
            buckets.append(_grouped(query.select_from(source).where(bucket.is_not(None)), [*keys, bucket]))
        request = table("requests")
        keys = _key_columns(
            [name for name in by if name in _OF_REQUESTS], request, request.c.started_at, period.timezone
        )
        successful = sa.func.sum(sa.case((request.c.status == "success", sa.literal(1)), else_=sa.literal(0)))
        counted = sa.select(*keys, sa.func.count().label("sum_requests"), successful.label("sum_successful"))
        return sums, buckets, _grouped(counted.select_from(request), keys, request.c.started_at, period)


def _key_columns(by: Iterable[str], source: Any, time: Any, timezone: str) -> list[Any]:
    return [
        period_of(time, sa.literal(name), sa.literal(timezone)).label(f"key_{name}")
        if name in _PERIODS
        else source.c[_COLUMNS[name]].label(f"key_{name}")
        for name in by
    ]


def _grouped(query: Any, keys: Sequence[Any], time: Any = None, period: Period | None = None) -> Any:
    if period is not None:
        query = query.where(time >= period.since, time < period.until)
    return query.group_by(*keys) if keys else query


def _keys(values: Sequence[Any], tag_places: Sequence[int]) -> list[Key]:
    """Return the groups that a row belongs to: one for each of its tags, if it is grouped by them."""
    if not tag_places:
        return [tuple(map(_text, values))]
    place = tag_places[0]
    stored = values[place]
    tags = json.loads(stored) if isinstance(stored, str) else stored or []
    return [tuple(_text(tag if at == place else value) for at, value in enumerate(values)) for tag in tags or [""]]


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _empty(backend: Backend, period: Period) -> str:
    calls = table("calls")
    with backend.engine().connect() as connection:
        number = connection.execute(sa.select(sa.func.count()).select_from(calls)).scalar_one()
        first, last = connection.execute(
            sa.select(sa.func.min(calls.c.started_at), sa.func.max(calls.c.started_at))
        ).one()
    shown = f"The ledger {backend.shown_url} has no calls from {_shown(period.since)} to {_shown(period.until)}"
    if not number:
        return f"{shown}, and none at all; run an application with this ledger first."
    return f"{shown}; it has {number} from {_shown(first)} to {_shown(last)}. Choose --since and --until to match."


def _shown(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds")
