"""The ledger's tables in SQLAlchemy Core, the same for all backends."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.sql_types import ColumnType

__all__ = ["table"]


def _build() -> dict[str, sa.Table]:
    built, metadata = {}, sa.MetaData()
    for name, table_columns in TABLES.items():
        columns: list[sa.Column[Any]] = [
            sa.Column(
                column.name,
                ColumnType.of(column),
                primary_key=column.name in table_columns.key,
                nullable=column.is_nullable,
                autoincrement=False,
            )
            for column in table_columns.columns
        ]
        built[name] = sa.Table(name, metadata, *columns)
    rating = built["ratings"]
    # A view: of each call the rating that was computed last.
    built["newest_ratings"] = sa.Table(
        "newest_ratings", sa.MetaData(), *(sa.Column(column.name, column.type) for column in rating.columns)
    )
    return built


_TABLES = _build()


def table(name: str) -> sa.Table:
    """Return a table, or the view ``newest_ratings``."""
    return _TABLES[name]
