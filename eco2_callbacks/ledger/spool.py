"""Spool: batches of rows on the local disk, until they are in the shared backend."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.local_file import FileLock, LocalFile
from eco2_callbacks.ledger.rows import Batch, Row

__all__ = ["Spool", "SpoolFullError", "SpooledBatch", "default_spool_folder", "spool_path"]

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY AUTOINCREMENT, oldest REAL NOT NULL, "
    "records INTEGER NOT NULL, rows BLOB NOT NULL)"
)


class SpoolFullError(Exception):
    """The spool holds as much as it may."""


class SpooledBatch(NamedTuple):
    """Rows by table, each in the order of ``TABLES``' columns of this version.

    Attributes:
        oldest: When its first record was handed over, in seconds since 1970.
        records: Number of records.
    """

    batch_id: int
    oldest: float
    records: int
    rows: Mapping[str, Sequence[Row]]


def default_spool_folder(environ: Mapping[str, str] = os.environ) -> Path:
    """Return ``ECO2_LEDGER_SPOOL``, or the user's folder for the state of programs."""
    if named := environ.get("ECO2_LEDGER_SPOOL", "").strip():
        return Path(named)
    state = environ.get("XDG_STATE_HOME", "").strip()
    return (Path(state) if state else Path.home() / ".local" / "state") / "eco2"


def spool_path(folder: Path, backend: str, shown_url: str) -> Path:
    """Return the spool of one backend in a folder; the URL is the one without password."""
    return folder / f"{backend}-{hashlib.blake2b(shown_url.encode(), digest_size=6).hexdigest()}.spool"


class Spool:
    """The spool of one backend. Several processes can share it: one at a time ships.

    Args:
        path: The file.
        max_bytes: What it may hold.

    Raises:
        LedgerError: If it cannot be written.
    """

    def __init__(self, path: Path, *, max_bytes: int) -> None:
        self._file = LocalFile(path, schema=_SCHEMA, what="ledger's spool")
        self._max_bytes = max_bytes
        self.path = path
        self._shipping = FileLock(path.with_name(path.name + ".ship"))
        self._file.check()

    def append(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises:
            SpoolFullError: If the spool holds as much as it may.
            sqlite3.Error: If the disk is full, or the file is corrupt.
        """
        tables = {name: {"columns": TABLES[name].names, "rows": rows} for name, rows in batch.rows.items() if rows}
        encoded = msgspec.msgpack.encode(tables)
        with self._file.lock:
            connection = self._file.connection()
            pages, free, page_bytes = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * page_bytes + len(encoded) > self._max_bytes:
                raise SpoolFullError
            connection.execute(
                "INSERT INTO batches (oldest, records, rows) VALUES (?, ?, ?)", (batch.oldest, batch.records, encoded)
            )

    def read(self, max_records: int) -> list[SpooledBatch]:
        """Return the oldest batches, at least one if there is one."""
        found: list[SpooledBatch] = []
        records = 0
        with self._file.lock:
            cursor = self._file.connection().execute("SELECT id, oldest, records, rows FROM batches ORDER BY id")
            for batch_id, oldest, count, encoded in cursor:
                if found and records + count > max_records:
                    break
                records += count
                found.append(SpooledBatch(batch_id, oldest, count, _decode(encoded)))
            cursor.close()
        return found

    def remove(self, batches: Sequence[SpooledBatch]) -> None:
        """Remove batches that the backend has."""
        with self._file.lock:
            connection = self._file.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                connection.executemany("DELETE FROM batches WHERE id = ?", [(batch.batch_id,) for batch in batches])
                connection.execute("COMMIT")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def oldest(self) -> float | None:
        """Return when the oldest record was handed over, in seconds since 1970; None if there is none."""
        with self._file.lock:
            row = self._file.connection().execute("SELECT min(oldest) FROM batches").fetchone()
        found: float | None = row[0]
        return found

    def waiting(self) -> int:
        """Return the number of records that wait."""
        with self._file.lock:
            return int(self._file.connection().execute("SELECT coalesce(sum(records), 0) FROM batches").fetchone()[0])

    def rewrite(self, change: Callable[[str, Row], Row]) -> None:
        """Replace every waiting row, given with its table's name, by what the function returns."""
        with self._file.lock:
            connection = self._file.connection()
            connection.execute("BEGIN IMMEDIATE")
            try:
                for batch_id, encoded in connection.execute("SELECT id, rows FROM batches").fetchall():
                    tables = {
                        name: {"columns": TABLES[name].names, "rows": [change(name, row) for row in rows]}
                        for name, rows in _decode(encoded).items()
                    }
                    connection.execute(
                        "UPDATE batches SET rows = ? WHERE id = ?", (msgspec.msgpack.encode(tables), batch_id)
                    )
                connection.execute("COMMIT")
                # The old rows are in free pages and in the WAL until then.
                connection.execute("VACUUM")
                connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            except BaseException:
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise

    def salvage(self) -> int:
        """Move a corrupt spool aside, keep its readable batches, and return how many records are lost at least.

        The file cannot say what it held, so a loss of unknown size counts as one.
        """
        before = time.time()
        kept: list[SpooledBatch] = []
        is_whole = False
        with suppress(sqlite3.Error, msgspec.DecodeError):
            cursor = self._file.connection().execute("SELECT id, oldest, records, rows FROM batches ORDER BY id")
            for batch_id, oldest, count, encoded in cursor:
                kept.append(SpooledBatch(batch_id, oldest, count, _decode(encoded)))
            is_whole = True
        aside = self._file.move_aside()
        if aside is None:
            return 0
        for batch in kept:
            rebuilt = Batch(at=min(batch.oldest, before))
            rebuilt.rows.update({name: list(rows) for name, rows in batch.rows.items()})
            rebuilt.records = batch.records
            self.append(rebuilt)
        return 0 if is_whole else 1

    def try_lock(self) -> bool:
        """Become the process that ships, if no other one is; ``unlock`` ends it."""
        return self._shipping.acquire()

    def unlock(self) -> None:
        """Let another process ship."""
        self._shipping.release()

    def after_fork_in_child(self) -> None:
        """Leave the parent's files alone."""
        self._file.after_fork_in_child()
        self._shipping.after_fork_in_child()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _decode(encoded: bytes) -> dict[str, list[Row]]:
    """Return the rows in this version's order of columns: another version may have written them."""
    tables: dict[str, Any] = msgspec.msgpack.decode(encoded)
    decoded: dict[str, list[Row]] = {}
    for name, table in tables.items():
        if name not in TABLES:
            continue
        names, columns = TABLES[name].names, list(table["columns"])
        if tuple(columns) == names:
            decoded[name] = [tuple(row) for row in table["rows"]]
            continue
        places = [columns.index(column) if column in columns else None for column in names]
        decoded[name] = [tuple(None if place is None else row[place] for place in places) for row in table["rows"]]
    return decoded
