"""LedgerSink: every record becomes a durable row."""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import time
import weakref
from collections.abc import Callable, Collection
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from eco2_callbacks import forks
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger.watchers import LedgerWatcher, Watchers
from eco2_callbacks.records import Record, validate_record

if TYPE_CHECKING:
    from eco2_callbacks.ledger.backends import Backend
    from eco2_callbacks.ledger.ledger_file import LedgerFile
    from eco2_callbacks.ledger.spooled_ledger import SpooledLedger

__all__ = ["LedgerSink"]

_CLOSE_SECONDS = 10.0
_EXIT_SECONDS = 5.0
# Before the finalizers of the queues, which have 100.
_EXIT_PRIORITY = 200


class LedgerSink:
    """Writes every record to a ledger, on threads of its own.

    A record is durable at the latest 0.2 seconds after ``emit`` returned: in the ledger's file, or in the spool of a
    ledger on a server, from where it is shipped. Several handlers can share a sink; whoever made it closes it.

    Args:
        url: A path or ``sqlite:///eco2.db``, ``postgresql://...`` or ``clickhouse://...``.
        durable_at_once: Whether ``emit`` returns only when its record is durable.
        spool: Folder of the spool, which several processes can share; None is ``ECO2_LEDGER_SPOOL``, or the user's
            folder for the state of programs.
        max_spool_bytes: What the spool may hold; further records are lost and counted.
        max_waiting: Number of records that may wait in memory, likewise.
        needs_backend: Whether an unreachable server is an error at the start. If not, records wait in the spool.

    Raises:
        ConfigError: If an argument cannot be used.
        LedgerError: If the ledger cannot be opened: its folder is read-only, the server cannot be reached, or the
            schema is newer than this package.
    """

    def __init__(
        self,
        url: str | Path,
        *,
        durable_at_once: bool = False,
        spool: str | Path | None = None,
        max_spool_bytes: int = 2**30,
        max_waiting: int = 50_000,
        needs_backend: bool = True,
    ) -> None:
        for name, number in (("max_spool_bytes", max_spool_bytes), ("max_waiting", max_waiting)):
            if not isinstance(number, int) or number < 1:
                raise ConfigError(f"{name}= is {number!r}, wanted a number above 0.")
        # Here, so that the class alone, a type in signatures, loads no backend.
        from eco2_callbacks.ledger.backends import backend_of  # noqa: PLC0415
        from eco2_callbacks.ledger.writer import RecordWriter  # noqa: PLC0415

        self._backend: Backend = backend_of(url)
        self._watchers = Watchers(self._backend.name)
        self._store = _open_store(self._backend, self._watchers, spool, max_spool_bytes, needs_backend)
        self._writer = RecordWriter(
            f"eco2-ledger-{self._backend.name}",
            write=self._store.write,
            on_lost=self._watchers.on_lost,
            on_failure=self._watchers.on_failure,
            on_refused=self._store.refused.add,
            max_waiting=max_waiting,
            is_at_once=durable_at_once,
        )
        self._is_closed = False
        self._exit_pid: int | None = None
        self._forks = _ForkHook(self._reset)
        self._store.resume()

    @property
    def backend(self) -> str:
        """``sqlite``, ``postgres`` or ``clickhouse``."""
        return self._backend.name

    @property
    def shown_url(self) -> str:
        """The ledger's URL without its password."""
        return self._backend.shown_url

    def emit(self, record: Record) -> None:
        """Take one record. A record that contradicts itself is refused with a ``ConfigError``."""
        if (fault := validate_record(record)) is not None:
            raise ConfigError(f"The record cannot be written to the ledger: {fault}.")
        self.add(record)

    def add(self, record: Record) -> None:
        """Take one record that the handler made."""
        if self._exit_pid != os.getpid():
            self._watch_exit()
        self._writer.submit(record)

    @property
    def is_inline(self) -> bool:
        """Whether a record must exist when a call returns, because it is durable then."""
        return self._writer.is_at_once

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the writer's thread, before the records that come later."""
        self._writer.run_soon(job)

    def keep_metadata(self, keys: Collection[str]) -> None:
        """Keep the values of these keys of a call's metadata from now on, as far as they are plain texts or numbers.

        Nothing else of the metadata becomes a row. A budget whose rule names a key of the metadata needs its values.
        """
        self._writer.metadata_keys |= frozenset(keys)

    def lag_seconds(self) -> float:
        """Return the age of the oldest record that is not in the backend, 0 if there is none."""
        ages = [at for at in (self._writer.oldest(), self._store.oldest()) if at is not None]
        return max(0.0, time.time() - min(ages)) if ages else 0.0

    def watch(self, watcher: LedgerWatcher) -> None:
        """Report stored and lost records to a watcher, such as the metrics of a handler."""
        self._watchers.add(watcher)

    def flush(self, timeout_seconds: float = _CLOSE_SECONDS) -> bool:
        """Wait until every record so far is in the backend; return whether the time sufficed."""
        until = time.monotonic() + timeout_seconds
        written = self._writer.flush(timeout_seconds)
        return self._store.flush(max(0.0, until - time.monotonic())) and written

    def close(self) -> None:
        """Write and ship what waits, within ten seconds. What is not shipped then stays in the spool."""
        self._close(_CLOSE_SECONDS)

    def _close(self, seconds: float) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        until = time.monotonic() + seconds
        self._writer.close(seconds)
        self._store.close(max(0.1, until - time.monotonic()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _watch_exit(self) -> None:
        """Have the end of the process close this sink, before the queues' own hooks."""
        self._exit_pid = os.getpid()
        close = _closer(weakref.WeakMethod(self._close))
        if multiprocessing.parent_process() is None:
            atexit.register(close)
        else:
            # Children of multiprocessing end by os._exit, without atexit.
            multiprocessing.util.Finalize(None, close, exitpriority=_EXIT_PRIORITY)

    def _reset(self) -> None:
        self._store.after_fork_in_child()
        self._writer.reset()


class _ForkHook(forks.ForkAware):
    """Starts a sink anew in a forked child. Weak: the registry keeps it no longer than its sink."""

    def __init__(self, reset: Callable[[], None]) -> None:
        self._reset = weakref.WeakMethod(reset)
        forks.register(self)

    def after_fork_in_child(self) -> None:
        if (reset := self._reset()) is not None:
            reset()


def _closer(close: weakref.WeakMethod[Callable[[float], None]]) -> Callable[[], None]:
    def close_at_exit() -> None:
        if (found := close()) is not None:
            found(_EXIT_SECONDS)

    return close_at_exit


def _open_store(
    backend: Backend, watchers: Watchers, folder: str | Path | None, max_spool_bytes: int, needs_backend: bool
) -> LedgerFile | SpooledLedger:
    """Return what makes batches durable: the ledger's file, or a spool with its shipper."""
    from eco2_callbacks.ledger.ledger_file import LedgerFile  # noqa: PLC0415
    from eco2_callbacks.ledger.spool import default_spool_folder  # noqa: PLC0415
    from eco2_callbacks.ledger.spooled_ledger import SpooledLedger  # noqa: PLC0415

    if backend.local_path is not None:
        return LedgerFile(backend, watchers)
    return SpooledLedger(
        backend,
        watchers,
        folder=default_spool_folder() if folder is None else Path(folder),
        max_spool_bytes=max_spool_bytes,
        needs_backend=needs_backend,
    )
