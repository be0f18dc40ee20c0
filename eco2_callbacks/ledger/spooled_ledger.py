"""SpooledLedger: a ledger on a server, with the spool before it."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from pathlib import Path

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.local_file import is_corrupt
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.refused_rows import RefusedRow, RefusedRows
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.shipper import Shipper
from eco2_callbacks.ledger.spool import Spool, spool_path
from eco2_callbacks.ledger.watchers import Watchers

__all__ = ["SpooledLedger"]

_logger = logging.getLogger(__name__)


class SpooledLedger:
    """Writes batches to a spool, and ships them.

    Args:
        backend: The server's backend.
        watchers: Who counts.
        folder: Folder of the spool.
        max_spool_bytes: What the spool may hold.
        needs_backend: Whether an unreachable server is an error.

    Attributes:
        refused: Keeps rows that the spool or the server does not take.

    Raises:
        LedgerError: If the spool cannot be written, the server cannot be reached, or its schema is newer.
    """

    def __init__(
        self, backend: Backend, watchers: Watchers, *, folder: Path, max_spool_bytes: int, needs_backend: bool
    ) -> None:
        self._backend = backend
        self._watchers = watchers
        self._needs_schema = True
        path = spool_path(folder, backend.name, backend.shown_url)
        self._spool = Spool(path, max_bytes=max_spool_bytes, on_damaged=self._count_lost)
        self.refused = RefusedRows(path)
        try:
            self._open_schema()
        except LedgerError as error:
            if needs_backend:
                raise LedgerError(
                    f"{error} To begin without it, pass needs_backend=False: records then wait in {str(path)!r}."
                ) from error
            _logger.warning("%s Records wait in %s.", error, path)
        self._shipper = Shipper(
            self._spool,
            backend,
            prepare=self._open_schema,
            on_stored=watchers.on_stored,
            on_corrupt=self._salvage,
            on_refused=self._set_aside,
            on_failure=watchers.on_failure,
        )

    def _open_schema(self) -> None:
        """Open the schema once, before the first rows are sent."""
        if self._needs_schema:
            Schema(self._backend).open()
            self._needs_schema = False

    def write(self, batch: Batch) -> None:
        """Make a batch durable, and have it shipped."""
        try:
            self._spool.append(batch)
        except sqlite3.Error as error:
            if not is_corrupt(error):
                raise
            self._salvage()
            self._spool.append(batch)
        self._shipper.schedule()

    def _set_aside(self, rows: Sequence[RefusedRow]) -> None:
        self.refused.add(rows)
        self._count_lost(len(rows))

    def _salvage(self) -> None:
        if lost := self._spool.salvage():
            self._count_lost(lost)

    def _count_lost(self, records: int) -> None:
        self._watchers.on_lost(records, "corrupt")

    def oldest(self) -> float | None:
        """Return when the oldest record in the spool was handed over, in seconds since 1970."""
        try:
            return self._spool.oldest()
        except sqlite3.Error:
            # The writer and the shipper find out what it is.
            return None

    def resume(self) -> None:
        """Ship what an earlier process left."""
        if self._spool.may_hold_batches():
            self._shipper.schedule()

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the spool is empty; return whether the time sufficed."""
        return not self._spool.may_hold_batches() or self._shipper.flush(timeout_seconds)

    def after_fork_in_child(self) -> None:
        """Start anew in a forked child: what is in the spool stays there."""
        self._spool.after_fork_in_child()
        self._backend.after_fork_in_child()
        self._shipper.reset()

    def close(self, timeout_seconds: float) -> None:
        """Ship what the time allows, and close the files."""
        self._shipper.close(timeout_seconds)
        self._spool.close()
        self._backend.close()
