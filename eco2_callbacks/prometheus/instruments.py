"""The instruments on one Prometheus registry, and the records that wait to be counted."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Literal, TypeVar, cast
from weakref import WeakKeyDictionary, WeakMethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase
from prometheus_client.registry import Collector

from eco2_callbacks import forks
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.prometheus import snapshots
from eco2_callbacks.prometheus.families import CLOSED_LABELS, FAMILIES, Family
from eco2_callbacks.prometheus.label_limiter import LabelLimiter
from eco2_callbacks.prometheus.run_claims import RunClaims
from eco2_callbacks.prometheus.sums import Sums
from eco2_callbacks.runs import RecordQueue
from eco2_callbacks.sinks import BatchWorker

__all__ = ["Instruments", "instruments_of"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
# Records that wait before the worker counts them.
_MAX_WAITING = 64
# Queues with ended runs before the worker begins: an application can make a handler for each request.
_MAX_QUEUES = 16
# Records counted before another thread may run.
_SLICE = 16
_EXIT_SECONDS = 5.0
_IDLE_SECONDS = 5.0
_OWNER = "eco2_instruments"


class Instruments(Collector, forks.ForkAware):
    """The families of the metric contract on one registry, their label limiter, and the queue of uncounted records.

    Counting a record moves about twenty series, each behind a lock of its own. So an event only enqueues, a count adds
    to ``sums``, and a reading passes these on. Records are counted

    - by a worker thread, when 64 wait,
    - when the registry is read: whoever reads it sees all records, and all families at one moment,
    - when a handler is flushed or closed, and at the end of the process.

    The main thread does not count by itself while the worker can: an exception that a signal handler raises there, such
    as KeyboardInterrupt, could come between two series of a record.

    In multiprocess mode another process reads, so each event counts at once. The exception is an event that a garbage
    collection may have caused: it can come while this thread holds one of prometheus-client's locks, which are not
    reentrant. Then the worker counts. There is no reading that could update the gauges either: from the first run on
    the worker does it every five seconds.

    Raises:
        ConfigError: If the registry holds one of the names already.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.waits = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        self._before_flush: list[WeakMethod[Callable[[], None]]] = []
        self._after_settling: list[WeakMethod[Callable[[], None]]] = []
        self._queues: dict[weakref.ref[RecordQueue], None] = {}
        self._lock = threading.RLock()
        self._registry = weakref.ref(registry)
        self._held_lock: Any = None
        self._is_scheduled = False
        # Moved by counts only, which hold the lock.
        self.sums = Sums()
        self._counting_thread: int | None = None
        # The worker whose thread updates the gauges, and when it did; in multiprocess mode only.
        self._updating_worker: BatchWorker | None = None
        self._updated_at = time.monotonic()
        self._worker = self._new_worker()
        self.claims = RunClaims()
        self._families = {family.name: _build(family) for family in FAMILIES}
        try:
            registry.register(self)
        except ValueError as error:
            # Older clients name them only in the message.
            names = sorted(getattr(error, "duplicates", ()) or re.findall(r"'([^']+)'", str(error))) or [str(error)]
            raise ConfigError(
                f"The registry holds {names[0]!r} and {len(names) - 1} other names of the handler's metrics already; "
                "pass another registry=."
            ) from error
        overflow = self.counter("eco2_callbacks_label_overflow_total")
        for label in sorted({label for family in FAMILIES for label in family.labels} - CLOSED_LABELS):
            overflow.labels(label=label)
        self.limiter = LabelLimiter(lambda label: overflow.labels(label=label).inc())
        forks.register(self)

    def add_families(self, families: Iterable[Family]) -> None:
        """Expose further families from now on; those that are exposed stay as they are."""
        with self._lock:
            for family in families:
                if family.name not in self._families:
                    self._families = {**self._families, family.name: _build(family)}

    def describe(self) -> Iterable[Metric]:
        """Return the families without samples, for the registry's check of names."""
        return [metric for family in self._families.values() for metric in family.describe()]

    def collect(self) -> Iterator[Metric]:
        """Yield all families at one moment, with every record that came before."""
        self.flush()
        pace = snapshots.Pace()
        with self._lock:
            metrics = [snapshots.snapshot(family, pace) for family in self._families.values()]
        for metric in metrics:
            # So that a second import of the package finds these instruments.
            setattr(metric, _OWNER, self)
            yield metric

    def enqueue(self, count: Callable[[Sequence[_T]], None], record: _T, *, may_count: bool = True) -> None:
        """Queue a record to be counted together with others that have the same ``count``.

        Args:
            count: Counts a sequence of such records.
            record: The record.
            may_count: Whether this event may count at once; False where a garbage collection may have caused it.
        """
        self._waiting.append((count, record))
        if self.waits:
            if len(self._waiting) >= _MAX_WAITING:
                self._schedule()
        elif may_count:
            if self._counting_thread != threading.get_ident():
                self._count_waiting()
        else:
            self._schedule()

    def _schedule(self) -> None:
        """Have the worker count what waits, unless it is about to."""
        if not self._is_scheduled:
            # Set before the worker can reset it.
            self._is_scheduled = True
            if not self._worker.submit(self._count_scheduled):
                self._is_scheduled = False

    def _count_scheduled(self) -> None:
        self._count_waiting()
        # A worker that is never idle updates the gauges too.
        if self._updating_worker is not None and time.monotonic() - self._updated_at >= _IDLE_SECONDS:
            self._update_gauges()

    def start_updates(self) -> None:
        """In multiprocess mode, have the worker update the gauges from now on; a run has started.

        A handler alone starts no thread: an application may fork its workers after it has made one.
        """
        if not self.waits and self._updating_worker is not (worker := self._worker) and worker.try_submit(_ignore):
            self._updating_worker = worker

    def _update_gauges(self) -> bool:
        """Do what a reading does elsewhere; return whether there is anything to update later."""
        # Kept only at the end: after a failure, or without handlers, the next run starts the updates again.
        worker, self._updating_worker = self._updating_worker, None
        self._call(self._before_flush)
        self._count_all()
        self._updated_at = time.monotonic()
        if self._before_flush:
            self._updating_worker = worker
        return bool(self._before_flush)

    def add_waiting(self, queue: RecordQueue) -> None:
        """Have the ended runs in a queue recorded before the next count."""
        self._queues[weakref.ref(queue)] = None
        if len(self._queues) >= _MAX_QUEUES:
            self._schedule()

    def remove_waiting(self, queue: RecordQueue) -> None:
        """Let go of a queue in which nothing waits."""
        self._queues.pop(weakref.ref(queue), None)

    def settle_soon(self) -> None:
        """Have the worker record and count what waits."""
        self._schedule()

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the worker's thread."""
        self._worker.submit(job)

    def before_flush(self, update: Callable[[], None]) -> None:
        """Call a bound method on the reader's thread before each reading of the registry, while its object lives."""
        self._before_flush.append(WeakMethod(update))

    def after_settling(self, update: Callable[[], None]) -> None:
        """Call a bound method at each reading, once all ended runs are recorded, while its object lives."""
        self._after_settling.append(WeakMethod(update))

    def flush(self) -> None:
        """Count what waits, and return when it is counted."""
        self._call(self._before_flush)
        if not self._waiting and not self._queues:
            self._call(self._after_settling)
            if not self._waiting and not self.sums:
                return
        if threading.current_thread() is threading.main_thread():
            # A lock, not an Event: an interrupt inside Event.wait() can surface as a RuntimeError.
            counted = threading.Lock()
            counted.acquire()
            if self._worker.submit(partial(self._count_and_release, counted)):
                counted.acquire()
                return
        self._count_all()

    def _call(self, hooks: list[WeakMethod[Callable[[], None]]]) -> None:
        for reference in list(hooks):
            if (update := reference()) is None:
                with suppress(ValueError):  # another thread has removed it
                    hooks.remove(reference)
            else:
                self._guarded(update)

    def rest(self) -> None:
        """Count what waits and end the worker's thread; a later record starts a new one."""
        self.flush()
        worker, self._worker = self._worker, self._new_worker()
        worker.close(_EXIT_SECONDS)
        self._is_scheduled = False

    def _count_waiting(self) -> None:
        self._is_scheduled = False
        # Counting can enqueue more, and so can a finaliser.
        while self._settle_slice() or self._waiting:
            self._count_slice()
            snapshots.pause()

    def _settle_slice(self) -> bool:
        """Have some ended runs recorded; return whether there were any."""
        for reference in list(self._queues):
            queue = reference()
            if queue is None:
                self._queues.pop(reference, None)
            elif queue.settle_slice():
                return True
            else:
                queue.settle()
        return False

    def _count_slice(self) -> None:
        with self._lock:
            groups: dict[Callable[[Any], None], list[Any]] = {}
            with suppress(IndexError):
                for _ in range(_SLICE):
                    count, record = self._waiting.popleft()
                    groups.setdefault(count, []).append(record)
            self._counting_thread = threading.get_ident()
            try:
                for count, records in groups.items():
                    self._guarded(partial(count, records))
            finally:
                self._counting_thread = None
        if self.sums.is_full or not self.waits:
            self._pass_on()

    def _pass_on(self) -> None:
        """Have prometheus-client take what the counts have added up."""
        with self._lock:
            self.sums.pass_on(self._guarded, snapshots.Pace())

    def _count_and_release(self, counted: threading.Lock) -> None:
        try:
            self._count_all()
        finally:
            counted.release()

    def _count_all(self) -> None:
        self._count_waiting()
        self._call(self._after_settling)
        if self._waiting:
            self._count_waiting()
        self._pass_on()

    def _guarded(self, count: Callable[[], None]) -> None:
        try:
            count()
        except Exception:
            _logger.exception("A record could not be counted.")
            with self._lock:
                self.counter("eco2_callbacks_errors_total").labels(callback="emit").inc()

    def before_fork(self) -> None:
        """Wait for the end of a count or a scrape: a child would never get the locks that it holds.

        The registry's own lock is private (tested with prometheus-client 0.20 to 0.26); without it a child hangs where
        another thread began a scrape at the moment of the fork.
        """
        self._lock.acquire()
        self._held_lock = getattr(self._registry(), "_lock", None)
        if self._held_lock is not None:
            self._held_lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let other threads count and scrape again."""
        self._release_registry()
        self._lock.release()

    def _release_registry(self) -> None:
        lock, self._held_lock = self._held_lock, None
        if lock is not None:
            lock.release()

    def after_fork_in_child(self) -> None:
        """Start with an empty queue: the parent counts what waited."""
        self._release_registry()
        self._lock = threading.RLock()
        self._waiting.clear()
        self._queues.clear()
        self.sums.clear()
        self._is_scheduled = False
        self._updating_worker = None
        self._counting_thread = None
        self.claims.clear()

    def _new_worker(self) -> BatchWorker:
        # Weak: the thread must not keep the instruments.
        update = None if self.waits else partial(_update_if_alive, WeakMethod(self._update_gauges))
        return BatchWorker(
            "eco2-prometheus",
            on_failure=_log_failure,
            on_dropped=_ignore,
            exit_seconds=_EXIT_SECONDS,
            rest_seconds=0.0,
            idle_seconds=_IDLE_SECONDS,
            on_idle=update,
        )

    def counter(self, name: str) -> Counter:
        """Return a counter family by its name in the exposition."""
        return cast("Counter", self._families[name])

    def gauge(self, name: str) -> Gauge:
        """Return a gauge family by its name in the exposition."""
        return cast("Gauge", self._families[name])

    def histogram(self, name: str) -> Histogram:
        """Return a histogram family by its name in the exposition."""
        return cast("Histogram", self._families[name])


def _update_if_alive(reference: WeakMethod[Callable[[], bool]]) -> bool:
    update = reference()
    return update is not None and update()


def _log_failure() -> None:
    _logger.exception("Records could not be counted.")


def _ignore() -> None:
    """Do nothing: records that the worker does not count wait for the next reader."""


def _build(family: Family) -> MetricWrapperBase:
    if family.kind == "counter":
        return Counter(family.name, family.help, family.labels, registry=None)
    if family.kind == "gauge":
        # In multiprocess mode the workers' highest value, or the sum over the living ones.
        mode: Literal["livemax", "livesum"] = "livemax" if family.is_setting else "livesum"
        return Gauge(family.name, family.help, family.labels, registry=None, multiprocess_mode=mode)
    return Histogram(family.name, family.help, family.labels, registry=None, buckets=family.buckets)


_making = forks.ForkLock()
_made: WeakKeyDictionary[CollectorRegistry, Instruments] = WeakKeyDictionary()


def instruments_of(registry: CollectorRegistry) -> Instruments:
    """Return the registry's instruments, made at the first call, so that handlers on one registry share them."""
    with _making.held:
        instruments = _made.get(registry)
        if instruments is None:
            instruments = _made[registry] = _find(registry) or Instruments(registry)
        return instruments


def _find(registry: CollectorRegistry) -> Instruments | None:
    """Return instruments that this module made before it was reloaded or imported a second time."""
    for metric in registry.collect():
        if (instruments := getattr(metric, _OWNER, None)) is not None:
            return cast("Instruments", instruments)
    return None
