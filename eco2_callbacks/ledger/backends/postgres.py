"""PostgresBackend: a ledger that a team shares, partitioned by month."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends.protocol import Rows
from eco2_callbacks.ledger.backends.sqlite import IDENTIFIERS
from eco2_callbacks.ledger.columns import MARKING, MONEY_DIGITS, TABLES, Column

if TYPE_CHECKING:
    import psycopg
    from sqlalchemy.engine import Engine

__all__ = ["SCHEMA", "PostgresBackend", "month_bounds"]

# The ledger's tables stand in a schema of their own: an application's can have the same names.
SCHEMA = "eco2"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400_000_000
_LOCK = 0x65636F32  # any number that is ours: "eco2"
_CONNECT_SECONDS = 5
_DEAD_PEER_MILLISECONDS = 30_000
# The class of SQLSTATE: psycopg takes it for a fault of the server.
_LIMIT_EXCEEDED = "54"
# Types of the table that rows are copied into, and how they become those of the ledger's.
_STAGED = {
    **dict.fromkeys(("time", "int", "money"), "bigint"),
    **dict.fromkeys(("uuid", "code", "text", "json"), "text"),
    "float": "double precision",
    "bool": "boolean",
}
_CONVERTED = {
    "time": "timestamptz 'epoch' + {0} * interval '1 microsecond'",
    "uuid": "{0}::uuid",
    "money": f"{{0}} * 1e-{MONEY_DIGITS}::numeric",
    "json": "{0}::jsonb",
}


class PostgresBackend:
    """A PostgreSQL database, version 12 or later.

    Args:
        url: ``postgresql://user:password@host/database``. The ledger is in the schema ``eco2``, or in the one that
            the URL's ``options`` name (``?options=-csearch_path%3Dother``).
    """

    name = "postgres"
    ship_seconds = 0.2
    local_path: Path | None = None

    def __init__(self, url: str) -> None:
        from sqlalchemy.engine import make_url  # noqa: PLC0415

        self._url = make_url(url).set(drivername="postgresql+psycopg")
        self.shown_url = self._url.set(drivername="postgresql").render_as_string(hide_password=True)
        self.has_own_schema = "options" not in self._url.query
        self._engine: Engine | None = None
        self._connection: psycopg.Connection[Any] | None = None
        self._partitions: set[str] = set()

    def _connect_args(self) -> dict[str, Any]:
        args: dict[str, Any] = {"connect_timeout": _CONNECT_SECONDS, "tcp_user_timeout": _DEAD_PEER_MILLISECONDS}
        if self.has_own_schema:
            args["options"] = f"-csearch_path={SCHEMA}"
        return args

    def engine(self) -> Engine:
        """Return the engine that reads, and that migrations use."""
        if self._engine is None:
            import sqlalchemy as sa  # noqa: PLC0415
            from sqlalchemy.pool import NullPool  # noqa: PLC0415

            try:
                self._engine = sa.create_engine(self._url, poolclass=NullPool, connect_args=self._connect_args())
            except ImportError as error:
                raise LedgerError(
                    "A ledger in PostgreSQL needs the extra 'postgres': pip install 'eco2-callbacks[postgres]'."
                ) from error
        return self._engine

    def connection(self) -> psycopg.Connection[Any]:
        """Return the connection that writes."""
        if self._connection is None or self._connection.closed:
            import psycopg  # noqa: PLC0415  an extra

            dsn = self._url.set(drivername="postgresql").render_as_string(hide_password=False)
            self._connection = psycopg.connect(dsn, **self._connect_args())
        return self._connection

    def store(self, batches: Sequence[Rows]) -> None:
        """Add rows in one transaction: copied to a temporary table, and from there to the ledger's."""
        connection = self.connection()
        started = [row[0] for b in batches for name in TABLES if TABLES[name].is_monthly for row in b.get(name, ())]
        self._make_partitions(connection, started)
        hours = {row[0] - row[0] % 3_600_000_000 for b in batches for t in MARKING for row in b.get(t, ())}
        with connection.transaction(), connection.cursor() as cursor:
            for name, table in TABLES.items():
                # In the order of their keys, so that two shippers never wait for each other.
                places = [table.names.index(column) for column in table.key]
                rows = sorted(
                    (row for batch in batches for row in batch.get(name, ())),
                    key=lambda row, places=places: [row[place] for place in places],  # type: ignore[misc]
                )
                if rows:
                    self._copy(cursor, name, table.columns, rows)
            if hours:
                # A mark of its own for each batch: a roll-up that runs now deletes only those that it saw.
                cursor.execute(
                    "INSERT INTO changed_hours (hour, mark) SELECT timestamptz 'epoch' + h * interval '1 microsecond', "
                    "gen_random_uuid()::text FROM unnest(%s::bigint[]) AS h",
                    (sorted(hours),),
                )

    def _copy(self, cursor: Any, name: str, columns: Sequence[Column], rows: Iterable[Sequence[Any]]) -> None:
        names = ", ".join(column.name for column in columns)
        staged = ", ".join(f"{column.name} {_STAGED[column.kind]}" for column in columns)
        cursor.execute(f"CREATE TEMPORARY TABLE IF NOT EXISTS staged_{name} ({staged}) ON COMMIT DELETE ROWS")
        with cursor.copy(f"COPY staged_{name} ({names}) FROM STDIN") as copy:
            for row in rows:
                copy.write_row(row)
        selected = ", ".join(_CONVERTED.get(column.kind, "{0}").format(column.name) for column in columns)
        cursor.execute(f"INSERT INTO {name} ({names}) SELECT {selected} FROM staged_{name} ON CONFLICT DO NOTHING")

    def _make_partitions(self, connection: Any, started: Iterable[int]) -> None:
        """Make the partitions of the months that rows start in."""
        # Few days, many times.
        days = {at // _DAY for at in started}
        months = {(_EPOCH + timedelta(days=day)).strftime("%Y-%m") for day in days}
        for month in sorted(months - self._partitions):
            year, number = map(int, month.split("-"))
            first, after = month_bounds(datetime(year, number, 1, tzinfo=UTC))
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute("SELECT pg_advisory_xact_lock(%s)", (_LOCK,))
                for name, table in TABLES.items():
                    if table.is_monthly:
                        cursor.execute(
                            f"CREATE TABLE IF NOT EXISTS {name}_{first:%Y_%m} PARTITION OF {name} "
                            f"FOR VALUES FROM ('{first:%Y-%m-%d} 00:00:00+00') TO ('{after:%Y-%m-%d} 00:00:00+00')"
                        )
            self._partitions.add(month)

    def refuses(self, error: Exception) -> bool:
        """Return whether a row holds what PostgreSQL cannot.

        That is a NUL, a number out of range, a text that is no uuid, or one that is longer than an index takes.
        """
        import psycopg  # noqa: PLC0415  an extra

        if isinstance(error, psycopg.Error) and (error.sqlstate or "").startswith(_LIMIT_EXCEEDED):
            return True
        return isinstance(error, psycopg.DataError | psycopg.IntegrityError | OverflowError | TypeError | ValueError)

    def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""
        connection, self._connection = self._connection, None
        self._partitions.clear()
        if connection is not None:
            connection.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone: closing one here would end the parent's session."""
        if self._connection is not None:
            _open_before_fork.append(self._connection)
        self._connection = self._engine = None

    def delete_before(self, at: datetime) -> int:
        """Delete all rows that started before a time; whole months are dropped with their partitions."""
        connection = self.connection()
        with connection.transaction(), connection.cursor() as cursor:
            cursor.execute("SELECT count(*) FROM calls WHERE started_at < %s", (at,))
            (deleted,) = cursor.fetchone() or (0,)
            for name, table in TABLES.items():
                if not table.is_monthly:
                    if "hour" in table.names:
                        cursor.execute(f"DELETE FROM {name} WHERE hour < %s", (at,))
                    continue
                cursor.execute(
                    "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = %s::regclass", (name,)
                )
                for (partition,) in cursor.fetchall():
                    year, number = map(int, partition[-7:].split("_"))
                    if month_bounds(datetime(year, number, 1, tzinfo=UTC))[1] <= at:
                        cursor.execute(f"DROP TABLE {partition}")
                cursor.execute(f"DELETE FROM {name} WHERE started_at < %s", (at,))
        self._partitions.clear()
        return int(deleted)

    def forget(self, user_id: str) -> int:
        """Erase a user's identifiers from all rows; return how many calls lost theirs."""
        connection, erased = self.connection(), 0
        with connection.transaction(), connection.cursor() as cursor:
            for name, table in TABLES.items():
                if "user_id" not in table.names:
                    continue
                nulls = ", ".join(f"{column} = NULL" for column in IDENTIFIERS if column in table.names)
                cursor.execute(f"UPDATE {name} SET {nulls} WHERE user_id = %s", (user_id,))
                erased += cursor.rowcount if name == "calls" else 0
        return erased

    def close(self) -> None:
        """Close all connections."""
        self.reset()
        if self._engine is not None:
            self._engine.dispose()


# Connections of a parent process, which a forked child must not close.
_open_before_fork: list[Any] = []


def month_bounds(day: datetime) -> tuple[datetime, datetime]:
    """Return the first moment of a day's month and of the month after, in UTC."""
    first = day.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
    return first, (first + timedelta(days=32)).replace(day=1)
