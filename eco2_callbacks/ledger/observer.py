"""LedgerObserver: hands the records of one handler to its ledger."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from eco2_callbacks.ledger.sink import LedgerSink
from eco2_callbacks.ledger.watchers import LedgerWatcher
from eco2_callbacks.records import Record
from eco2_callbacks.runs import OpenRun, RunObserver

__all__ = ["LedgerObserver"]


class LedgerObserver(RunObserver):
    """Hands every record to a ledger. It closes the sink that it made; another one is only flushed.

    Args:
        ledger: A URL, a path, or a sink that is shared.

    Raises:
        ConfigError: If it names no backend.
        LedgerError: If the ledger cannot be opened.
    """

    def __init__(self, ledger: str | Path | LedgerSink) -> None:
        self._is_own = not isinstance(ledger, LedgerSink)
        self.sink = ledger if isinstance(ledger, LedgerSink) else LedgerSink(ledger)
        self._watcher: LedgerWatcher | None = None

    def watch(self, watcher: LedgerWatcher) -> None:
        """Report stored and lost records to a watcher for as long as this observer lives."""
        self._watcher = watcher
        self.sink.watch(watcher)

    @property
    def is_inline(self) -> bool:
        """Whether a record must exist when a call returns, because it is durable then."""
        return self.sink.is_inline

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the writer's thread, before the records that come later."""
        self.sink.run_soon(job)

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Hand over the record of a run that ended."""
        if record is not None:
            self.sink.add(record)

    def emit(self, record: Record) -> None:
        """Hand over one record."""
        self.sink.add(record)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the ledger has every record so far; return whether the time sufficed."""
        return self.sink.flush(timeout_seconds)

    def close(self) -> None:
        """Close the sink that this observer made; flush another one."""
        if self._is_own:
            self.sink.close()
        else:
            self.sink.flush()
