"""StreamMetrics: what a publisher tells of the streams that it hands on to readers, beside what the handler sees."""

from __future__ import annotations

import logging
import math
from typing import get_args

from eco2_callbacks.prometheus import PrometheusSink, Recovery, RecoveryStatus

__all__ = ["StreamMetrics"]

_logger = logging.getLogger(__name__)


class StreamMetrics:
    """Counts what becomes of a stream on its way from the model to its readers, on the registry of a handler.

    What cannot be counted is logged and counted as a failure of the handler; nothing is raised.
    """

    def __init__(self, prometheus: PrometheusSink) -> None:
        self._prometheus = prometheus

    def published(self, node: str, seconds: float) -> None:
        """Count one token of a node that was handed on, and how long that took, as of a Redis ``XADD``."""
        if not (isinstance(node, str) and isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            self._refuse(f"published(node={node!r}, seconds={seconds!r})", "a node's name and its seconds, 0 or more")
            return
        self._prometheus.token_published(node, seconds)

    def recovered(self, kind: Recovery, status: RecoveryStatus) -> None:
        """Count a reader that had lost a stream and took it up again, or could not.

        ``catch_up`` is the replay of the tokens it missed, ``snapshot`` the answer so far in one piece.
        """
        if kind not in get_args(Recovery) or status not in get_args(RecoveryStatus):
            self._refuse(f"recovered({kind!r}, {status!r})", "'catch_up' or 'snapshot', and 'success' or 'error'")
            return
        self._prometheus.stream_recovered(kind, status)

    def _refuse(self, came: str, wanted: str) -> None:
        _logger.error("%s came, wanted %s; it is not counted.", came, wanted)
        self._prometheus.failed("stream_metrics")
