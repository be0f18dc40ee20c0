"""Rows that a store refuses as data: found among the others, and kept aside."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from eco2_callbacks.ledger.backends import Backend, Rows
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.local_file import open_private
from eco2_callbacks.ledger.rows import Row
from eco2_callbacks.log_once import is_first

__all__ = ["RefusedRow", "RefusedRows", "refused_path", "store_apart"]

_logger = logging.getLogger(__name__)
_MAX_BYTES = 64 * 2**20


class RefusedRow(NamedTuple):
    """A row that a store did not take, with the reason."""

    table: str
    row: Row
    error: Exception


def store_apart(backend: Backend, batches: Sequence[Rows]) -> list[RefusedRow]:
    """Store rows that were refused together: in halves of halves, until each refused row is alone; return those.

    Raises:
        Exception: What the backend raised, where the fault lies not in the rows. All of them can be stored again.
    """
    rows = [(name, row) for name in TABLES for batch in batches for row in batch.get(name, ())]
    refused: list[RefusedRow] = []
    # The next part is the last one.
    parts = [rows] if rows else []
    while parts:
        part = parts.pop()
        try:
            backend.store([_by_table(part)])
        except Exception as error:
            if not backend.refuses(error):
                raise
            # A failed transaction, or a cache that is out of date.
            backend.reset()
            if len(part) == 1:
                refused.append(RefusedRow(*part[0], error))
            else:
                middle = len(part) // 2
                parts += [part[middle:], part[:middle]]
    return refused


def _by_table(rows: Sequence[tuple[str, Row]]) -> dict[str, list[Row]]:
    found: dict[str, list[Row]] = {}
    for name, row in rows:
        found.setdefault(name, []).append(row)
    return found


def refused_path(path: Path) -> Path:
    """Return the file of the refused rows beside a ledger's file or spool."""
    return path.with_name(path.name + ".refused")


class RefusedRows:
    """Keeps refused rows beside the ledger's file or spool, one JSON object a line.

    Args:
        path: The ledger's file, or its spool.
    """

    def __init__(self, path: Path) -> None:
        self.path = refused_path(path)

    def add(self, rows: Sequence[RefusedRow]) -> None:
        """Keep rows, as far as the file's bound allows; the first one is logged."""
        for refused in rows:
            if is_first("ledger", "refused", str(self.path)):
                _logger.error(
                    "The ledger does not take a row of %s (%s: %s). It is kept in %s and counted in "
                    'ledger_lost_rows_total{reason="corrupt"}; so are further ones, without a message.',
                    refused.table,
                    type(refused.error).__name__,
                    _first_line(refused.error),
                    self.path,
                )
        lines = "".join(_line(refused) for refused in rows)
        try:
            if not self.path.is_file() or self.path.stat().st_size < _MAX_BYTES:
                with open(self.path, "a", encoding="utf-8", opener=open_private) as file:
                    file.write(lines)
        except OSError:
            if is_first("ledger", "refused", "file", str(self.path)):
                _logger.exception("Refused rows of the ledger cannot be kept in %s.", self.path)

    def count(self) -> int:
        """Return how many rows are kept."""
        return sum(1 for _ in self._lines())

    def rewrite(self, change: Callable[[str, Row], Row]) -> None:
        """Replace every row, given with its table's name, by what the function returns."""
        if not self.path.is_file():
            return
        lines = []
        for line in self._lines():
            kept = json.loads(line)
            values = kept["values"]
            if kept["table"] in TABLES:
                names = TABLES[kept["table"]].names
                row = change(kept["table"], tuple(values.get(name) for name in names))
                kept["values"] = dict(zip(names, row, strict=True))
            lines.append(json.dumps(kept) + "\n")
        beside = self.path.with_name(self.path.name + ".new")
        with open(beside, "w", encoding="utf-8", opener=open_private) as file:
            file.writelines(lines)
        beside.replace(self.path)

    def _lines(self) -> Iterator[str]:
        if self.path.is_file():
            with open(self.path, encoding="utf-8") as file:
                yield from file


def _line(refused: RefusedRow) -> str:
    values = dict(zip(TABLES[refused.table].names, refused.row, strict=True))
    kept: dict[str, Any] = {
        "at": datetime.now(UTC).isoformat(),
        "table": refused.table,
        "error": f"{type(refused.error).__name__}: {_first_line(refused.error)}",
        "values": values,
    }
    # ASCII: it holds a NUL and half a character too.
    return json.dumps(kept, default=str) + "\n"


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return lines[0][:200] if lines else ""
