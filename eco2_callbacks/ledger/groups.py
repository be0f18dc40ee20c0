"""GroupReader: the figures of a period's calls, by any of their dimensions."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Any, TypeVar

import sqlalchemy as sa

from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.builds import read_builds, rows_that_hold
from eco2_callbacks.ledger.columns import SERIES_DIMENSIONS
from eco2_callbacks.ledger.figures import SUMS, Figures
from eco2_callbacks.ledger.periods import Period
from eco2_callbacks.ledger.rollups import rated_calls, successful_requests, sums_of
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import period_of

__all__ = ["DIMENSIONS", "PERIODS", "GroupReader", "Key"]

PERIODS = ("day", "week", "month")
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
DIMENSIONS = (*PERIODS, *_COLUMNS)
# A request has these too, with the same meaning as its calls; the others do not narrow the number of requests.
_OF_REQUESTS = frozenset({*PERIODS, "tenant", "user", "session", "intent", "tag", "prompt_version", "feature"})
Key = tuple[str, ...]
# A part of a period, and whether it is read from the roll-ups.
_Part = tuple[Period, bool]
_T = TypeVar("_T")
_MAX_READINGS = 5


class GroupReader:
    """Reads groups: from the roll-ups where they have the dimensions, from the calls themselves otherwise.

    Args:
        backend: The ledger's backend.
        uses_rollups: Whether the roll-ups may be read: they were refreshed.
    """

    def __init__(self, backend: Backend, *, uses_rollups: bool) -> None:
        self._backend = backend
        self._uses_rollups = uses_rollups

    def groups(self, by: tuple[str, ...], period: Period) -> dict[Key, Figures]:
        """Return the figures by the values of the dimensions."""

        def read(connection: Any, parts: Sequence[_Part]) -> tuple[dict[Key, Figures], dict[Key, list[int]]]:
            found: dict[Key, Figures] = {}
            # Over all parts: a group can have its calls in one part, and its requests in another.
            requests: dict[Key, list[int]] = {}
            for part, is_rolled in parts:
                self._read(connection, by, part, found, requests, is_rolled=is_rolled)
            return found, requests

        found, requests = self._read_steadily(read, by, period)
        for key, figures in found.items():
            of_requests = tuple(value for value, name in zip(key, by, strict=True) if name in _OF_REQUESTS)
            figures.requests, figures.successful_requests = requests.get(of_requests, (0, 0))
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

        def read(connection: Any, parts: Sequence[_Part]) -> tuple[int, int]:
            all_requests = all_successful = 0
            for part, is_rolled in parts:
                _, _, requests = self._rolled((), part) if is_rolled else self._raw((), part)
                for count, successful in connection.execute(requests):
                    all_requests += int(count)
                    all_successful += int(successful)
            return all_requests, all_successful

        # Read anew: a request without calls is in no group, one with calls of two models in two.
        total.requests, total.successful_requests = self._read_steadily(read, (), period)
        return total

    def _read_steadily(self, read: Callable[[Any, Sequence[_Part]], _T], by: tuple[str, ...], period: Period) -> _T:
        """Return what ``read`` reads of a period's parts, each hour of it once.

        ClickHouse's queries see each other's changes: where another report has replaced an hour's build meanwhile, all
        is read again.
        """
        parts = self._parts(by, period)
        with self._backend.engine().connect() as connection:
            if self._backend.name != "clickhouse" or not any(is_rolled for _, is_rolled in parts):
                return read(connection, parts)
            for _ in range(_MAX_READINGS):
                builds = read_builds(connection, period.since, period.until)
                found = read(connection, parts)
                if read_builds(connection, period.since, period.until) == builds:
                    return found
            # Builds follow one another faster than they are read.
            return read(connection, [(period, False)])

    def _parts(self, by: tuple[str, ...], period: Period) -> list[_Part]:
        """Return the parts of a period that are read by themselves, and whether from the roll-ups."""
        columns = {_COLUMNS[name] for name in by if name in _COLUMNS}
        rolled_since, rolled_until = period.whole_hours()
        is_rolled = self._uses_rollups and columns <= set(SERIES_DIMENSIONS) and rolled_since < rolled_until
        if is_rolled and any(name in PERIODS for name in by):
            is_rolled = period.has_whole_hours()
        if not is_rolled:
            return [(period, False)]
        edges = [(period.since, rolled_since, False), (rolled_since, rolled_until, True)]
        edges.append((rolled_until, period.until, False))
        return [(replace(period, since=since, until=until), rolled) for since, until, rolled in edges if since < until]

    def _read(
        self,
        connection: Any,
        by: tuple[str, ...],
        period: Period,
        found: dict[Key, Figures],
        requests: dict[Key, list[int]],
        *,
        is_rolled: bool,
    ) -> None:
        """Add a part of the period to groups, and to requests and successful ones by the dimensions they have."""
        sums, histograms, counted = self._rolled(by, period) if is_rolled else self._raw(by, period)
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
        for row in connection.execute(counted):
            *values, count, successful = row
            for key in _keys(values, shared_places):
                seen = requests.setdefault(key, [0, 0])
                seen[0] += int(count)
                seen[1] += int(successful)

    def _rolled(self, by: tuple[str, ...], period: Period) -> tuple[Any, list[Any], Any]:
        series = table("series")
        hourly, histograms, requests = (
            self._that_hold(table(name)) for name in ("hourly_calls", "hourly_histograms", "hourly_requests")
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

    def _that_hold(self, rolled: Any) -> Any:
        """Return a roll-up's rows; in ClickHouse those of each hour's build that holds."""
        return rows_that_hold(rolled) if self._backend.name == "clickhouse" else rolled

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
        counted = sa.select(
            *keys, sa.func.count().label("sum_requests"), successful_requests(request).label("sum_successful")
        )
        return sums, buckets, _grouped(counted.select_from(request), keys, request.c.started_at, period)


def _key_columns(by: Iterable[str], source: Any, time: Any, timezone: str) -> list[Any]:
    return [
        period_of(time, sa.literal(name), sa.literal(timezone)).label(f"key_{name}")
        if name in PERIODS
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
