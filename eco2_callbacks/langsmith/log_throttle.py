"""One clear log line a minute where LangSmith's client logs every batch of runs that it cannot send."""

from __future__ import annotations

import logging
import re
import time

from eco2_callbacks.forks import ForkLock

__all__ = ["ThrottleFilter", "add_throttle", "remove_throttle"]

_CLIENT_LOGGER = logging.getLogger("langsmith.client")
_FAILED = re.compile(
    "Failed to (?:multipart ingest runs|send compressed multipart ingest|batch ingest runs): (?P<why>[^\n]*)"
)
_QUIET_SECONDS = 60.0
_MAX_CAUSE_LENGTH = 200


class ThrottleFilter(logging.Filter):
    """Passes the first failure of a minute in a short form, and adds the number of the others to the next one.

    The client's own line holds some thousand characters of run ids and comes with every batch: an outage of LangSmith
    would fill the log of a healthy application.
    """

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0
        self._suppressed = 0
        self._lock = ForkLock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether a record is logged; a failure is rewritten."""
        failed = _FAILED.match(record.getMessage())
        if failed is None:
            return True
        now = time.monotonic()
        with self._lock.held:
            if now < self._quiet_until:
                self._suppressed += 1
                return False
            self._quiet_until = now + _QUIET_SECONDS
            suppressed, self._suppressed = self._suppressed, 0
        record.msg = (
            "LangSmith does not accept the runs that are sent to it (%s). They are missing there, but counted in "
            "Prometheus, and the application is not affected. Logged once a minute; %d more since the last time."
        )
        record.args = (failed["why"][:_MAX_CAUSE_LENGTH], suppressed)
        return True


_throttle = ThrottleFilter()


def add_throttle() -> None:
    """Throttle the logger ``langsmith.client`` for the whole process."""
    _CLIENT_LOGGER.addFilter(_throttle)


def remove_throttle() -> None:
    """Log every line of ``langsmith.client`` again."""
    _CLIENT_LOGGER.removeFilter(_throttle)
