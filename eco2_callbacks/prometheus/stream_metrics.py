"""StreamMetrics: what a publisher reports about the streams that it sends to readers."""

from __future__ import annotations

import logging
import math
from typing import get_args

from eco2_callbacks.prometheus.exporter import PrometheusExporter, Recovery, RecoveryStatus

__all__ = ["StreamMetrics"]

_logger = logging.getLogger(__name__)


class StreamMetrics:
    """Counts what happens to a stream between the model and its readers, on the registry of a handler.

    Bad arguments are logged and counted as errors of the handler; nothing is raised.
    """

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter

    def published(self, node: str, seconds: float) -> None:
        """Count one published token of a node, and the seconds that publishing took, as of a Redis ``XADD``."""
        if not (isinstance(node, str) and isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            self._refuse(f"published(node={node!r}, seconds={seconds!r})", "a node's name and its seconds, 0 or more")
            return
        self._exporter.count_published(node, seconds)

    def recovered(self, kind: Recovery, status: RecoveryStatus) -> None:
        """Count a reader that had lost a stream and took it up again, or failed to.

        ``catch_up`` replays the tokens that the reader missed; ``snapshot`` sends the answer so far in one piece.
        """
        if kind not in get_args(Recovery) or status not in get_args(RecoveryStatus):
            self._refuse(f"recovered({kind!r}, {status!r})", "'catch_up' or 'snapshot', and 'success' or 'error'")
            return
        self._exporter.count_recovery(kind, status)

    def _refuse(self, came: str, wanted: str) -> None:
        _logger.error("%s came, wanted %s; it is not counted.", came, wanted)
        self._exporter.count_error("stream_metrics")
