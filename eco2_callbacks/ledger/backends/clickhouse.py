"""ClickHouseBackend: a ledger where one machine is not enough."""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger.backends.protocol import Rows
from eco2_callbacks.ledger.backends.sqlite import IDENTIFIERS
from eco2_callbacks.ledger.columns import MARKING, MONEY_DIGITS, TABLES
from eco2_callbacks.pricing import EXACT

if TYPE_CHECKING:
    from sqlalchemy.engine import URL, Engine

__all__ = ["ENGINES", "ClickHouseBackend"]

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DEFAULT_PORTS = {"clickhouse": 8123, "clickhousedb": 8123, "clickhouses": 8443}
_HOUR = 3_600_000_000
# Engines that replace rows of one key. The replicated ones keep a copy on each replica of their shard.
ENGINES = ("ReplacingMergeTree", "ReplicatedReplacingMergeTree", "SharedReplacingMergeTree")
# Rows of one key are merged when they are read; the months of one key are the same. Calls and ratings are stored in
# the order in which they are joined; what cannot be joined in order is joined by a hash.
_SETTINGS = {
    "final": "1",
    "do_not_merge_across_partitions_select_final": "1",
    "join_algorithm": "full_sorting_merge,hash",
}
_SERVER_CODE = re.compile(r"[Cc]ode:? (\d+)")
# Cannot parse a text, a number, a date or a uuid; type mismatch; argument out of bound; NULL where there may be none;
# decimal overflow. Source: src/Common/ErrorCodes.cpp of ClickHouse.
_DATA_CODES = frozenset({6, 26, 27, 38, 41, 53, 69, 70, 72, 131, 321, 349, 376, 407})
_CONVERT: Mapping[str, Callable[[Any], Any]] = {
    "time": lambda at: _EPOCH + timedelta(microseconds=at),
    "uuid": uuid.UUID,
    "money": lambda pico: EXACT.scaleb(pico, -MONEY_DIGITS),
}


