"""One clear line a minute where LangSmith's client logs every batch of runs that it cannot send."""

from __future__ import annotations

import logging
import re
import threading
import time

__all__ = ["OutageFilter"]

_FAILED = re.compile(
    "Failed to (?:multipart ingest runs|send compressed multipart ingest|batch ingest runs): (?P<why>[^\n]*)"
)
_QUIET_SECONDS = 60.0
_LONGEST_CAUSE = 200


class OutageFilter(logging.Filter):
    """Lets the first failure of a minute through, said in our words, and counts the others into the next one.

    It belongs on the logger ``langsmith.client``.

    The client's own line is some thousand characters of run ids, and there is one for every batch: a LangSmith that is
    away would fill the log of an application that is well.
    """

    def __init__(self) -> None:
        super().__init__()
        self._quiet_until = 0.0
        self._unsaid = 0
        self._lock = threading.Lock()

    def filter(self, record: logging.LogRecord) -> bool:
        """Say whether a record is logged; one of a failure is rewritten."""
        failed = _FAILED.match(record.getMessage())
        if failed is None:
            return True
        now = time.monotonic()
        with self._lock:
            if now < self._quiet_until:
                self._unsaid += 1
                return False
            self._quiet_until = now + _QUIET_SECONDS
            unsaid, self._unsaid = self._unsaid, 0
        record.msg = (
            "LangSmith does not take the runs that are sent to it (%s). They are missing there, but counted in "
            "Prometheus, and the application is not affected. Said once a minute; %d more since the last time."
        )
        record.args = (failed["why"][:_LONGEST_CAUSE], unsaid)
        return True
