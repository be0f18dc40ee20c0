"""PrometheusSink: finished records into counters and histograms, open runs into gauges."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, TypeVar, cast, get_args

from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks.instruments import instruments_of
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.series import (
    CallSeries,
    NodeSeries,
    PublishSeries,
    RequestSeries,
    RetrieverSeries,
    ScoreSeries,
    Series,
    StreamSeries,
    SubagentSeries,
    ToolSeries,
)
from eco2_callbacks.streams import Stream

__all__ = ["PrometheusSink", "Recovery", "RecoveryStatus"]

Recovery: TypeAlias = Literal["catch_up", "snapshot"]
RecoveryStatus: TypeAlias = Literal["success", "error"]
_logger = logging.getLogger(__name__)
_S = TypeVar("_S", bound=Series)


class _PushedStream(Stream):
    """A stream whose every chunk is counted at once, since another process reads the metrics."""

    __slots__ = ("_push",)

    def __init__(self, push: Callable[[Stream], None]) -> None:
        super().__init__()
        self._push = push

    def arrived(self, seconds: float) -> None:
        super().arrived(seconds)
        self._push(self)


class PrometheusSink:
    """Counts records on a registry; sinks on one registry share its instruments.

    Args:
        registry: Where the metrics live.
        agent_name: The agent whose requests are counted as open.
        subagents: Nodes that are also counted as subagents.
        scores: Node and key of the quality scores to come.
        max_label_values: How many values a label takes before new ones become ``other``.
        max_tenants: The same for tenants; None is ``max_label_values``.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        agent_name: str = "",
        subagents: Sequence[str] = (),
        scores: Sequence[tuple[str, str]] = (),
        max_label_values: int = 100,
        max_tenants: int | None = None,
    ) -> None:
        self._instruments = instruments_of(registry)
        self._agent_name = agent_name
        self._subagents = frozenset(subagents)
        self._cap = max_label_values
        self._tenant_cap = max_label_values if max_tenants is None else max_tenants
        self._series: defaultdict[type, dict[tuple[str, ...], object]] = defaultdict(dict)
        self._count_open_runs: Callable[[], int] = int
        self._shown_open_runs = 0
        self._open_runs = self._instruments.gauge("eco2_callbacks_open_runs")
        self._streams: dict[Stream, StreamSeries] = {}
        self._active_streams = self._instruments.gauge("chat_stream_active")
        self._stream_requests = self._instruments.counter("chat_stream_requests_total")
        for stream_status in ("success", "error", "cancelled", "recovered"):
            self._stream_requests.labels(status=stream_status)
        self._recoveries = self._instruments.counter("chat_stream_recovery_total")
        for kind in get_args(Recovery):
            for status in get_args(RecoveryStatus):
                self._recoveries.labels(type=kind, status=status)
        self._evicted = self._instruments.counter("eco2_callbacks_evicted_runs_total")
        self._errors = self._instruments.counter("eco2_callbacks_errors_total")
        for node, key in scores:
            self._of(ScoreSeries, node, key)
        for subagent in subagents:
            self._of(SubagentSeries, subagent)

    def emit(self, record: Record) -> None:
        """Have one record counted, at the latest when the registry is read."""
        self._instruments.submit(self._count, record)

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._place(record)
            except Exception:
                _logger.exception("A record like %s could not be counted.", type(record).__name__)
                self._count_failures([("emit", 1)])

    def _place(self, record: Record) -> None:
        """Have the series that a record belongs to count it with others of theirs."""
        add = self._instruments.add
        if isinstance(record, LLMCall):
            calls = self._of(CallSeries, record.node, record.intent, record.provider, record.model, record.tenant_id)
            add(calls.count, record)
        elif isinstance(record, NodeRun):
            add(self._of(NodeSeries, record.node).count, record)
            for key, score in record.feedback.items():
                add(self._of(ScoreSeries, record.node, key).count, score)
            if record.node in self._subagents:
                add(self._of(SubagentSeries, record.node).count, record)
        elif isinstance(record, ToolCall):
            add(self._of(ToolSeries, record.tool_name, record.agent_name).count, record)
        elif isinstance(record, RetrieverCall):
            add(self._of(RetrieverSeries, record.retriever, record.node).count, record)
        elif isinstance(record, GraphRun):
            requests = self._of(
                RequestSeries, record.agent_name, record.intent, record.provider, record.model, record.tenant_id
            )
            add(requests.count, record)

    def close(self) -> None:
        """Count what waits."""
        self._instruments.flush()

    def show_info(self, version: str, prices_version: str) -> None:
        """Show which versions are in use."""
        self._instruments.gauge("eco2_callbacks_info").labels(version=version, prices_version=prices_version).set(1)

    def show_budget(self, tenant_id: str, *, monthly_usd: float | None, daily_usd: float | None) -> None:
        """Show what a tenant may spend; None is no limit."""
        for name, usd in (("tenant_monthly_budget_usd", monthly_usd), ("tenant_daily_budget_usd", daily_usd)):
            if usd is not None:
                self._instruments.gauge(name).labels(tenant_id=self._label("tenant_id", tenant_id)).set(usd)

    def failed(self, callback: str, *, times: int = 1) -> None:
        """Count exceptions inside the handler; 0 times brings the callback's series to life."""
        self._instruments.submit(self._count_failures, (callback, times))

    def _count_failures(self, failures: Sequence[tuple[str, int]]) -> None:
        for callback, times in failures:
            self._errors.labels(callback=callback).inc(times)

    def watch_open_runs(self, count: Callable[[], int]) -> None:
        """Take what tells how many runs are open, to be asked whenever somebody looks."""
        self._count_open_runs = count
        self._instruments.on_flush(self._show_live)

    def run_evicted(self) -> None:
        """Count a run that was closed because too many were open, or it was for too long."""
        self._instruments.submit(self._count_evicted, 1)

    def _count_evicted(self, runs: Sequence[int]) -> None:
        self._evicted.inc(sum(runs))

    def call_opened(self, node: str, intent: str, provider: str, model: str, tenant_id: str) -> None:
        """Bring a model call's series to life at 0, so that a ratio over them is 0 and not missing."""
        self._of(CallSeries, node, intent, provider, model, tenant_id)
        if not self._instruments.waits:
            self._instruments.touch()

    def node_opened(self, node: str) -> None:
        """Bring a node's series to life at 0."""
        self._of(NodeSeries, node)

    def tool_opened(self, tool_name: str) -> None:
        """Bring a tool's series to life at 0."""
        self._of(ToolSeries, tool_name, self._agent_name)

    def retriever_opened(self, retriever: str, node: str) -> None:
        """Bring a retriever's series to life at 0."""
        self._of(RetrieverSeries, retriever, node)

    def stream_opened(self, node: str, provider: str) -> Stream:
        """Count one more open stream; what comes in it is counted whenever somebody looks."""
        series = self._of(StreamSeries, node, provider)
        if self._instruments.waits:
            stream = Stream()
        else:
            stream = _PushedStream(partial(self._instruments.submit, series.count_tokens))
        self._streams[stream] = series
        self._instruments.submit(self._move_active, 1)
        return stream

    def stream_closed(self, stream: Stream) -> None:
        """Count a stream as closed, and what is left of it to count; once, however often it is told."""
        if (series := self._streams.pop(stream, None)) is not None:
            self._instruments.submit(self._move_active, -1)
            self._instruments.submit(series.count_tokens, stream)

    def _move_active(self, moves: Sequence[int]) -> None:
        self._active_streams.inc(sum(moves))

    def request_opened(self, intent: str, tenant_id: str) -> Callable[[], None]:
        """Count one more open request and bring its series to life at 0; return what counts it as closed."""
        move = self._of(RequestSeries, self._agent_name, intent, "", "", tenant_id).move_open
        self._instruments.submit(move, 1)
        return partial(self._instruments.submit, move, -1)

    def token_published(self, node: str, seconds: float) -> None:
        """Count one token that a publisher handed on."""
        self._instruments.submit(self._of(PublishSeries, node).count, seconds)

    def stream_recovered(self, kind: Recovery, status: RecoveryStatus) -> None:
        """Count a reader that took a stream up again, or could not."""
        self._recoveries.labels(type=kind, status=status).inc()
        if status == "success":
            self._stream_requests.labels(status="recovered").inc()

    def _show_live(self) -> None:
        self._show_open_runs()
        if self._instruments.waits:
            # The keys alone: of pairs a list is made with tuples, and a collection amid that can end a stream.
            for stream in list(self._streams):
                if stream.has_uncounted and (series := self._streams.get(stream)) is not None:
                    series.count_tokens((stream,))

    def _show_open_runs(self) -> None:
        # Added, not set: another handler on the registry has open runs of its own.
        now = self._count_open_runs()
        self._open_runs.inc(now - self._shown_open_runs)
        self._shown_open_runs = now

    def _of(self, kind: type[_S], *values: str) -> _S:
        """Return the series of these label values; those past the cap share the series of ``other``."""
        known = self._series[kind]
        series = known.get(values)
        if series is None:
            admitted = tuple(map(self._label, kind.LABELS, values))
            # Kept under the admitted values only: the others are without bound.
            series = known.get(admitted)
            if series is None:
                built = kind(self._instruments, dict(zip(kind.LABELS, admitted, strict=True)), self._label)
                series = known.setdefault(admitted, built)
        return cast("_S", series)

    def _label(self, label: str, value: str) -> str:
        return self._instruments.guard.admit(label, value, self._tenant_cap if label == "tenant_id" else self._cap)
