"""How a batch's rows are encoded in the spool: as MessagePack, each table with the names of its columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.rows import Row

__all__ = ["decode_rows", "encode_rows", "try_decode_rows"]


class _Table(msgspec.Struct):
    """Rows of one table as they are encoded."""

    columns: Sequence[str]
    rows: list[Row]


def encode_rows(tables: Mapping[str, Sequence[Row]]) -> bytes:
    """Return rows by table as they are spooled."""
    return msgspec.msgpack.encode(
        {name: {"columns": TABLES[name].names, "rows": rows} for name, rows in tables.items()}
    )


def try_decode_rows(encoded: bytes) -> dict[str, list[Row]] | None:
    """Return the rows of a batch, None where it is damaged."""
    try:
        return decode_rows(encoded)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return None


def decode_rows(encoded: bytes) -> dict[str, list[Row]]:
    """Return the rows in this version's order of columns: another version may have written them.

    Raises:
        msgspec.DecodeError: If these are no rows.
        ValueError: If a row has another number of cells than its table has columns.
    """
    decoded: dict[str, list[Row]] = {}
    for name, table in _decode_tables(encoded).items():
        columns = list(table.columns)
        if any(len(row) != len(columns) for row in table.rows):
            raise ValueError(f"a row of {name!r} has not {len(columns)} cells")
        if name not in TABLES:
            continue
        names = TABLES[name].names
        if tuple(columns) == names:
            decoded[name] = table.rows
            continue
        places = [columns.index(column) if column in columns else None for column in names]
        decoded[name] = [tuple(None if place is None else row[place] for place in places) for row in table.rows]
    return decoded


_decode_tables = msgspec.msgpack.Decoder(dict[str, _Table]).decode
