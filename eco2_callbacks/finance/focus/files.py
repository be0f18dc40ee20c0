"""Writes and reads FOCUS files, as CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.finance.focus.columns import COLUMNS, CUSTOM_COLUMNS

__all__ = ["read_focus", "write_focus_csv", "write_focus_parquet"]

# Rows of a Parquet file that are in memory at once.
_GROUP = 20_000
_TYPES = {**{column.name: column.data_type for column in COLUMNS}, **CUSTOM_COLUMNS}


def write_focus_csv(columns: Sequence[str], rows: Iterable[Mapping[str, str | None]], file: TextIO) -> None:
    """Write rows as CSV; a null is an empty cell."""
    writer = csv.DictWriter(file, list(columns), lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: value or "" for name, value in row.items()} for row in rows)


def write_focus_parquet(columns: Sequence[str], rows: Iterable[Mapping[str, str | None]], path: Path) -> None:
    """Write rows as Parquet: decimals with twelve places, times in UTC.

    Raises:
        LedgerError: If the extra is not installed.
    """
    pa, pq = _pyarrow()
    kinds = {"decimal": pa.decimal128(38, 12), "time": pa.timestamp("us", "UTC")}
    schema = pa.schema([pa.field(name, kinds.get(_TYPES[name], pa.string())) for name in columns])

    def typed(name: str, value: str | None) -> Any:
        if value is None:
            return None
        if _TYPES[name] == "decimal":
            return Decimal(value).quantize(Decimal("1e-12"))
        return datetime.fromisoformat(value) if _TYPES[name] == "time" else value

    rest = iter(rows)
    with pq.ParquetWriter(path, schema) as writer:
        while group := [{name: typed(name, value) for name, value in row.items()} for row in islice(rest, _GROUP)]:
            writer.write_table(pa.Table.from_pylist(group, schema=schema))


def read_focus(path: Path) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of a file, as texts.

    Raises:
        ConfigError: If it cannot be read.
        LedgerError: If the extra for Parquet is not installed.
    """
    try:
        if path.suffix == ".parquet":
            _, pq = _pyarrow()
            table = pq.read_table(path)
            return list(table.column_names), [
                {name: _plain(value) for name, value in row.items()} for row in table.to_pylist()
            ]
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            return list(reader.fieldnames or ()), rows
    except (OSError, UnicodeDecodeError, ValueError, csv.Error) as error:
        raise ConfigError(f"{str(path)!r} cannot be read: {error}; name a FOCUS file, CSV or Parquet.") from error


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%SZ")
    return f"{value:f}" if isinstance(value, Decimal) else value


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as pa  # noqa: PLC0415  an extra
        import pyarrow.parquet as pq  # noqa: PLC0415
    except ImportError as error:
        raise LedgerError("Parquet needs the extra 'parquet': pip install 'eco2-callbacks[parquet]'.") from error
    return pa, pq
