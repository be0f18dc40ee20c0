"""SinkQueue: a sink of the application's behind a queue, so that what it waits for delays nobody."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from eco2_callbacks.background import Background
from eco2_callbacks.records import Record, Sink

__all__ = ["SinkQueue"]

_logger = logging.getLogger(__name__)
_MOST_WAITING = 10_000
_PATIENCE_SECONDS = 0.25
_CLOSE_SECONDS = 10.0
_EXIT_SECONDS = 5.0
_QUIET_SECONDS = 60.0


class SinkQueue:
    """Hands records to a sink on a thread of the sink's own, in their order.

    A sink with ``close()`` does I/O, and nobody ever waits for it. One without is taken to keep records in memory, and
    is called at once, on the event's own thread, so that it has its record when the call returns. Unless it is slow:
    the first record is a trial, for which a call waits a quarter of a second at most, and a sink that takes longer over
    that or any later one is put behind its queue for good.

    Args:
        sink: The sink.
        on_failure: Called, while the exception is handled, with a record that the sink raised on; None is its close.
        on_dropped: Called for each record that did not reach it, as its queue was full or it was closed.
    """

    def __init__(
        self, sink: Sink, *, on_failure: Callable[[Record | None], None], on_dropped: Callable[[], None]
    ) -> None:
        self._sink = sink
        self._name = type(sink).__name__
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self.emit: Callable[[Record], None] = self._queue if hasattr(sink, "close") else self._try
        self._quiet_until = 0.0
        self._background = Background(
            f"eco2-sink-{self._name}",
            on_failure=lambda: self._on_failure(None),
            on_dropped=self._dropped,
            most=_MOST_WAITING,
            exit_seconds=_EXIT_SECONDS,
        )

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
        if taken.wait(_PATIENCE_SECONDS):
            self.emit = self._at_once
        else:
            self._was_slow()

    def _at_once(self, record: Record) -> None:
        began = time.monotonic()
        self._take(record)
        if time.monotonic() - began > _PATIENCE_SECONDS:
            self._was_slow()

    def _was_slow(self) -> None:
        if self.emit != self._queue:
            self.emit = self._queue
            _logger.warning(
                "Sink %s took longer than %s seconds over a record; from now on no call waits for it. "
                "A sink that does I/O is never waited for if it has a close().",
                self._name,
                _PATIENCE_SECONDS,
            )

    def close(self) -> None:
        """Hand over what waits and close the sink, as far as both go within ten seconds."""
        if hasattr(self._sink, "close"):
            self._background.submit(self._sink.close)
        with suppress(RuntimeError):  # no thread can be started any more at the end of the process
            self._background.close(_CLOSE_SECONDS)

    def _take(self, record: Record) -> None:
        try:
            self._sink.emit(record)
        except Exception:
            self._on_failure(record)

    def _dropped(self) -> None:
        self._on_dropped()
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _logger.error(
                "Sink %s takes records slower than they come: %s wait, or it was closed before it had taken all. "
                'Records are lost; each is counted in eco2_callbacks_errors_total{callback="overflow"}.',
                self._name,
                _MOST_WAITING,
            )
