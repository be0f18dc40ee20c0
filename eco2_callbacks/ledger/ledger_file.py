"""LedgerFile: a SQLite ledger as the place where batches become durable."""

from __future__ import annotations

from typing import cast

from eco2_callbacks.ledger.backends import Backend, Rows
from eco2_callbacks.ledger.backends.sqlite import SQLiteBackend
from eco2_callbacks.ledger.local_file import is_corrupt
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.refused_rows import RefusedRows
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.watchers import Watchers

__all__ = ["LedgerFile"]


class LedgerFile:
    """Writes batches to the ledger itself. A corrupt file is moved aside, and a new one begun.

    Args:
        backend: The SQLite backend.
        watchers: Who counts.

    Attributes:
        refused: Keeps rows that the file does not take.

    Raises:
        LedgerError: If the file cannot be written, or its schema is newer than this package.
    """

    def __init__(self, backend: Backend, watchers: Watchers) -> None:
        self._backend = cast("SQLiteBackend", backend)
        self._watchers = watchers
        self.refused = RefusedRows(self._backend.file.path)
        self._needs_schema = True
        self._backend.file.check()
        try:
            self._open_schema()
        except Exception as error:
            if not _is_corrupt(error):
                raise
            self._begin_anew()

    def write(self, batch: Batch) -> None:
        """Store a batch; again where another process has moved the file aside meanwhile."""
        self._store(batch.rows)
        while self._backend.file.follow():
            self._needs_schema = True
            self._store(batch.rows)
        self._watchers.on_stored(batch.records)

    def _store(self, rows: Rows) -> None:
        try:
            self._open_schema()
            self._backend.store([rows])
        except Exception as error:
            if not _is_corrupt(error):
                raise
            self._begin_anew()
            self._backend.store([rows])

    def _open_schema(self) -> None:
        """Open the schema, once of each file."""
        if self._needs_schema:
            Schema(self._backend).open()
            self._needs_schema = False

    def _begin_anew(self) -> None:
        # What the file held is unknown to this process: it counts as one record, so that an alert fires.
        if self._backend.file.move_aside() is not None:
            self._watchers.on_lost(1, "corrupt")
        self._needs_schema = True
        self._open_schema()

    def oldest(self) -> float | None:
        """Return None: what is written is in the ledger."""
        return None

    def resume(self) -> None:
        """Do nothing: nothing waits in the file."""

    def flush(self, timeout_seconds: float) -> bool:
        """Return True: what is written is in the ledger."""
        del timeout_seconds  # it takes none
        return True

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone."""
        self._backend.after_fork_in_child()

    def close(self, timeout_seconds: float) -> None:
        """Close the file."""
        del timeout_seconds  # closing takes none
        self._backend.close()


def _is_corrupt(error: BaseException) -> bool:
    found: BaseException | None = error
    while found is not None:
        if is_corrupt(found):
            return True
        found = getattr(found, "orig", None) or found.__cause__
    return False
