"""Spool: batches of rows on the local disk, until they are in the shared backend."""

from __future__ import annotations

import hashlib
import logging
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.local_file import FileLock, LocalFile, corrupt_suffix, open_private, open_sqlite
from eco2_callbacks.ledger.row_encoding import encode_rows, try_decode_rows
from eco2_callbacks.ledger.rows import Batch, Row
from eco2_callbacks.log_once import is_first

__all__ = ["Spool", "SpoolFullError", "SpooledBatch", "default_spool_folder", "spool_path"]

_logger = logging.getLogger(__name__)
# Longer than a server takes to answer, or a connection to break.
_PAUSE_SECONDS = 180.0
_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS batches (id INTEGER PRIMARY KEY AUTOINCREMENT, oldest REAL NOT NULL, "
    "records INTEGER NOT NULL, rows BLOB NOT NULL)"
)
_SELECT = "SELECT id, oldest, records, CAST(rows AS BLOB) FROM batches ORDER BY id"
_INSERT = "INSERT INTO batches (oldest, records, rows) VALUES (?, ?, ?)"


class SpoolFullError(Exception):
    """The spool holds as much as it may."""


class _DamagedBatch(NamedTuple):
    """A batch that cannot be decoded: SQLite has no checksums of what is in a cell."""

    batch_id: int
    records: int
    encoded: bytes


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


def _ignore(records: int) -> None:
    """Do nothing: a command counts nothing."""


