"""SQLiteBackend: a ledger in one file, without a server. The file is its own spool."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends.protocol import Rows
from eco2_callbacks.ledger.cells import microseconds
from eco2_callbacks.ledger.columns import MARKING, TABLES
from eco2_callbacks.ledger.local_file import LocalFile
from eco2_callbacks.ledger.rows import Row

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["IDENTIFIERS", "SQLiteBackend", "erased"]

_HOUR = 3_600_000_000
_DAY = timedelta(days=1)
_INSERTS = {
    name: f"INSERT INTO {name} ({', '.join(table.names)}) VALUES ({', '.join('?' * len(table.columns))}) "
    "ON CONFLICT DO NOTHING"
    for name, table in TABLES.items()
}
# A value that cannot be bound is an InterfaceError up to Python 3.11, a ProgrammingError later.
_REFUSALS = (
    *(OverflowError, TypeError, ValueError),
    *(sqlite3.DataError, sqlite3.IntegrityError, sqlite3.InterfaceError, sqlite3.ProgrammingError),
)
# What eco2 ledger forget erases.
IDENTIFIERS = ("user_id", "session_id", "job_id", "response_id", "metadata")


class SQLiteBackend:
    """A SQLite file in WAL mode; reports read it while processes write.

    Args:
        path: The file.
    """

    name = "sqlite"
    ship_seconds = 0.0

    def __init__(self, path: Path) -> None:
        self.local_path: Path | None = path
        self.shown_url = f"sqlite:///{path}"
        self.file = LocalFile(path, schema="", what="ledger")
        self._engine: Engine | None = None

    def engine(self) -> Engine:
        """Return the engine that reads, and that migrations use."""
        if self._engine is None:
            import sqlalchemy as sa  # noqa: PLC0415
            from sqlalchemy.pool import NullPool  # noqa: PLC0415

            self._engine = sa.create_engine(
                f"sqlite:///{self.local_path}", poolclass=NullPool, connect_args={"timeout": 30.0}
            )
            sa.event.listen(self._engine, "connect", _prepare)
            sa.event.listen(self._engine, "handle_error", self._explain)
        return self._engine

    def _explain(self, context: Any) -> None:
        if "integer overflow" in str(context.original_exception):
            raise LedgerError(
                f"Calls of the ledger {self.shown_url} cost more than 9.2 million dollars together, more than SQLite "
                "can add up; choose a shorter period, or keep this ledger in PostgreSQL."
            ) from context.original_exception

    def store(self, batches: Sequence[Rows]) -> None:
        """Add rows in one transaction."""
        with self.file.transaction() as connection:
            for name, insert in _INSERTS.items():
                for batch in batches:
                    if rows := batch.get(name):
                        connection.executemany(insert, rows)
            hours = {row[0] - row[0] % _HOUR for b in batches for t in MARKING for row in b.get(t, ())}
            # Writers follow one another, so that one mark an hour is enough.
            connection.executemany(_INSERTS["changed_hours"], [(hour, "") for hour in hours])

    def refuses(self, error: Exception) -> bool:
        """Return whether a row holds what SQLite cannot: a number over 64 bits, half a character."""
        return isinstance(error, _REFUSALS)

    def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""
        self.file.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone."""
        self.file.after_fork_in_child()
        self._engine = None

    def delete_before(self, at: datetime) -> int:
        """Delete all rows that started before a time; return how many calls they were.

        The file keeps its size: new rows fill the free pages.
        """
        before, deleted = microseconds(at), 0
        with self.file.lock:
            with self.file.transaction() as connection:
                for name, table in TABLES.items():
                    column = "started_at" if table.is_monthly else "hour" if "hour" in table.names else None
                    if column is not None:
                        found = connection.execute(f"DELETE FROM {name} WHERE {column} < ?", (before,))
                        deleted += found.rowcount if name == "calls" else 0
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return deleted

    def forget(self, user_id: str) -> int:
        """Erase a user's identifiers from all rows; return how many calls lost theirs."""
        erased = 0
        with self.file.lock:
            # Erased rows are overwritten with zeros.
            self.file.connection().execute("PRAGMA secure_delete=ON")
            with self.file.transaction() as connection:
                for name, table in TABLES.items():
                    if "user_id" not in table.names:
                        continue
                    nulls = ", ".join(f"{column} = NULL" for column in IDENTIFIERS if column in table.names)
                    found = connection.execute(f"UPDATE {name} SET {nulls} WHERE user_id = ?", (user_id,))
                    erased += found.rowcount if name == "calls" else 0
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return erased

    def close(self) -> None:
        """Close all connections."""
        self.file.close()
        if self._engine is not None:
            self._engine.dispose()


def erased(columns: Sequence[str], row: Row, user_id: str) -> Row:
    """Return a row without the identifiers of a user, if it is the user's."""
    if "user_id" not in columns or row[columns.index("user_id")] != user_id:
        return row
    return tuple(None if name in IDENTIFIERS else value for name, value in zip(columns, row, strict=True))


def _prepare(connection: sqlite3.Connection, _: Any) -> None:
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA cache_size=-65536")
    connection.create_function("eco2_period", 3, _period, deterministic=True)


def _period(started_at: int | None, unit: str, zone: str) -> str | None:
    """Return the first day of the period that a time lies in, as YYYY-MM-DD."""
    if started_at is None:
        return None
    # Offsets are multiples of a quarter of an hour: so few arguments that they are remembered.
    return _period_of_quarter(started_at // 900_000_000, unit, zone)


@lru_cache(maxsize=100_000)
def _period_of_quarter(quarter: int, unit: str, zone: str) -> str:
    local = datetime.fromtimestamp(quarter * 900, UTC).astimezone(_zone(zone)).date()
    return first_day(local, unit).isoformat()


_zone = lru_cache(maxsize=64)(partial(ZoneInfo))


def first_day(day: date, unit: str) -> date:
    """Return the first day of the day, week (from Monday) or month that a day lies in."""
    if unit == "week":
        return day - day.weekday() * _DAY
    return day.replace(day=1) if unit == "month" else day
