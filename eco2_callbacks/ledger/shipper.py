"""Shipper: sends spooled batches to the shared backend, until it has them all."""

from __future__ import annotations

import logging
import random
import threading
import time
from collections.abc import Callable, Sequence

from eco2_callbacks.ledger.backends import Backend, Rows
from eco2_callbacks.ledger.local_file import is_corrupt
from eco2_callbacks.ledger.refused_rows import RefusedRow, store_apart
from eco2_callbacks.ledger.rows import RECORD_TABLES
from eco2_callbacks.ledger.spool import Spool
from eco2_callbacks.log_once import is_first
from eco2_callbacks.sinks import BatchWorker

__all__ = ["Shipper"]

_logger = logging.getLogger(__name__)
_BATCH_RECORDS = 5000
_EXIT_SECONDS = 2.0
_MAX_BACKOFF_SECONDS = 15.0
_OTHER_SHIPS_SECONDS = 0.5


class Shipper:
    """Ships on a thread of its own, with retries and growing pauses; one process at a time ships a spool.

    Args:
        spool: What to ship.
        backend: Where to.
        prepare: Called before rows are sent; raises if the backend is not ready.
        on_stored: Called with the number of records that the backend has taken.
        on_corrupt: Called when the spool turns out to be corrupt.
        on_refused: Called with rows that the backend refuses as data.
    """

    def __init__(
        self,
        spool: Spool,
        backend: Backend,
        *,
        prepare: Callable[[], None],
        on_stored: Callable[[int], None],
        on_corrupt: Callable[[], None],
        on_refused: Callable[[Sequence[RefusedRow]], None],
        on_failure: Callable[[], None],
    ) -> None:
        self._spool = spool
        self._backend = backend
        self._prepare = prepare
        self._on_stored = on_stored
        self._on_corrupt = on_corrupt
        self._on_refused = on_refused
        self._worker = BatchWorker(
            f"eco2-ledger-ship-{backend.name}",
            on_failure=on_failure,
            on_dropped=_ignore,
            exit_seconds=_EXIT_SECONDS,
            rest_seconds=backend.ship_seconds,
        )
        self.reset()

    def reset(self) -> None:
        """Start anew, as in a forked child."""
        self._closing = threading.Event()
        self._is_scheduled = False
        self._worker.reopen()

    def schedule(self) -> None:
        """Ship what the spool holds, soon."""
        if not self._is_scheduled:
            self._is_scheduled = True
            if not self._worker.submit(self._ship_all):
                self._is_scheduled = False

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the spool is empty; return whether the time sufficed."""
        until = time.monotonic() + timeout_seconds
        self.schedule()
        self._worker.flush(timeout_seconds)
        return time.monotonic() <= until and not self._spool.may_hold_batches()

    def close(self, timeout_seconds: float) -> None:
        """Ship what the time allows; the rest stays in the spool for the next process."""
        self.schedule()
        self._worker.flush(timeout_seconds)
        self._closing.set()
        self._worker.close(1.0)

    def _ship_all(self) -> None:
        self._is_scheduled = False
        failures = 0
        while not self._closing.is_set():
            try:
                if self._spool.oldest() is None:
                    return
                if self._spool.try_lock():
                    # Another process, or a pause, gets its turn between two batches.
                    try:
                        self._ship_once()
                    finally:
                        self._spool.unlock()
                else:
                    self._closing.wait(_OTHER_SHIPS_SECONDS)
                failures = 0
            except Exception as error:
                self._recover(error)
                pause = min(_MAX_BACKOFF_SECONDS, 0.1 * 2.0 ** min(failures, 10))
                # So that many processes do not try at the same moment.
                self._closing.wait(pause * random.uniform(0.5, 1.0))  # noqa: S311
                failures += 1

    def _recover(self, error: Exception) -> None:
        """Replace a corrupt spool, and have the next try make its connection anew."""
        try:
            if is_corrupt(error):
                self._on_corrupt()
                return
        except Exception as again:
            error = again
        finally:
            self._backend.reset()
        if is_first("ledger", "ship", self._backend.shown_url, type(error).__name__):
            _logger.warning(
                "The ledger's backend %s gets no rows (%s: %s); they wait in %s and are tried again.",
                self._backend.shown_url,
                type(error).__name__,
                error,
                self._spool.path,
            )

    def _ship_once(self) -> None:
        """Send the oldest batches; the caller has the spool's lock."""
        self._prepare()
        batches = self._spool.read(_BATCH_RECORDS)
        if not batches:
            return
        refused = self._store([batch.rows for batch in batches])
        # After a crash between these two lines the batch is sent again, and its rows are there already.
        self._spool.remove(batches)
        if refused:
            self._on_refused(refused)
        lost = sum(each.table in RECORD_TABLES for each in refused)
        self._on_stored(sum(batch.records for batch in batches) - lost)

    def _store(self, batches: Sequence[Rows]) -> list[RefusedRow]:
        """Store rows, and return those that the backend refuses as data."""
        try:
            self._backend.store(batches)
        except Exception as error:
            if not self._backend.refuses(error):
                raise
            self._backend.reset()
            return store_apart(self._backend, batches)
        return []


def _ignore() -> None:
    """Do nothing: what is not shipped stays in the spool."""
