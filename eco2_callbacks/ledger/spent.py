"""Reads what calls cost, by the values that a budget's rules select by."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

import msgspec
import sqlalchemy as sa

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.sink import LedgerSink
from eco2_callbacks.ledger.sql_types import bucket_of_time

__all__ = ["Spent", "SpentQuery", "read_spent", "spent_of"]

# So much of each column stands in a statement; ClickHouse takes 256 KiB.
_MAX_WANTED = 500
_MAX_WANTED_BYTES = 50_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SpentQuery:
    """Which calls are added up.

    Attributes:
        since: The first moment at which they started.
        until: The moment before which they started; None for any.
        columns: Columns of a call to group by.
        by_metadata: Whether to group by the kept metadata too.
        bucket_seconds: Length of the stretches of time to group by; 0 for none.
        wanted: Column -> the only values of interest; further values may be returned.
    """

    since: datetime
    until: datetime | None = None
    columns: tuple[str, ...] = ()
    by_metadata: bool = False
    bucket_seconds: int = 0
    wanted: Mapping[str, Collection[str]] = field(default_factory=dict)


class Spent(NamedTuple):
    """What the calls of one group cost.

    Attributes:
        values: Column -> value; ``""`` where a call has none.
        metadata: Key -> value of the kept metadata.
        bucket: Number of the stretch of time since 1970; 0 where none was wanted.
        usd: The sum of their newest ratings.
    """

    values: Mapping[str, str]
    metadata: Mapping[str, str]
    bucket: int
    usd: Decimal


def spent_of(sink: LedgerSink, query: SpentQuery) -> list[Spent]:
    """Return what calls cost in the ledger of a sink; what is in its spool is not there yet.

    Raises:
        LedgerError: If the backend cannot be read.
    """
    return read_spent(sink._backend, query)


def read_spent(backend: Backend, query: SpentQuery) -> list[Spent]:
    """Return what calls cost, by group.

    Raises:
        LedgerError: If there is no ledger, or it cannot be read.
    """
    Schema(backend).require()
    try:
        with backend.engine().connect() as connection:
            rows = connection.execute(_statement(query)).all()
    except sa.exc.SQLAlchemyError as error:
        raise LedgerError(f"The ledger {backend.shown_url} cannot be read: {type(error).__name__}.") from error
    return [
        Spent(
            {key: str(value or "") for key, value in zip(query.columns, row, strict=False)},
            _decode(row[-3]),
            int(row[-2]),
            row[-1],
        )
        for row in rows
    ]


def _statement(query: SpentQuery) -> Any:
    calls, ratings = table("calls"), table("newest_ratings")
    columns = {name: sa.func.coalesce(_column(calls, name), "").label(f"of_{name}") for name in query.columns}
    grouped: list[Any] = list(columns.values())
    bucket: Any = sa.literal_column("0").label("of_bucket")
    metadata: Any = sa.literal_column("''").label("of_metadata")
    if query.by_metadata:
        metadata = calls.c.metadata.label("of_metadata")
        grouped.append(metadata)
    if query.bucket_seconds:
        bucket = bucket_of_time(calls.c.started_at, sa.literal(query.bucket_seconds)).label("of_bucket")
        grouped.append(bucket)
    on = sa.and_(ratings.c.started_at == calls.c.started_at, ratings.c.run_id == calls.c.run_id)
    statement = (
        sa.select(*columns.values(), metadata, bucket, sa.func.sum(ratings.c.contracted_cost).label("usd"))
        .select_from(calls.join(ratings, on))
        .where(
            calls.c.started_at >= query.since,
            ratings.c.started_at >= query.since,
            ratings.c.contracted_cost.is_not(None),
            *(() if query.until is None else (calls.c.started_at < query.until,)),
            *(
                sa.func.coalesce(_column(calls, name), "").in_(sorted(wanted))
                for name, wanted in query.wanted.items()
                if name in columns and _fits(wanted)
            ),
        )
    )
    return statement.group_by(*grouped) if grouped else statement.having(sa.func.count() > 0)


def _fits(wanted: Collection[str]) -> bool:
    return len(wanted) <= _MAX_WANTED and sum(len(value.encode()) for value in wanted) <= _MAX_WANTED_BYTES


def _column(calls: Any, key: str) -> Any:
    if key != "model":
        return calls.c[key]
    # A rule names the model that is requested.
    return sa.case((calls.c.request_model != "", calls.c.request_model), else_=calls.c.model)


def _decode(metadata: Any) -> Mapping[str, str]:
    """Return kept metadata: PostgreSQL gives an object, the others its JSON."""
    kept = msgspec.json.decode(metadata) if isinstance(metadata, str) and metadata else metadata
    return {key: str(value) for key, value in kept.items()} if isinstance(kept, dict) else {}
