"""SinkObserver and BatchSinkProcessor: hand finished records to the application's sinks."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from functools import partial
from inspect import iscoroutinefunction
from typing import Any

from eco2_callbacks.arguments import check_sequence
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.records import Record
from eco2_callbacks.runs import OpenRun, RunObserver
from eco2_callbacks.sinks.batch_worker import BatchWorker
from eco2_callbacks.sinks.protocol import Sink
from eco2_callbacks.sinks.run_start import RunStart, run_start

__all__ = ["BatchSinkProcessor", "SinkObserver", "check_sinks"]

_logger = logging.getLogger(__name__)
_MAX_WAITING = 10_000
_CLOSE_SECONDS = 10.0
_EXIT_SECONDS = 5.0
_QUIET_SECONDS = 60.0


class SinkObserver(RunObserver):
    """Hands every record to every sink.

    Args:
        sinks: The application's sinks.
        on_failure: Called with ``emit`` or ``close`` when a sink raised in it, and with ``overflow`` for each record
            that did not reach its sink.

    Raises:
        ConfigError: If an object is no sink.
    """

    def __init__(self, sinks: Sequence[Sink], *, on_failure: Callable[[str], None]) -> None:
        self._processors = [BatchSinkProcessor(sink, on_failure=on_failure) for sink in sinks]
        self._live = [processor for processor in self._processors if processor.takes_starts]

    def on_start(self, run: OpenRun) -> None:
        """Hand the start of a run to the sinks that take starts."""
        if self._live and (start := run_start(run)) is not None:
            for processor in self._live:
                processor.on_start(start)

    @property
    def is_inline(self) -> bool:
        """Whether a sink is called inline, so that its record must exist when a call returns."""
        return any(processor.is_inline for processor in self._processors)

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the thread of the first sink that has one, before the records that come later; else at once."""
        if not any(processor.run_soon(job) for processor in self._processors):
            job()

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Hand over the record of a run that ended."""
        if record is not None:
            self.emit(record)

    def emit(self, record: Record) -> None:
        """Hand over one record."""
        for processor in self._processors:
            processor.emit(record)

    def emit_event(self, event: Any) -> None:
        """Hand over an event that is no record, such as a ``BudgetEvent``."""
        for processor in self._processors:
            processor.emit(event)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every sink has its records; return whether the time sufficed."""
        until = time.monotonic() + timeout_seconds
        flushed = [processor.flush(max(0.0, until - time.monotonic())) for processor in self._processors]
        return all(flushed)

    def close(self) -> None:
        """Drain all queues at once and close the sinks, within ten seconds."""
        for processor in self._processors:
            processor.begin_shutdown()
        until = time.monotonic() + _CLOSE_SECONDS
        for processor in self._processors:
            processor.close(max(0.0, until - time.monotonic()))


