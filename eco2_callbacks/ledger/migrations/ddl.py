"""How a migration makes a table or a view on each backend."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
from alembic import op

from eco2_callbacks.ledger.columns import Column
from eco2_callbacks.ledger.sql_types import CLICKHOUSE, ColumnType, clickhouse_type

__all__ = ["add_column", "create_index", "create_newest_view", "create_table", "create_view", "dialect_name"]


def create_table(
    name: str, columns: Sequence[Column], key: Sequence[str], *, time_column: str | None, is_partitioned: bool
) -> None:
    """Create a table.

    Args:
        name: Its name.
        columns: Its columns.
        key: The columns of its key: a second row with the same key is not kept.
        time_column: The column whose months are partitions in ClickHouse; None for one partition.
        is_partitioned: Whether it is partitioned by the month of that column in PostgreSQL too.
    """
    dialect = op.get_bind().dialect.name
    if dialect == CLICKHOUSE:
        # Written out: Alembic's operations name no engine.
        engine, cluster = _clickhouse_options()
        lines = ", ".join(f"`{column.name}` {clickhouse_type(column.kind, column.is_nullable)}" for column in columns)
        by_month = f" PARTITION BY toYYYYMM({time_column})" if time_column else ""
        _execute(
            f"CREATE TABLE IF NOT EXISTS {name}{cluster} ({lines}) ENGINE = {engine}{by_month} "
            f"ORDER BY ({', '.join(key)}){_deduplication(engine)}"
        )
        return
    if _columns_of(name) == {column.name for column in columns}:
        return
    options: dict[str, Any] = {}
    if dialect == "postgresql" and is_partitioned:
        options["postgresql_partition_by"] = f"RANGE ({time_column})"
    op.create_table(
        name,
        *(
            sa.Column(
                column.name,
                ColumnType.of(column),
                primary_key=column.name in key,
                nullable=column.is_nullable,
                autoincrement=False,
            )
            for column in sorted(columns, key=lambda column: key.index(column.name) if column.name in key else len(key))
        ),
        **options,
    )


def create_index(name: str, table: str, *columns: str) -> None:
    """Create an index; ClickHouse scans a column faster than it would look one up."""
    if op.get_bind().dialect.name != CLICKHOUSE:
        op.create_index(name, table, list(columns), if_not_exists=dialect_name() == "sqlite")


def add_column(table: str, column: Column) -> None:
    """Add a column that older rows leave empty."""
    if dialect_name() == CLICKHOUSE:
        kind = clickhouse_type(column.kind, column.is_nullable)
        _execute(f"ALTER TABLE {table}{_clickhouse_options()[1]} ADD COLUMN IF NOT EXISTS `{column.name}` {kind}")
    elif column.name not in _columns_of(table):
        op.add_column(table, sa.Column(column.name, ColumnType.of(column), nullable=column.is_nullable))


def _columns_of(table: str) -> set[str]:
    """Return the columns that a SQLite file has already, none where the table is missing.

    Older versions of this package migrated it statement by statement: a process that was killed left a part behind.
    """
    if dialect_name() != "sqlite":
        return set()
    found = op.get_bind().exec_driver_sql(f"SELECT name FROM pragma_table_info('{table}')")
    return set(found.scalars())


def dialect_name() -> str:
    """Return the name of the backend's SQL dialect."""
    return op.get_bind().dialect.name


def create_view(name: str, query: str) -> None:
    """Create a view, or replace it; PostgreSQL replaces one only by one with the same columns and further ones."""
    dialect = dialect_name()
    if dialect == "sqlite":
        _execute(f"DROP VIEW IF EXISTS {name}")
        _execute(f"CREATE VIEW {name} AS {query}")
    else:
        cluster = _clickhouse_options()[1] if dialect == CLICKHOUSE else ""
        _execute(f"CREATE OR REPLACE VIEW {name}{cluster} AS {query}")


def create_newest_view(name: str, table: str, columns: Sequence[str], key: Sequence[str], newest: str) -> None:
    """Create a view: of each key's rows the one with the greatest value of ``newest``."""
    dialect = dialect_name()
    keys, all_columns = ", ".join(key), ", ".join(columns)
    if dialect == CLICKHOUSE:
        # In the order of the table's key: read as it is stored, only the columns that are wanted, nothing in memory.
        query = f"SELECT {all_columns} FROM {table} ORDER BY {keys}, {newest} DESC LIMIT 1 BY {keys}"
    elif dialect == "postgresql":
        query = f"SELECT DISTINCT ON ({keys}) {all_columns} FROM {table} ORDER BY {keys}, {newest} DESC"
    else:
        same = " AND ".join(f"newer.{column} = rated.{column}" for column in key)
        query = (
            f"SELECT {all_columns} FROM {table} AS rated WHERE NOT EXISTS "
            f"(SELECT 1 FROM {table} AS newer WHERE {same} AND newer.{newest} > rated.{newest})"
        )
    create_view(name, query)


def _deduplication(engine: str) -> str:
    """Return the setting with which a block that is sent twice is stored once; replicated engines do so already."""
    return " SETTINGS non_replicated_deduplication_window = 1000" if engine == "ReplacingMergeTree" else ""


def _execute(statement: str) -> None:
    op.execute(sa.text(statement.replace(":", "\\:")))


def _clickhouse_options() -> tuple[str, str]:
    """Return the tables' engine, and the clause that names a cluster."""
    config = op.get_context().config
    attributes = {} if config is None else config.attributes
    cluster = attributes.get("cluster")
    return attributes.get("table_engine", "ReplacingMergeTree"), f" ON CLUSTER `{cluster}`" if cluster else ""
