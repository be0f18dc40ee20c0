"""Reports on ClickHouse at once: hourly sums stay right, whatever two of them do in whatever order."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from eco2_callbacks.ledger import Backend, Period, Rollups, Schema, backend_of
from eco2_callbacks.ledger.builds import rows_that_hold
from eco2_callbacks.ledger.groups import GroupReader
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.schema import table
from tests.support.ledger_records import AT, call

pytestmark = pytest.mark.slow
_HOUR = timedelta(hours=1)
# More than a refresh or a reader has statements; none beside another.
_HOURS = [AT.replace(minute=0) + 2 * number * _HOUR for number in range(20)]


class _KilledError(Exception):
    """The end of a process."""


class Reporter:
    """One process with a ledger in ClickHouse."""

    def __init__(self, url: str) -> None:
        self.backend: Backend = backend_of(url)
        Schema(self.backend).open()

    def store(self, hour: datetime) -> None:
        self.backend.store([Batch([call(started_at=hour + timedelta(minutes=5))]).rows])

    def refresh(self, hour: datetime) -> None:
        Rollups(self.backend).refresh(hour, hour + _HOUR)

    def read(self, hour: datetime) -> tuple[int, int]:
        """Return the calls of an hour, and those in its histogram of seconds."""
        groups = GroupReader(self.backend, uses_rollups=True).groups((), Period(hour, hour + _HOUR, "UTC"))
        return groups[()].calls, sum(groups[()].seconds_buckets.values())

    @contextmanager
    def before_statement(self, number: int, act: Callable[[], None], *, start: str = "") -> Iterator[list[str]]:
        """Act before one of the block's statements with this start, counted from 0; yield all of them."""
        seen: list[str] = []

        def count_statement(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
            if statement.startswith(start):
                seen.append(statement)
                if len(seen) == number + 1:
                    act()

        engine = self.backend.engine()
        sa.event.listen(engine, "before_cursor_execute", count_statement)
        try:
            yield seen
        finally:
            sa.event.remove(engine, "before_cursor_execute", count_statement)


@pytest.fixture
def reporters(clickhouse: Any) -> Iterator[tuple[Reporter, Reporter]]:
    url = clickhouse.new_database()
    both = Reporter(url), Reporter(url)
    yield both
    for each in both:
        each.backend.close()


# How the statements of a refresh begin: what it reads, inserts, and deletes.
_REFRESH = (
    *("SELECT `changed_hours`.`mark`", "SELECT now64", "INSERT INTO `hourly_calls`", "INSERT INTO `rolled_hours`"),
    *("DELETE FROM `changed_hours`", "DELETE FROM `hourly_calls`", "DELETE FROM `rolled_hours`"),
)


# What another process does in the middle of a refresh: it stores a call (s), it refreshes the hour (r). With a kill the
# refresh itself ends there.
@pytest.mark.parametrize(("steps", "is_killed"), [("sr", False), ("rs", False), ("rs", True)])
def test_refreshes_at_once_lose_no_call(steps: str, is_killed: bool, reporters: tuple[Reporter, Reporter]) -> None:
    """Whatever happens between the steps of a refresh, the sums after the next one have each call once."""
    one, other = reporters
    acts = {"s": other.store, "r": other.refresh}
    wanted: dict[datetime, int] = {}
    for hour, start in zip(_HOURS, _REFRESH, strict=False):
        one.store(hour)

        def meanwhile(hour: datetime = hour) -> None:
            for step in steps:
                acts[step](hour)
            if is_killed:
                raise _KilledError

        with one.before_statement(0, meanwhile, start=start) as statements, suppress(_KilledError):
            one.refresh(hour)
        assert statements, start
        wanted[hour] = 1 + steps.count("s")

    Rollups(other.backend).refresh()

    for name in ("hourly_calls", "hourly_histograms"):
        rows = rows_that_hold(table(name))
        query = sa.select(rows.c.hour, sa.func.sum(rows.c.calls)).group_by(rows.c.hour)
        if name == "hourly_histograms":
            query = query.where(rows.c.measure == "cost")
        with other.backend.engine().connect() as connection:
            found = {at: int(calls) for at, calls in connection.execute(query)}
        assert {at: found.get(at, 0) for at in wanted} == wanted


def test_a_report_sees_each_hour_once(reporters: tuple[Reporter, Reporter]) -> None:
    """An hour that another process builds anew between any two queries of a report is in all of its sums once."""
    one, other = reporters
    for number, hour in enumerate(_HOURS):
        one.store(hour)
        one.refresh(hour)

        def meanwhile(hour: datetime = hour) -> None:
            other.store(hour)
            other.refresh(hour)

        with one.before_statement(number, meanwhile) as statements:
            calls, in_buckets = one.read(hour)
        if len(statements) <= number:
            break
        assert calls in (1, 2), statements[number]
        assert calls == in_buckets, statements[number]
    assert number >= 4


def test_builds_that_follow_one_another_without_end_hold_no_report_up(reporters: tuple[Reporter, Reporter]) -> None:
    """Where each query meets another build, the calls themselves are read."""
    one, other = reporters
    hour = _HOURS[0]
    one.store(hour)
    one.refresh(hour)

    def rebuild(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if "hourly_calls" in statement:
            other.store(hour)
            other.refresh(hour)

    sa.event.listen(one.backend.engine(), "before_cursor_execute", rebuild)
    calls, in_buckets = one.read(hour)

    assert calls == in_buckets
    assert calls > 2


def test_a_clock_that_is_set_back_hides_no_build(reporters: tuple[Reporter, Reporter]) -> None:
    """A build that began after a published one holds, even if that one lies in the future."""
    one, other = reporters
    hour, rolled = _HOURS[0], table("rolled_hours")
    one.store(hour)
    one.refresh(hour)
    with one.backend.engine().connect() as connection:
        (build,) = connection.execute(sa.select(rolled.c.build)).scalars()
        future = {"hour": hour, "build": build, "built_at": datetime(2200, 1, 1, tzinfo=UTC)}
        connection.execute(sa.insert(rolled), [future])
    one.store(hour)

    def kill_at_old_builds(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.startswith("DELETE") and "hourly_calls" in statement:
            raise _KilledError

    sa.event.listen(one.backend.engine(), "before_cursor_execute", kill_at_old_builds)
    with pytest.raises(_KilledError):
        one.refresh(hour)

    assert other.read(hour) == (2, 2)
