"""The builds of ClickHouse's hourly sums: which one of an hour holds while others are made and read.

ClickHouse has no transactions and no locks. Each refresh inserts a build of its own, in this order:

1. It reads the marks of the changed hours.
2. It begins its build: the server's clock dates it.
3. It sums up the calls, then publishes the build in ``rolled_hours``.
4. It deletes the marks that it read, then the builds that began before its own, also those that were never published.

Of the published builds of an hour the one that began last holds. It sums up all rows whose marks another refresh
deletes: that refresh read its marks before it began, and so before this one read the calls. A build is deleted only
after one that began later is published, so that the one that holds is always whole.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import sqlalchemy as sa

from eco2_callbacks.ledger.cells import microseconds
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sql_types import ColumnType

__all__ = ["Build", "begin_build", "read_builds", "rows_that_hold"]

_STEP = timedelta(microseconds=1)


class Build(NamedTuple):
    """One build; the names of builds sort by their beginning."""

    name: str
    begun_at: datetime


def begin_build(connection: Any, hours: Sequence[datetime]) -> Build:
    """Begin a build of adjacent hours, after every published one, even if the server's clock was set back."""
    built = table("rolled_hours")
    now = sa.func.now64(6, "UTC", type_=ColumnType("time"))
    query = sa.select(now, sa.func.max(built.c.built_at)).where(built.c.hour >= hours[0], built.c.hour <= hours[-1])
    # The greatest of no times is 1970.
    begun_at, newest_at = connection.execute(query).one()
    begun_at = max(begun_at, newest_at + _STEP)
    return Build(f"{microseconds(begun_at):016}-{uuid.uuid4()}", begun_at)


def rows_that_hold(rolled: Any) -> Any:
    """Return the rows of a table of hourly sums that belong to the builds that hold."""
    return (
        sa.select(rolled)
        .where(sa.tuple_(rolled.c.hour, rolled.c.build).in_(_holding()))
        .subquery(f"newest_{rolled.name}")
    )


def read_builds(connection: Any, since: datetime, until: datetime) -> tuple[int, int]:
    """Return what tells the builds that hold in a period from any others: their number, and a hash of their names."""
    holding = _holding(since, until).subquery("holding")
    query = sa.select(sa.func.count(), sa.func.groupBitXor(sa.func.cityHash64(holding.c.hour, holding.c.build_of_hour)))
    count, hashed = connection.execute(query.select_from(holding)).one()
    return int(count), int(hashed)


def _holding(since: datetime | None = None, until: datetime | None = None) -> Any:
    """Return the query of each hour's build that holds."""
    built = table("rolled_hours").c
    newest = sa.func.argMax(built.build, sa.tuple_(built.built_at, built.build)).label("build_of_hour")
    query = sa.select(built.hour, newest).group_by(built.hour)
    return query if since is None else query.where(built.hour >= since, built.hour < until)
