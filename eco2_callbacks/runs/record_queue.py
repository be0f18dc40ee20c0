"""RecordQueue: has ended runs recorded in the order of their ends, later where nothing needs the record at once."""

from __future__ import annotations

import sys
import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Protocol
from uuid import UUID
from weakref import WeakMethod

from eco2_callbacks import forks
from eco2_callbacks.records import Record
from eco2_callbacks.runs.observers import RunObserver
from eco2_callbacks.runs.open_runs import OpenRun
from eco2_callbacks.runs.recorder import Recorder

__all__ = ["MAX_WAITING", "RecordQueue", "Settler"]

# Ended runs that wait for their record. Half of them make the settler's worker begin, so that the rest is seldom used.
MAX_WAITING = 64
_SCHEDULED_AT = MAX_WAITING // 2
# Runs recorded before another thread may run.
_SLICE = 16


class Settler(Protocol):
    """Settles queues soon, on another thread, and whenever the metrics are read."""

    def add_waiting(self, queue: RecordQueue) -> None:
        """Called with a queue in which a first run waits; the settler refers to it weakly."""

    def remove_waiting(self, queue: RecordQueue) -> None:
        """Called with a queue that is settled."""

    def settle_soon(self) -> None:
        """Called when enough runs wait to be recorded together."""