class ClickHouseBackend:
    """A ClickHouse server or cluster, over its HTTP interface.

    Args:
        url: ``clickhouse://user:password@host:8123/database``; ``clickhouses://`` for TLS. ``?engine=`` names another
            engine of the tables (``ENGINES``), ``?cluster=`` runs migrations on all its servers. Further parameters
            are clickhouse-connect's.

    Raises:
        ConfigError: If the engine is none of these.
    """

    name = "clickhouse"
    # Each insert is a part that the server has to merge.
    ship_seconds = 1.0
    local_path: Path | None = None

    def __init__(self, url: str) -> None:
        from sqlalchemy.engine import make_url  # noqa: PLC0415

        parsed = make_url(url)
        scheme = parsed.drivername.partition("+")[0]
        query = dict(parsed.query)
        self.table_engine = str(query.pop("engine", ENGINES[0]))
        self.cluster = str(query.pop("cluster", ""))
        if self.table_engine not in ENGINES:
            raise ConfigError(f"The ledger's engine= is {self.table_engine!r}, wanted one of {', '.join(ENGINES)}.")
        if scheme == "clickhouses":
            query["secure"] = "true"
        self._url: URL = parsed.set(
            drivername="clickhousedb",
            host=parsed.host or "localhost",
            port=parsed.port or _DEFAULT_PORTS[scheme],
            database=parsed.database or "default",
            query={"connect_timeout": "5", "send_receive_timeout": "60", **query},
        )
        self.shown_url = parsed.set(query={}).render_as_string(hide_password=True)
        self._engine: Engine | None = None
        self._client: Any = None
        self._known_series: set[int] = set()

    @property
    def database(self) -> str:
        """The database that holds the ledger."""
        return str(self._url.database)

    @property
    def on_cluster(self) -> str:
        """The clause with which a statement runs on all servers of the cluster; ``""`` without one."""
        return f" ON CLUSTER `{self.cluster}`" if self.cluster else ""

    def engine(self) -> Engine:
        """Return the engine that reads, and that migrations use."""
        if self._engine is None:
            import sqlalchemy as sa  # noqa: PLC0415

            try:
                self._engine = sa.create_engine(
                    self._url,
                    # A new client asks the server for all its settings. There is no transaction to roll back.
                    pool_reset_on_return=None,
                    connect_args={f"ch_{name}": value for name, value in _SETTINGS.items()},
                )
            except (ImportError, sa.exc.NoSuchModuleError) as error:
                raise LedgerError(
                    "A ledger in ClickHouse needs the extra 'clickhouse': pip install 'eco2-callbacks[clickhouse]'."
                ) from error
        return self._engine

    def client(self, database: str | None = None) -> Any:
        """Return a client of the server; the connection that writes, unless another database is named."""
        if database is None and self._client is not None:
            return self._client
        import clickhouse_connect  # noqa: PLC0415  an extra

        dsn = self._url.set(drivername="clickhouse", database=database or self._url.database)
        client = clickhouse_connect.get_client(
            dsn=dsn.render_as_string(hide_password=False),
            settings=dict(_SETTINGS),
            autogenerate_session_id=False,
            query_retries=0,
        )
        if database is None:
            self._client = client
        return client

    def has_database(self) -> bool:
        """Return whether the ledger's database exists."""
        client = self.client("default")
        try:
            found = client.query(
                "SELECT count() FROM system.databases WHERE name = {name:String}", {"name": self.database}
            )
            return bool(found.result_rows[0][0])
        finally:
            client.close()

    def create_database(self) -> None:
        """Create the ledger's database if it is missing."""
        client = self.client("default")
        try:
            client.command(f"CREATE DATABASE IF NOT EXISTS `{self.database}`{self.on_cluster}")
        finally:
            client.close()

    def store(self, batches: Sequence[Rows]) -> None:
        """Add rows, table by table; the marks of changed hours come last.

        There is no transaction. If an insert fails all rows are sent again, and replace themselves.
        """
        client = self.client()
        hours = sorted({row[0] - row[0] % _HOUR for b in batches for t in MARKING for row in b.get(t, ())})
        if not any(batch.get(name) for batch in batches for name in TABLES if name != "ratings"):
            # New ratings alone are in no spool. If this process dies after their insert, these marks remain.
            self._mark(client, hours)
        for name in TABLES:
            rows = [row for batch in batches for row in batch.get(name, ())]
            if name == "series":
                rows = list({row[0]: row for row in rows if row[0] not in self._known_series}.values())
            if rows:
                self._insert(client, name, rows)
            if name == "series":
                self._known_series.update(row[0] for row in rows)
        self._mark(client, hours)

    def _mark(self, client: Any, hours: Sequence[int]) -> None:
        """Mark hours as changed; a refresh that runs now deletes only the marks that it saw."""
        if hours:
            self._insert(client, "changed_hours", [(hour, str(uuid.uuid4())) for hour in hours])

    def _insert(self, client: Any, name: str, rows: Sequence[Sequence[Any]]) -> None:
        columns = []
        for column, values in zip(TABLES[name].columns, zip(*rows, strict=True), strict=True):
            convert = _CONVERT.get(column.kind)
            columns.append(
                list(values) if convert is None else [None if value is None else convert(value) for value in values]
            )
        client.insert(
            name,
            columns,
            column_names=TABLES[name].names,
            column_type_names=None,
            column_oriented=True,
            settings={"max_partitions_per_insert_block": 0},
        )

    def refuses(self, error: Exception) -> bool:
        """Return whether a row holds what ClickHouse cannot, as its client or its server finds out."""
        from clickhouse_connect.driver.exceptions import DatabaseError, DataError  # noqa: PLC0415  an extra

        if isinstance(error, DatabaseError) and not isinstance(error, DataError):
            found = _SERVER_CODE.search(str(error))
            return found is not None and int(found.group(1)) in _DATA_CODES
        # The client packs columns itself.
        return isinstance(error, DataError | struct.error | ArithmeticError | AttributeError | TypeError | ValueError)

    def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""
        client, self._client = self._client, None
        self._known_series.clear()
        if client is not None:
            client.close()

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone."""
        self._client = self._engine = None
        self._known_series = set()

    def delete_before(self, at: datetime) -> int:
        """Delete all rows that started before a time; whole months are dropped as partitions."""
        client = self.client()
        before = {"at": at.astimezone(UTC).replace(tzinfo=None)}
        deleted = client.query("SELECT count() FROM calls FINAL WHERE started_at < {at:DateTime64(6, 'UTC')}", before)
        for name, table in TABLES.items():
            column = "started_at" if table.is_monthly else "hour" if "hour" in table.names else None
            if column is None:
                continue
            months = client.query(
                "SELECT DISTINCT partition FROM system.parts WHERE database = currentDatabase() AND active "
                "AND table = {name:String} AND match(partition, '^[0-9]{6}$')",
                {"name": name},
            )
            for (month,) in months.result_rows:
                after = (datetime(int(month[:4]), int(month[4:]), 1, tzinfo=UTC) + timedelta(days=32)).replace(day=1)
                if after <= at:
                    client.command(f"ALTER TABLE {name}{self.on_cluster} DROP PARTITION {int(month)}")
            client.command(
                f"ALTER TABLE {name}{self.on_cluster} DELETE WHERE {column} < {{at:DateTime64(6, 'UTC')}}",
                before,
                settings={"mutations_sync": 2},
            )
        return int(deleted.result_rows[0][0])

    def forget(self, user_id: str) -> int:
        """Erase a user's identifiers from all rows; return how many calls lost theirs."""
        client, user = self.client(), {"user": user_id}
        erased = client.query("SELECT count() FROM calls FINAL WHERE user_id = {user:String}", user)
        for name, table in TABLES.items():
            if "user_id" not in table.names:
                continue
            nulls = ", ".join(f"{column} = NULL" for column in IDENTIFIERS if column in table.names)
            client.command(
                f"ALTER TABLE {name}{self.on_cluster} UPDATE {nulls} WHERE user_id = {{user:String}}",
                user,
                settings={"mutations_sync": 2},
            )
        return int(erased.result_rows[0][0])

    def close(self) -> None:
        """Close all connections."""
        self.reset()
        if self._engine is not None:
            self._engine.dispose()