class Spool:
    """The spool of one backend. Several processes can share it: one at a time ships.

    Args:
        path: The file.
        max_bytes: What it may hold.
        on_damaged: Called with the number of records of batches that cannot be decoded.

    Raises:
        LedgerError: If it cannot be written.
    """

    def __init__(self, path: Path, *, max_bytes: int, on_damaged: Callable[[int], None] = _ignore) -> None:
        self._file = LocalFile(path, schema=_SCHEMA, what="ledger's spool")
        self._max_bytes = max_bytes
        self._on_damaged = on_damaged
        self.path = path
        self._ship_path, self._turn_path = (path.with_name(f"{path.name}.{name}") for name in ("ship", "turn"))
        self._shipping = FileLock(self._ship_path)
        self._turn = FileLock(self._turn_path)
        self._file.check()

    def append(self, batch: Batch) -> None:
        """Make a batch durable.

        Raises:
            SpoolFullError: If the spool holds as much as it may.
            LedgerError: If another process does not end to replace the file.
            sqlite3.Error: If the disk is full, or the file is corrupt.
        """
        encoded = encode_rows({name: rows for name, rows in batch.rows.items() if rows})
        with self._file.lock:
            self._file.follow()
            connection = self._file.connection()
            pages, free, page_bytes = (
                connection.execute(f"PRAGMA {name}").fetchone()[0]
                for name in ("page_count", "freelist_count", "page_size")
            )
            if (pages - free) * page_bytes + len(encoded) > self._max_bytes:
                raise SpoolFullError
            values = batch.oldest, batch.records, encoded
            connection.execute(_INSERT, values)
            # Another process has moved the file aside, perhaps after it read the old one.
            while self._file.follow():
                self._file.connection().execute(_INSERT, values)

    def read(self, max_records: int) -> list[SpooledBatch]:
        """Return the oldest batches, at least one if there is one; damaged ones are set aside."""
        found: list[SpooledBatch] = []
        damaged: list[_DamagedBatch] = []
        records = 0
        with self._file.lock:
            cursor = self._file.connection().execute(_SELECT)
            for batch_id, oldest, count, encoded in cursor:
                if found and records + count > max_records:
                    break
                if (rows := try_decode_rows(encoded)) is None:
                    damaged.append(_DamagedBatch(batch_id, count, encoded))
                    continue
                records += count
                found.append(SpooledBatch(batch_id, oldest, count, rows))
            cursor.close()
            if damaged:
                with self._file.transaction() as connection:
                    self._set_aside(connection, damaged)
        self._report(damaged)
        return found

    def remove(self, batches: Sequence[SpooledBatch]) -> None:
        """Remove batches that the backend has."""
        with self._file.transaction() as connection:
            # A spool that was begun anew meanwhile gives the same ids to other batches.
            connection.executemany(
                "DELETE FROM batches WHERE id = ? AND oldest = ?", [(each.batch_id, each.oldest) for each in batches]
            )

    def oldest(self) -> float | None:
        """Return when the oldest record was handed over, in seconds since 1970; None if there is none."""
        with self._file.lock:
            # Another process may hold up the replacement: what waits is then seen at the next look.
            with suppress(LedgerError):
                self._file.follow()
            row = self._file.connection().execute("SELECT min(oldest) FROM batches").fetchone()
        found: float | None = row[0]
        return found

    def may_hold_batches(self) -> bool:
        """Return whether batches wait, True where the file cannot be read: the shipper finds out what it is."""
        try:
            return self.oldest() is not None
        except sqlite3.Error:
            return True

    def waiting(self) -> int:
        """Return the number of records that wait."""
        with self._file.lock:
            return int(self._file.connection().execute("SELECT coalesce(sum(records), 0) FROM batches").fetchone()[0])

    def rewrite(self, change: Callable[[str, Row], Row]) -> None:
        """Replace every waiting row, given with its table's name, by what the function returns.

        Damaged batches are set aside. Call it inside ``paused()``: a batch on its way is not changed.
        """
        damaged: list[_DamagedBatch] = []
        with self._file.lock:
            with self._file.transaction() as connection:
                for batch_id, _, records, encoded in connection.execute(_SELECT).fetchall():
                    if (tables := try_decode_rows(encoded)) is None:
                        damaged.append(_DamagedBatch(batch_id, records, encoded))
                        continue
                    changed = encode_rows({name: [change(name, row) for row in rows] for name, rows in tables.items()})
                    connection.execute("UPDATE batches SET rows = ? WHERE id = ?", (changed, batch_id))
                self._set_aside(connection, damaged)
            # The old rows are in free pages and in the WAL until then.
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._report(damaged)

    def _set_aside(self, connection: sqlite3.Connection, damaged: Sequence[_DamagedBatch]) -> None:
        """Move batches to files of their own."""
        for batch in damaged:
            aside = self.path.with_name(f"{self.path.name}.{corrupt_suffix()}-{batch.batch_id}")
            try:
                with open(aside, "wb", opener=open_private) as file:
                    file.write(batch.encoded)
            except OSError:
                if is_first("ledger", "spool", "aside", str(self.path)):
                    _logger.exception("A damaged batch of the ledger's spool cannot be kept in %s.", aside)
        _delete(connection, damaged)

    def _report(self, damaged: Sequence[_DamagedBatch]) -> None:
        """Log and count damaged batches; each counts as one record at least."""
        if not damaged:
            return
        if is_first("ledger", "spool", "damaged", str(self.path)):
            _logger.error(
                "%d batches of the ledger's spool %s cannot be decoded. They are kept beside it as *.corrupt-* and "
                'counted in ledger_lost_rows_total{reason="corrupt"}; so are further ones, without a message.',
                len(damaged),
                self.path,
            )
        self._on_damaged(sum(max(1, batch.records) for batch in damaged))

    def salvage(self) -> int:
        """Move a corrupt spool aside, keep its readable batches, and return how many records are lost at least.

        A damaged batch counts as its records. The file cannot say what else it held, so that a loss of unknown size
        counts as one.
        """
        with self._file.lock:
            # Another thread or process that met the same damage may have begun it anew already.
            if self._is_sound() or (aside := self._file.move_aside()) is None:
                return 0
            return self._take_over(aside)

    def _is_sound(self) -> bool:
        try:
            self._file.follow()
            return bool(self._file.connection().execute("PRAGMA quick_check(1)").fetchone() == ("ok",))
        except sqlite3.Error:
            return False

    def _take_over(self, aside: Path) -> int:
        """Append what a file that was moved aside holds, and return how many of its records are lost at least.

        It is read after the move: a process that writes to it later finds out, and writes to the new file.
        """
        before = time.time()
        kept: list[SpooledBatch] = []
        is_whole = False
        lost = 0
        with suppress(sqlite3.Error), closing(open_sqlite(aside)) as connection:
            for batch_id, oldest, count, encoded in connection.execute(_SELECT):
                if (decoded := try_decode_rows(encoded)) is None:
                    lost += max(1, count)
                else:
                    kept.append(SpooledBatch(batch_id, oldest, count, decoded))
            is_whole = True
        for batch in kept:
            rebuilt = Batch(at=min(batch.oldest, before))
            rebuilt.rows.update({name: list(rows) for name, rows in batch.rows.items()})
            rebuilt.records = batch.records
            self.append(rebuilt)
        return lost + (not is_whole)

    def try_lock(self) -> bool:
        """Become the process that ships, if no other one is and none pauses them; ``unlock`` ends it."""
        if not self._turn.acquire():
            return False
        try:
            return self._shipping.acquire()
        finally:
            self._turn.release()

    def unlock(self) -> None:
        """Let another process ship."""
        self._shipping.release()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Keep all processes from shipping, once the batch on its way is stored.

        Raises:
            LedgerError: If that takes minutes.
        """
        # Whoever ships needs the turn for each batch, and has it for a moment only: a busy process is paused too.
        with (
            FileLock(self._turn_path, wait_seconds=_PAUSE_SECONDS),
            FileLock(self._ship_path, wait_seconds=_PAUSE_SECONDS),
        ):
            yield

    def after_fork_in_child(self) -> None:
        """Leave the parent's files alone."""
        for each in (self._file, self._shipping, self._turn):
            each.after_fork_in_child()

    def close(self) -> None:
        """Close the file."""
        self._file.close()


def _delete(connection: sqlite3.Connection, batches: Sequence[SpooledBatch | _DamagedBatch]) -> None:
    connection.executemany("DELETE FROM batches WHERE id = ?", [(batch.batch_id,) for batch in batches])
