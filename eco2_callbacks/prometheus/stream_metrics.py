"""StreamMetrics: what a publisher reports about the streams that it sends to readers."""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Literal, TypeAlias, get_args

from eco2_callbacks.prometheus.exporter import PrometheusExporter
from eco2_callbacks.prometheus.series import PublishSeries

__all__ = ["Recovery", "RecoveryStatus", "StreamMetrics"]

Recovery: TypeAlias = Literal["catch_up", "snapshot"]
RecoveryStatus: TypeAlias = Literal["success", "error"]
_logger = logging.getLogger(__name__)
_STREAM_STATUSES = ("success", "error", "cancelled", "recovered")


class StreamMetrics:
    """Counts what happens to a stream between the model and its readers, on the registry of a handler.

    Bad arguments are logged and counted as errors of the handler; nothing is raised.
    """

    def __init__(self, exporter: PrometheusExporter) -> None:
        self._exporter = exporter
        self._instruments = instruments = exporter.instruments
        self._requests = instruments.counter("chat_stream_requests_total")
        for stream_status in _STREAM_STATUSES:
            self._requests.labels(status=stream_status)
        self._recoveries = instruments.counter("chat_stream_recovery_total")
        for kind in get_args(Recovery):
            for status in get_args(RecoveryStatus):
                self._recoveries.labels(type=kind, status=status)

    def published(self, node: str, seconds: float) -> None:
        """Count one published token of a node, and the seconds that publishing took, as of a Redis ``XADD``."""
        if not (isinstance(node, str) and isinstance(seconds, int | float) and 0 <= seconds < math.inf):
            self._refuse(f"published(node={node!r}, seconds={seconds!r})", "a node's name and its seconds, 0 or more")
            return
        self._instruments.enqueue(self._count_published, (node, seconds))

    def recovered(self, kind: Recovery, status: RecoveryStatus) -> None:
        """Count a reader that had lost a stream and took it up again, or failed to.

        ``catch_up`` replays the tokens that the reader missed; ``snapshot`` sends the answer so far in one piece.
        """
        if kind not in get_args(Recovery) or status not in get_args(RecoveryStatus):
            self._refuse(f"recovered({kind!r}, {status!r})", "'catch_up' or 'snapshot', and 'success' or 'error'")
            return
        self._instruments.enqueue(self._count_recoveries, (kind, status))

    def _count_published(self, tokens: Sequence[tuple[str, float]]) -> None:
        by_node: defaultdict[str, list[float]] = defaultdict(list)
        for node, seconds in tokens:
            by_node[node].append(seconds)
        for node, published in by_node.items():
            self._exporter.table.series_for(PublishSeries, node).count(published)

    def _count_recoveries(self, recoveries: Sequence[tuple[str, str]]) -> None:
        for kind, status in recoveries:
            self._recoveries.labels(type=kind, status=status).inc()
            if status == "success":
                self._requests.labels(status="recovered").inc()

    def _refuse(self, came: str, wanted: str) -> None:
        _logger.error("%s came, wanted %s; it is not counted.", came, wanted)
        self._exporter.count_error("stream_metrics")