class RecordQueue(forks.ForkAware):
    """Holds ended runs until they are recorded and passed to the observers.

    ==================================================  ==============================================
    A run is recorded                                   when
    ==================================================  ==============================================
    in its end callback, with all that wait before it   ``is_plain`` is false, or ``is_immediate``
    on the settler's thread                             32 runs wait
    on the thread of a sink                             a sink is called there, and the first run waits
    by the next end                                     64 runs wait: the settler's thread is behind
    by whoever reads the metrics, flushes or closes     it is read, flushed or closed
    where LangSmith's tracer sends its end              the run is traced
    ==================================================  ==============================================

    Args:
        recorder: Makes the records.
        observers: Get each run with its record, in this order.
        is_plain: Returns whether a run can be recorded later, and then leaves on it only what the record needs.
        is_immediate: Whether every run is recorded in its end callback: a sink is called inline, or another process
            reads the metrics.
        settler: Settles the queue.
        run_soon: Runs a job on the thread of a sink, so that its records come soon; None where no sink waits.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.

    A handler that is collected without a close() takes the queue with it, which then settles. So whoever works for the
    queue refers to it weakly.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        observers: Sequence[RunObserver],
        is_plain: Callable[[OpenRun], bool],
        is_immediate: bool,
        settler: Settler,
        run_soon: Callable[[Callable[[], None]], None] | None,
        on_failure: Callable[[str, UUID | None], None],
    ) -> None:
        self._recorder = recorder
        self._observers = tuple(observers)
        self._needs_record = tuple(
            observer.needs_record
            for observer in observers
            if type(observer).needs_record is not RunObserver.needs_record
        )
        self._on_recorded = tuple(
            observer.on_recorded for observer in observers if type(observer).on_recorded is not RunObserver.on_recorded
        )
        self._is_plain = is_plain
        self._is_immediate = is_immediate
        self._settler = settler
        self._run_soon = run_soon
        self._on_failure = on_failure
        self._waiting: deque[OpenRun] = deque()
        self._is_added = False
        self._is_called = False
        self._call = partial(_call, WeakMethod(self._on_called))
        # Reentrant: an observer can end runs, and so can a finaliser.
        self._lock = threading.RLock()
        self._recording_thread: int | None = None
        forks.register(self)

    def add_observer(self, observer: RunObserver) -> None:
        """Have one more observer get the runs that are recorded from now on."""
        self._observers = (*self._observers, observer)
        self._needs_record = (*self._needs_record, observer.needs_record)
        self._on_recorded = (*self._on_recorded, observer.on_recorded)

    def __del__(self) -> None:
        if not sys.is_finalizing():
            self.settle()

    def __len__(self) -> int:
        return len(self._waiting)

    def submit(self, run: OpenRun) -> None:
        """Take an ended run."""
        if self._is_immediate:
            self._record(run)
            self._notify_recorded()
            return
        waiting = self._waiting
        try:
            can_wait = self._is_plain(run) and not self._is_needed(run)
        except Exception:  # a malformed answer can raise anything; billing says what is wrong
            can_wait = False
        if can_wait:
            waiting.append(run)
            if not self._is_added:
                self._is_added = True
                self._settler.add_waiting(self)
            if self._run_soon is not None and not self._is_called:
                self._is_called = True
                self._run_soon(self._call)
            if (count := len(waiting)) >= _SCHEDULED_AT:
                if count >= MAX_WAITING:
                    self.settle_slice()
                else:
                    self._settler.settle_soon()
            return
        waiting.append(run)
        if self._recording_thread == threading.get_ident():
            return  # this thread records already, and comes to it
        # A garbage collection can have closed a generator while this thread holds another lock: it must not wait.
        may_wait = run.outcome.error_type != "GeneratorExit"
        if self._lock.acquire(blocking=may_wait):
            try:
                while self._record_slice():
                    pass
            finally:
                self._lock.release()
            self._notify_recorded()
            self._leave_settler()
        else:
            self._is_added = True
            self._settler.add_waiting(self)
            self._settler.settle_soon()

    def _is_needed(self, run: OpenRun) -> bool:
        for needs in self._needs_record:  # noqa: SIM110  a generator would cost as much as the rest
            if needs(run):
                return True
        return False

    def _on_called(self) -> None:
        # Reset first: a run that comes from now on needs a call of its own.
        self._is_called = False
        self.settle()

    def settle(self) -> None:
        """Record all runs that wait, and return when those are recorded that another thread records."""
        while self.settle_slice():
            pass
        self._leave_settler()

    def settle_slice(self) -> bool:
        """Record up to 16 of the runs that wait; return whether there were any.

        Where none waits, but another thread records the last ones, it returns when these are recorded.
        """
        is_empty = not self._waiting
        # Read after the queue: a run leaves the queue when its thread is noted, and is recorded when that is reset.
        recording_thread = self._recording_thread
        if recording_thread == threading.get_ident() or (is_empty and recording_thread is None):
            return False
        with self._lock:
            is_recorded = self._record_slice()
        self._notify_recorded()
        return is_recorded

    def _record_slice(self) -> bool:
        waiting = self._waiting
        if not waiting:
            return False
        self._recording_thread = threading.get_ident()
        try:
            for _ in range(_SLICE):
                if not waiting:
                    break
                self._record(waiting.popleft())
        finally:
            self._recording_thread = None
        return True

    def _notify_recorded(self) -> None:
        """Let the observers do what must not be done under the lock, as it can wait for another handler's queue."""
        for on_recorded in self._on_recorded:
            try:
                on_recorded()
            except Exception:
                self._on_failure("emit", None)

    def _leave_settler(self) -> None:
        if self._is_added:
            self._settler.remove_waiting(self)
            self._is_added = False
            # A run that another thread submits now finds the flag unset; one that it submitted before is seen here.
            if self._waiting:
                self._is_added = True
                self._settler.add_waiting(self)

    def _record(self, run: OpenRun) -> None:
        record: Record | None = None
        try:
            record = self._recorder.record(run)
        except Exception:
            self._on_failure("emit", run.run_id)
        finally:
            # Whatever went wrong: an observer may hold something back until the run ends.
            for observer in self._observers:
                try:
                    observer.on_end(run, record)
                except Exception:
                    self._on_failure("emit", run.run_id)
            run.output = None

    def after_fork_in_child(self) -> None:
        """Leave the runs that wait to the parent."""
        self._lock = threading.RLock()
        self._waiting.clear()
        self._recording_thread = None
        self._is_added = self._is_called = False


def _call(reference: WeakMethod[Callable[[], None]]) -> None:
    if (method := reference()) is not None:
        method()
