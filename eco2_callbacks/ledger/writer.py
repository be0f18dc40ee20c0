"""RecordWriter: takes records from the callbacks and makes them durable on a thread of its own."""

from __future__ import annotations

import logging
import sqlite3
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.local_file import is_full
from eco2_callbacks.ledger.refused_rows import RefusedRow
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.spool import SpoolFullError
from eco2_callbacks.ledger.watchers import LossReason
from eco2_callbacks.log_once import is_first
from eco2_callbacks.records import Record
from eco2_callbacks.sinks import BatchWorker

__all__ = ["RecordWriter"]

_logger = logging.getLogger(__name__)
_BATCH_RECORDS = 2000
# A quarter of the promised 0.2 seconds: a busy machine is late.
_REST_SECONDS = 0.05
_EXIT_SECONDS = 5.0
_AT_ONCE_SECONDS = 5.0
_BACKOFF_SECONDS = (0.05, 0.1, 0.2, 0.5, 1.0)


class RecordWriter:
    """Writes records in batches; a failed batch is written again until it succeeds or the writer is closed.

    Args:
        name: Name of the thread.
        write: Makes a batch durable; called on that thread.
        on_lost: Called with a number of records and the reason why they are lost.
        on_refused: Called with rows that the store does not take.
        max_waiting: Number of records that may wait in memory.
        is_at_once: Whether ``submit`` returns only when its record is durable.

    Attributes:
        metadata_keys: The keys of a call's metadata whose values are kept.
    """

    def __init__(
        self,
        name: str,
        *,
        write: Callable[[Batch], None],
        on_lost: Callable[[int, LossReason], None],
        on_failure: Callable[[], None],
        on_refused: Callable[[Sequence[RefusedRow]], None],
        max_waiting: int,
        is_at_once: bool,
    ) -> None:
        self._name = name
        self._write = write
        self._on_lost = on_lost
        self._on_failure = on_failure
        self._on_refused = on_refused
        self._max_waiting = max_waiting
        self._is_at_once = is_at_once
        self.metadata_keys: frozenset[str] = frozenset()
        self._worker = BatchWorker(
            name,
            on_failure=on_failure,
            on_dropped=_ignore,
            exit_seconds=_EXIT_SECONDS,
            rest_seconds=0.0 if is_at_once else _REST_SECONDS,
        )
        self.reset()

    def reset(self) -> None:
        """Start anew without records, as in a forked child: the parent writes what waited."""
        self._waiting: deque[tuple[float, Record]] = deque()
        self._pending: Batch | None = None
        # Halves of refused batches, the next one last.
        self._parts: list[Batch] = []
        self._fault: LossReason = "overflow"
        self._is_scheduled = False
        self._is_closed = False
        self._failures = 0
        self._closing = threading.Event()
        # Reentrant: a finaliser can bring a record while its thread writes.
        self._writing = threading.RLock()
        self._is_writing = False
        self._worker.reopen()

    def submit(self, record: Record) -> None:
        """Take a record; never waits, unless it has to be durable at once."""
        if self._is_closed or len(self._waiting) >= self._max_waiting:
            self._lose(1, self._fault)
            return
        self._waiting.append((time.time(), record))
        if self._is_at_once:
            self._write_at_once()
        elif not self._is_scheduled:
            # Set before the worker can reset it.
            self._is_scheduled = True
            if not self._worker.submit(self._write_waiting):
                self._is_scheduled = False
                # The process ends, so that no thread can be started: write here.
                self._write_waiting()

    def _write_at_once(self) -> None:
        written = threading.Lock()
        written.acquire()
        if self._worker.runs_here() or not self._worker.submit(lambda: self._write_and_release(written)):
            # This thread would wait for itself, or the process ends and no thread can be started: write here.
            self._write_waiting()
        else:
            # Bounded: a full disk must not stop the application.
            written.acquire(timeout=_AT_ONCE_SECONDS)

    @property
    def is_at_once(self) -> bool:
        """Whether a record is durable when ``submit`` returns."""
        return self._is_at_once

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the writer's thread, before what comes later is written; at once where there is no thread."""
        if not self._worker.try_submit(job):
            job()

    def oldest(self) -> float | None:
        """Return when the oldest record that is not durable was taken, in seconds since 1970."""
        for batch in (self._pending, *self._parts[-1:]):
            if batch is not None:
                return batch.oldest
        try:
            return self._waiting[0][0]
        except IndexError:
            return None

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every record so far is durable; return whether the time sufficed."""
        until = time.monotonic() + timeout_seconds
        # What runs before can bring records: they are written after it.
        self._worker.flush(timeout_seconds)
        if self._has_rest():
            self._worker.submit(self._write_waiting)
        return self._worker.flush(max(0.0, until - time.monotonic())) and not self._has_rest()

    def _has_rest(self) -> bool:
        return bool(self._waiting or self._parts) or self._pending is not None

    def close(self, timeout_seconds: float) -> None:
        """Write what waits, as far as the time allows; the rest is lost and counted.

        A batch that is being written when the time is over is stored, or counted, by the thread that writes it.
        """
        if self._is_closed:
            return
        until = time.monotonic() + timeout_seconds
        # A job that runs now can bring records, and a failed write is tried again.
        while not self.flush(max(0.0, until - time.monotonic())) and time.monotonic() < until:
            continue
        self._is_closed = True
        self._closing.set()
        self._worker.close(1.0)
        self._give_up()

    def _give_up(self) -> None:
        """Count as lost what the closed writer holds; a thread that writes a batch calls this again when it is done."""
        left = 0
        # One by one: the thread may be taking its last batch.
        with suppress(IndexError):
            while True:
                self._waiting.popleft()
                left += 1
        with suppress(IndexError):
            while True:
                left += self._parts.pop().records
        if self._writing.acquire(blocking=False):
            try:
                if self._pending is not None and not self._is_writing:
                    left += self._pending.records
                    self._pending = None
            finally:
                self._writing.release()
        if left:
            self._lose(left, self._fault)

    def _write_and_release(self, written: threading.Lock) -> None:
        try:
            self._write_waiting()
        finally:
            written.release()

    def _write_waiting(self) -> None:
        """Write batch after batch until none waits."""
        self._is_scheduled = False
        with self._writing:
            if self._is_writing:
                # The record comes from inside the loop below, which takes it, or has just ended.
                self._is_scheduled = self._worker.try_submit(self._write_waiting)
                return
            try:
                self._is_writing = True
                self._write_batches()
            finally:
                self._is_writing = False
        # Outside the lock: close() leaves the batch to whoever holds it.
        if self._closing.is_set():
            self._give_up()

    def _write_batches(self) -> None:
        while not self._closing.is_set():
            pending = self._pending = self._pending or self._next_part() or self._next_batch()
            if pending is None:
                return
            try:
                self._write(pending)
            except Exception as error:
                if not isinstance(error, SpoolFullError | LedgerError | OSError | sqlite3.OperationalError):
                    # A row is refused: it would hold back all others.
                    self._pending = None
                    self._split_or_refuse(pending, error)
                    continue
                self._fault = "disk_full" if is_full(error) else "overflow"
                if isinstance(error, SpoolFullError):
                    self._pending = None
                    self._lose(pending.records, self._fault)
                    continue
                if is_first("ledger", self._name, type(error).__name__, self._fault):
                    _logger.exception("The ledger could not be written; it is tried again.")
                self._closing.wait(_BACKOFF_SECONDS[min(self._failures, len(_BACKOFF_SECONDS) - 1)])
                self._failures += 1
                # As a job of its own, so that others can run before it.
                self._is_scheduled = self._worker.try_submit(self._write_waiting)
                return
            self._pending = None
            self._fault = "overflow"
            self._failures = 0

    def _next_batch(self) -> Batch | None:
        batch: Batch | None = None
        while batch is None or batch.records < _BATCH_RECORDS:
            try:
                taken_at, record = self._waiting.popleft()
            except IndexError:
                break
            batch = batch or Batch(at=taken_at, metadata_keys=self.metadata_keys)
            try:
                batch.add(record)
            except Exception:
                self._on_failure()
                self._on_lost(1, "corrupt")
                if is_first("ledger", "record", type(record).__name__):
                    _logger.exception("A record of type %s cannot be written to the ledger.", type(record).__name__)
        return batch

    def _next_part(self) -> Batch | None:
        """Return the next half of a batch that was refused."""
        try:
            return self._parts.pop()
        except IndexError:
            return None

    def _split_or_refuse(self, batch: Batch, error: Exception) -> None:
        """Have the halves of a refused batch written; a row that is alone is set aside and lost."""
        if batch.row_count() > 1:
            self._parts += reversed(batch.split())
            return
        for name, rows in batch.rows.items():
            for row in rows:
                self._on_refused([RefusedRow(name, row, error)])
        self._on_lost(1, "corrupt")

    def _lose(self, records: int, reason: LossReason) -> None:
        self._on_lost(records, reason)
        if is_first("ledger", self._name, "lost", reason):
            _logger.error(
                "The ledger lost %d records (%s); the following ones are only counted, in ledger_lost_rows_total.",
                records,
                {"disk_full": "the disk is full", "corrupt": "a file was corrupt"}.get(reason, "too many waited"),
            )


def _ignore() -> None:
    """Do nothing: a job that is not run is found by ``flush`` or ``close``."""
