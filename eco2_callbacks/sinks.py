"""SinkQueue: a sink of the application's behind a queue, so that what it waits for delays nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from inspect import iscoroutinefunction

from eco2_callbacks.background import Background
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.records import Record, Sink

__all__ = ["SinkQueue", "close_all"]

_logger = logging.getLogger(__name__)
_MOST_WAITING = 10_000
_TRIAL_SECONDS = 1.0
_SLOW_SECONDS = 0.05
_CLOSE_SECONDS = 10.0
_EXIT_SECONDS = 5.0
_QUIET_SECONDS = 60.0


class SinkQueue:
    """Hands records to a sink on a thread of the sink's own, in their order.

    A sink with ``close()`` does I/O, and nobody ever waits for it. One without is taken to keep records in memory, and
    is called at once, on the event's own thread, so that it has its record when the call returns. Unless it is slow:
    the first record is a trial, for which a call waits a second at most, and a sink that takes longer, or more than a
    twentieth of a second over two records in a row, is put behind its queue for good.

    Args:
        sink: The sink.
        on_failure: Called with ``emit`` or ``close`` when the sink raised in it.
        on_dropped: Called for each record that did not reach it, as its queue was full or it was closed.

    Raises:
        ConfigError: If it is no sink.
    """

    def __init__(self, sink: Sink, *, on_failure: Callable[[str], None], on_dropped: Callable[[], None]) -> None:
        emit, close = getattr(sink, "emit", None), getattr(sink, "close", None)
        if not callable(emit) or iscoroutinefunction(emit) or iscoroutinefunction(close):
            raise ConfigError(f"sinks= holds {sink!r}, wanted objects with a plain method emit(record); pass such.")
        self._sink = sink
        self._name = type(sink).__name__
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self.emit: Callable[[Record], None] = self._try if close is None else self._queue
        self._slow_in_a_row = 0
        self._quiet_until = {"failed": 0.0, "dropped": 0.0}
        self._background = Background(
            f"eco2-sink-{self._name}",
            on_failure=lambda: self._failed("close", None),
            on_dropped=self._dropped,
            last=close,
            most=_MOST_WAITING,
            exit_seconds=_EXIT_SECONDS,
        )

    def finish(self) -> None:
        """Have what waits handed over and the sink closed, without waiting for it."""
        self._background.finish()

    def close(self, timeout_seconds: float) -> None:
        """Hand over what waits and close the sink, as far as both go within this time."""
        self._background.close(timeout_seconds)

    def _queue(self, record: Record) -> None:
        self._background.submit(lambda: self._take(record))

    def _try(self, record: Record) -> None:
        taken = threading.Event()

        def take() -> None:
            try:
                self._take(record)
            finally:
                taken.set()

        # A record made by what the sink itself does would wait for itself.
        if not self._background.submit(take) or self._background.is_current():
            return
        if not taken.wait(_TRIAL_SECONDS):
            self._was_slow()
        elif self.emit == self._try:
            self.emit = self._at_once
            self._background.retire()

    def _at_once(self, record: Record) -> None:
        began = time.monotonic()
        self._take(record)
        # Once can be the machine's fault.
        self._slow_in_a_row = self._slow_in_a_row + 1 if time.monotonic() - began > _SLOW_SECONDS else 0
        if self._slow_in_a_row > 1:
            self._was_slow()

    def _was_slow(self) -> None:
        if self.emit != self._queue:
            self.emit = self._queue
            _logger.warning(
                "Sink %s is slow; from now on no call waits for it. Give it a close(), and none ever does.", self._name
            )

    def _take(self, record: Record) -> None:
        try:
            self._sink.emit(record)
        except KeyboardInterrupt:
            raise
        except BaseException:
            self._failed("emit", record)

    def _failed(self, method: str, record: Record | None) -> None:
        self._on_failure(method)
        if self._may_say("failed"):
            _logger.exception(
                "Sink %s raised in %s (run %s); the application is not affected. For %.0f seconds its failures are "
                'counted only, in eco2_callbacks_errors_total{callback="%s"}.',
                self._name,
                method,
                getattr(record, "run_id", None),
                _QUIET_SECONDS,
                method,
            )

    def _dropped(self) -> None:
        self._on_dropped()
        if self._may_say("dropped"):
            _logger.error(
                "Sink %s takes records slower than they come: %s wait, or it was closed before it had taken all. "
                'Records are lost; each is counted in eco2_callbacks_errors_total{callback="overflow"}.',
                self._name,
                _MOST_WAITING,
            )

    def _may_say(self, what: str) -> bool:
        now = time.monotonic()
        if now < self._quiet_until[what]:
            return False
        self._quiet_until[what] = now + _QUIET_SECONDS
        return True


def close_all(queues: list[SinkQueue]) -> None:
    """Hand over what waits in all queues at once and close their sinks, as far as that goes within ten seconds."""
    for queue in queues:
        queue.finish()
    until = time.monotonic() + _CLOSE_SECONDS
    for queue in queues:
        queue.close(max(0.0, until - time.monotonic()))