class BatchSinkProcessor:
    """Hands records to one sink, in their order; ``Sink`` says on which thread.

    Args:
        sink: The sink.
        on_failure: As in ``SinkObserver``.

    Raises:
        ConfigError: If it is no sink.
    """

    def __init__(self, sink: Sink, *, on_failure: Callable[[str], None]) -> None:
        _check_sink(sink)
        close = getattr(sink, "close", None)
        self._guard = guard = _SinkGuard(sink, on_failure)
        self._worker = None
        if close is not None:
            self._worker = BatchWorker(
                f"eco2-sink-{guard.name}",
                on_failure=partial(guard.on_error, "close", None),
                on_dropped=guard.on_dropped,
                last=close,
                max_waiting=_MAX_WAITING,
                exit_seconds=_EXIT_SECONDS,
            )

    @property
    def takes_starts(self) -> bool:
        """Whether the sink has ``on_start``."""
        return self._guard.takes_starts

    def on_start(self, run: RunStart) -> None:
        """Hand over the start of a run, inline."""
        self._guard.on_start(run)

    def emit(self, record: Record) -> None:
        """Hand over one record: inline, or through the queue."""
        if self._worker is None:
            self._guard.emit(record)
        else:
            self._worker.submit(partial(self._guard.emit, record))

    @property
    def is_inline(self) -> bool:
        """Whether the sink is called on the thread of the event."""
        return self._worker is None

    def run_soon(self, job: Callable[[], None]) -> bool:
        """Have a job run on the sink's thread; return whether it will be."""
        return self._worker is not None and self._worker.try_submit(job)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until the sink has every record handed over so far; return whether the time sufficed."""
        return self._worker is None or self._worker.flush(timeout_seconds)

    def begin_shutdown(self) -> None:
        """Drain the queue and close the sink without waiting; an inline sink gets no more records."""
        if self._worker is None:
            self._guard.is_closed = True
        else:
            self._worker.begin_shutdown()

    def close(self, timeout_seconds: float) -> None:
        """Drain the queue and close the sink, as far as the time allows."""
        self.begin_shutdown()
        if self._worker is not None:
            self._worker.close(timeout_seconds)


def check_sinks(sinks: Sequence[Sink]) -> tuple[Sink, ...]:
    """Return the application's sinks.

    Raises:
        ConfigError: If they are no list, or one of them is no sink.
    """
    found = check_sequence("sinks", sinks, "a list of sinks")
    for sink in found:
        _check_sink(sink)
    return found


def _check_sink(sink: object) -> None:
    if isinstance(sink, type):
        raise ConfigError(f"sinks= holds the class {sink!r}, wanted an object; pass {sink.__name__}().")
    emit, close = getattr(sink, "emit", None), getattr(sink, "close", None)
    is_plain = callable(emit) and not iscoroutinefunction(emit) and not iscoroutinefunction(close)
    if not is_plain or not (close is None or callable(close)):
        raise ConfigError(f"sinks= holds {sink!r}, wanted objects with a plain method emit(record); pass those.")
    start = getattr(sink, "on_start", None)
    if start is not None and (not callable(start) or iscoroutinefunction(start)):
        raise ConfigError(f"sinks= holds {sink!r}, wanted a plain method on_start(run) or none; correct it.")


class _SinkGuard:
    """Calls a sink; counts what it raises or loses, and logs it at most once a minute."""

    def __init__(self, sink: Sink, on_failure: Callable[[str], None]) -> None:
        self.name = type(sink).__name__
        self._take_start: Callable[[RunStart], None] | None = getattr(sink, "on_start", None)
        self.takes_starts = callable(self._take_start)
        self.is_closed = False
        self._sink = sink
        self._on_failure = on_failure
        self._quiet_until = {"failed": 0.0, "dropped": 0.0}

    def emit(self, record: Record) -> None:
        if self.is_closed:
            self.on_dropped()
            return
        try:
            self._sink.emit(record)
        except KeyboardInterrupt:
            self.on_dropped()
            raise
        except BaseException:
            self.on_error("emit", record)

    def on_start(self, run: RunStart) -> None:
        if self.is_closed or self._take_start is None:
            return
        try:
            self._take_start(run)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self.on_error("emit", run)

    def on_error(self, method: str, record: Record | RunStart | None) -> None:
        self._on_failure(method)
        if self._may_log("failed"):
            _logger.exception(
                "Sink %s raised in %s (run %s); the application is not affected. For %.0f seconds its failures are "
                'counted only, in eco2_callbacks_errors_total{callback="%s"}.',
                self.name,
                method,
                getattr(record, "run_id", None),
                _QUIET_SECONDS,
                method,
            )

    def on_dropped(self) -> None:
        self._on_failure("overflow")
        if self._may_log("dropped"):
            _logger.error(
                "Sink %s lost a record: %s records wait already, or the handler was closed. "
                'Each lost record is counted in eco2_callbacks_errors_total{callback="overflow"}.',
                self.name,
                _MAX_WAITING,
            )

    def _may_log(self, what: str) -> bool:
        now = time.monotonic()
        if now < self._quiet_until[what]:
            return False
        self._quiet_until[what] = now + _QUIET_SECONDS
        return True
