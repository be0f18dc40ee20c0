"""The instruments on one Prometheus registry: the families of the contract, and the records that wait to be counted."""

from __future__ import annotations

import gc
import logging
import os
import threading
from bisect import bisect_left
from collections import Counter as Tally
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar
from weakref import WeakKeyDictionary, WeakMethod

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.metrics import MetricWrapperBase

from eco2_callbacks.attribution import LabelGuard
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.families import CLOSED_LABELS, FAMILIES, Family

__all__ = ["Instruments", "instruments_of", "observe_all"]

_logger = logging.getLogger(__name__)
_T = TypeVar("_T")
_MOST_WAITING = 256


class Instruments:
    """The families of the contract on one registry, what bounds their labels there, and what is still to be counted.

    Counting a record moves some twenty series, each behind a lock of its own: more work than all the rest of a model
    call's measurement. So records wait, and are counted in one go, warm, when the registry is read or many have come
    together. Whoever reads the registry sees all of them. In multiprocess mode, where another process reads, nothing
    waits.

    An event can be told in the middle of anything, by a garbage collection that ends an abandoned stream: even while
    this thread holds one of prometheus-client's locks, which are not reentrant. So an event only submits what it moves;
    nothing but ``flush`` touches an instrument, and no collection leads there.

    Raises:
        ConfigError: If the registry holds one of the names already, from somebody else.
    """

    def __init__(self, registry: CollectorRegistry) -> None:
        self._families: dict[str, MetricWrapperBase] = {}
        self._waiting: deque[tuple[Callable[[Any], None], Any]] = deque()
        self.waits = "PROMETHEUS_MULTIPROC_DIR" not in os.environ
        self._before_reading: list[WeakMethod[Callable[[], None]]] = []
        self._counting = threading.RLock()
        if _on_collection not in gc.callbacks:
            gc.callbacks.append(_on_collection)
        try:
            for family in FAMILIES:
                self._families[family.name] = _build(family, registry, self.flush)
        except ValueError as error:
            for built in self._families.values():
                registry.unregister(built)
            raise ConfigError(
                f"The registry refused the handler's metrics ({error}); pass another registry=."
            ) from error
        overflow = self.counter("eco2_callbacks_label_overflow_total")
        for label in sorted({label for family in FAMILIES for label in family.labels} - CLOSED_LABELS):
            overflow.labels(label=label)
        self.guard = LabelGuard(lambda label: overflow.labels(label=label).inc())

    def submit(self, count: Callable[[Sequence[_T]], None], record: _T) -> None:
        """Have a record counted, at the latest when the registry is read, together with others of its kind."""
        self._waiting.append((count, record))
        if not self.waits or len(self._waiting) >= _MOST_WAITING:
            self.touch()

    def touch(self) -> None:
        """Count what waits, unless this is an event told by a garbage collection."""
        if threading.get_ident() not in _collecting:
            self.flush()

    def on_flush(self, update: Callable[[], None]) -> None:
        """Have a bound method called before what waits is counted, as long as its object lives."""
        self._before_reading.append(WeakMethod(update))

    def flush(self) -> None:
        """Count what waits."""
        with self._counting:
            for reference in list(self._before_reading):
                if (update := reference()) is None:
                    self._before_reading.remove(reference)
                else:
                    self._guarded(update)
            # What is counted can have more counted, and a finaliser can submit in between.
            while self._waiting:
                together: dict[Callable[[Any], None], list[Any]] = {}
                with suppress(IndexError):
                    while True:
                        count, record = self._waiting.popleft()
                        together.setdefault(count, []).append(record)
                for count, records in together.items():
                    self._guarded(partial(count, records))

    def add(self, count: Callable[[Sequence[_T]], None], record: _T) -> None:
        """Have a record counted by the flush that asks for it."""
        self._waiting.append((count, record))

    def _guarded(self, count: Callable[[], None]) -> None:
        try:
            count()
        except Exception:
            _logger.exception("Something could not be counted.")
            self.counter("eco2_callbacks_errors_total").labels(callback="emit").inc()

    def counter(self, name: str) -> Counter:
        """Return a counter family by its name in the exposition."""
        family = self._families[name]
        assert isinstance(family, Counter)
        return family

    def gauge(self, name: str) -> Gauge:
        """Return a gauge family by its name in the exposition."""
        family = self._families[name]
        assert isinstance(family, Gauge)
        return family

    def histogram(self, name: str) -> Histogram:
        """Return a histogram family by its name in the exposition."""
        family = self._families[name]
        assert isinstance(family, Histogram)
        return family


def observe_all(histogram: Histogram, amounts: Sequence[float]) -> None:
    """Observe many amounts at once, on a child with all its labels, without exemplars.

    prometheus-client has no public way, and one observation after another would cost a stream's every token more than
    all the rest of it.
    """
    try:
        bounds, buckets, total = histogram._upper_bounds, histogram._buckets, histogram._sum
        places = Tally(bisect_left(bounds, amount) for amount in amounts)
    except (AttributeError, TypeError):
        for amount in amounts:
            histogram.observe(amount)
        return
    for place, times in places.items():
        buckets[place].inc(times)
    total.inc(sum(amounts))


class _Current:
    """Counts what waits before the family is read."""

    flush: Callable[[], None]

    def collect(self) -> Iterable[Metric]:
        """Return the family's samples, up to date."""
        self.flush()
        return super().collect()  # type: ignore[misc,no-any-return]


class _Counter(_Current, Counter):
    pass


class _Gauge(_Current, Gauge):
    pass


class _Histogram(_Current, Histogram):
    pass


def _build(family: Family, registry: CollectorRegistry, flush: Callable[[], None]) -> MetricWrapperBase:
    built: _Counter | _Gauge | _Histogram
    if family.kind == "counter":
        built = _Counter(family.name, family.help, family.labels, registry=None)
    elif family.kind == "gauge":
        # In multiprocess mode a gauge is the sum over the living workers.
        built = _Gauge(family.name, family.help, family.labels, registry=None, multiprocess_mode="livesum")
    else:
        built = _Histogram(family.name, family.help, family.labels, registry=None, buckets=family.buckets)
    built.flush = flush
    registry.register(built)
    return built


# The threads in which the garbage collector is at work.
_collecting: set[int] = set()


def _on_collection(phase: str, _info: object) -> None:
    (_collecting.add if phase == "start" else _collecting.discard)(threading.get_ident())


_shared: WeakKeyDictionary[CollectorRegistry, Instruments] = WeakKeyDictionary()
_lock = threading.Lock()


def instruments_of(registry: CollectorRegistry) -> Instruments:
    """Return the registry's instruments, made at the first call, so that handlers on one registry share them."""
    with _lock:
        instruments = _shared.get(registry)
        if instruments is None:
            instruments = _shared[registry] = Instruments(registry)
        return instruments
