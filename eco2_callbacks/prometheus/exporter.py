"""PrometheusExporter: finished records into counters and histograms, open runs into gauges."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal, TypeAlias, TypeVar, cast, get_args
from uuid import UUID
from weakref import WeakMethod, finalize

from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks.prometheus.instruments import Instruments, instruments_of
from eco2_callbacks.prometheus.label_limiter import exposable
from eco2_callbacks.prometheus.model_labels import model_label
from eco2_callbacks.prometheus.series import (
    AgentRun,
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
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall
from eco2_callbacks.runs import (
    OpenGraphRun,
    OpenLLMCall,
    OpenNodeRun,
    OpenRun,
    OpenToolCall,
    RecordQueue,
    RunObserver,
    Stream,
)

__all__ = ["PrometheusExporter", "Recovery", "RecoveryStatus"]

Recovery: TypeAlias = Literal["catch_up", "snapshot"]
RecoveryStatus: TypeAlias = Literal["success", "error"]
_logger = logging.getLogger(__name__)
_S = TypeVar("_S", bound=Series)
_MAX_INITIALISED = 10_000
_CLOSED_GENERATOR = "GeneratorExit"
_STREAM_STATUSES = ("success", "error", "cancelled", "recovered")


class PrometheusExporter(RunObserver):
    """Counts records on a registry; exporters on one registry share its instruments, and each run counts once there.

    Args:
        registry: Registry of the metrics.
        agent_name: Agent whose requests are counted.
        subagents: Nodes and agents that are also counted as subagents.
        tenants: Tenants that keep their label whatever the cap.
        scores: Node and key of each quality score, initialised at 0.
        max_label_values: Number of values that a label takes; later ones become ``other``.
        max_tenants: The same for tenants; None is ``max_label_values``.
    """

    def __init__(
        self,
        registry: CollectorRegistry = REGISTRY,
        *,
        agent_name: str = "",
        subagents: Sequence[str] = (),
        tenants: Sequence[str] = (),
        scores: Sequence[tuple[str, str]] = (),
        max_label_values: int = 100,
        max_tenants: int | None = None,
    ) -> None:
        self._instruments = instruments_of(registry)
        self._claims = self._instruments.claims.new_claimant()
        finalize(self, self._claims.release_all).atexit = False
        # Requests that this exporter has counted as open.
        self._open_requests: set[UUID] = set()
        self._agent_name = agent_name
        self._subagents = frozenset(subagents)
        # Values that the application has named: they are names, and keep their label.
        self._declared = {
            "tenant_id": frozenset(map(exposable, tenants)),
            "agent_name": frozenset(map(exposable, (agent_name, *subagents))),
        }
        self._cap = max_label_values
        self._tenant_cap = max_label_values if max_tenants is None else max_tenants
        self._series: defaultdict[type, dict[tuple[str, ...], object]] = defaultdict(dict)
        self._open_run_count: WeakMethod[Callable[[], int]] | None = None
        self._prices_age_seconds: Callable[[], float] | None = None
        # Until they are shown: this package's version, and what returns that of the price data.
        self._prices_version: tuple[str, Callable[[], str]] | None = None
        self._shown_open_runs = 0
        self._open_runs = self._instruments.gauge("eco2_callbacks_open_runs")
        # Label values that were seen at a start; the series of most of them exist.
        self._initialised: defaultdict[type, set[tuple[str, ...]]] = defaultdict(set)
        self._streams: dict[Stream, tuple[str, str]] = {}
        self._active_streams = self._instruments.gauge("chat_stream_active")
        self._stream_requests = self._instruments.counter("chat_stream_requests_total")
        for stream_status in _STREAM_STATUSES:
            self._stream_requests.labels(status=stream_status)
        self._recoveries = self._instruments.counter("chat_stream_recovery_total")
        for kind in get_args(Recovery):
            for status in get_args(RecoveryStatus):
                self._recoveries.labels(type=kind, status=status)
        self._evicted = self._instruments.counter("eco2_callbacks_evicted_runs_total")
        self._errors = self._instruments.counter("eco2_callbacks_errors_total")
        for node, key in scores:
            self._series_for(ScoreSeries, node, key)
        for subagent in subagents:
            self._series_for(SubagentSeries, subagent)

    @property
    def instruments(self) -> Instruments:
        """The registry's instruments, for further metrics of this room."""
        return self._instruments

    # --- runs ---

    def on_start(self, run: OpenRun) -> None:
        """Initialise the run's series at 0, so that a ratio over them is 0 and not missing; count open requests.

        A run that another exporter on the registry counts is left to that one.
        """
        if not self._claims.claim(run.run_id, None if run.parent is None else run.parent.run_id):
            return
        if isinstance(run, OpenLLMCall):
            self._init(
                CallSeries,
                *(run.node_name, run.place.agent_name, run.intent, run.provider, run.request_model, run.tenant_id),
            )
        elif isinstance(run, OpenNodeRun):
            self._init(NodeSeries, run.name, run.place.agent_name)
        elif isinstance(run, OpenToolCall):
            if run.is_retriever:
                self._init(RetrieverSeries, run.name, run.node_name)
            else:
                self._init(ToolSeries, run.name, run.place.agent_name)
        elif isinstance(run, OpenGraphRun):
            self._open_requests.add(run.run_id)
            self._instruments.enqueue(self._move_open, (run.own_context.intent, run.own_context.tenant_id, 1))

    def on_stream_start(self, call: OpenLLMCall) -> None:
        """Count one more open stream; its chunks are counted whenever the registry is read."""
        stream = call.stream
        if stream is None or not self._claims.holds(call.run_id):
            return
        if not self._instruments.waits:
            # Another process reads the metrics, so the chunks are counted as they arrive.
            stream.on_arrival = partial(self._instruments.enqueue, self._count_chunks, stream)
        self._streams[stream] = labels = call.node_name, call.provider
        self._init(StreamSeries, *labels)
        self._instruments.enqueue(self._move_active, 1)

    def on_link_end(self, run: OpenRun) -> None:
        """Count an agent's own run where the agent is a subagent."""
        if self._claims.release(run.run_id):
            self._count_agent_run(run)

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Count a run that ended, unless another exporter on the registry does."""
        is_counted = self._claims.release(run.run_id)
        # A garbage collection may have closed a generator.
        may_count = run.outcome.error_type != _CLOSED_GENERATOR
        enqueue = self._instruments.enqueue
        if isinstance(run, OpenLLMCall) and run.stream in self._streams:
            enqueue(self._move_active, -1, may_count=False)
            enqueue(self._count_last_chunks, run.stream, may_count=may_count)
        elif isinstance(run, OpenGraphRun) and run.run_id in self._open_requests:
            self._open_requests.discard(run.run_id)
            context = run.own_context
            enqueue(self._move_open, (context.intent, context.tenant_id, -1), may_count=may_count)
        if not is_counted:
            return
        self._count_agent_run(run)
        if isinstance(record, GraphRun):
            enqueue(self._count_requests, record, may_count=may_count)
        elif record is not None:
            enqueue(self._count, record, may_count=may_count)

    def _count_agent_run(self, run: OpenRun) -> None:
        if run.agent is not None and run.agent in self._subagents:
            agent_run = run.agent, AgentRun(run.outcome.status, run.duration_seconds)
            may_count = run.outcome.error_type != _CLOSED_GENERATOR
            self._instruments.enqueue(self._count_agents, agent_run, may_count=may_count)

    def on_evicted(self) -> None:
        """Count a run that was closed because too many were open, or because it was open too long."""
        self._instruments.enqueue(self._count_evicted, 1)

    def emit(self, record: Record) -> None:
        """Count one record, at the latest when the registry is read."""
        self._instruments.enqueue(self._count, record)

    def flush(self) -> None:
        """Count what waits."""
        self._instruments.flush()

    @property
    def is_immediate(self) -> bool:
        """Whether another process reads the metrics, so that each record is counted at once."""
        return not self._instruments.waits

    def add_waiting(self, queue: RecordQueue) -> None:
        """Have the ended runs in a queue recorded before the next count."""
        self._instruments.add_waiting(queue)

    def remove_waiting(self, queue: RecordQueue) -> None:
        """Let go of a queue in which nothing waits."""
        self._instruments.remove_waiting(queue)

    def run_soon(self, job: Callable[[], None]) -> None:
        """Run a job on the thread that counts."""
        self._instruments.run_soon(job)

    def settle_soon(self) -> None:
        """Have ended runs recorded and counted on another thread."""
        self._instruments.settle_soon()

    def close(self) -> None:
        """Count what waits, and end the thread that counts."""
        self._instruments.rest()

    # --- what is counted ---

    def _count(self, records: Sequence[Record]) -> None:
        for record in records:
            try:
                self._dispatch(record)
            except Exception:
                _logger.exception("A record of type %s could not be counted.", type(record).__name__)
                self._count_errors([("emit", 1)])

    def _count_requests(self, records: Sequence[GraphRun]) -> None:
        """Count own requests under the handler's ``agent_name``, whichever agent is at their root."""
        for record in records:
            self._request_series(record, self._agent_name).count(record)
        if not self._instruments.waits and self._prices_age_seconds is not None:
            # Another process reads the metrics, so that no flush updates it.
            self._show_prices_age((self._prices_age_seconds(),))

    def _count_agents(self, runs: Sequence[tuple[str, AgentRun]]) -> None:
        for name, run in runs:
            self._series_for(SubagentSeries, name).count(run)

    def _request_series(self, run: GraphRun, agent_name: str) -> RequestSeries:
        model = model_label(run.model, run.request_model)
        return self._series_for(RequestSeries, agent_name, run.intent, run.provider, model, run.tenant_id)

    def _dispatch(self, record: Record) -> None:
        """Count a record in its series."""
        if isinstance(record, LLMCall):
            model = model_label(record.model, record.request_model)
            self._series_for(
                CallSeries,
                *(record.node, record.agent_name, record.intent, record.provider, model, record.tenant_id),
            ).count(record)
        elif isinstance(record, NodeRun):
            self._series_for(NodeSeries, record.node, record.agent_name).count(record)
            for key, score in record.feedback.items():
                self._series_for(ScoreSeries, record.node, key).count(score)
            if record.node in self._subagents:
                self._series_for(SubagentSeries, record.node).count(record)
        elif isinstance(record, ToolCall):
            self._series_for(ToolSeries, record.tool_name, record.agent_name).count(record)
        elif isinstance(record, RetrieverCall):
            self._series_for(RetrieverSeries, record.retriever, record.node).count(record)
        elif isinstance(record, GraphRun):
            self._request_series(record, record.agent_name).count(record)

    def _move_active(self, moves: Sequence[int]) -> None:
        self._instruments.sums.counts[self._active_streams] += sum(moves)

    def _move_open(self, moves: Sequence[tuple[str, str, int]]) -> None:
        for intent, tenant_id, move in moves:
            self._series_for(RequestSeries, self._agent_name, intent, "", "", tenant_id).move_open(move)

    def _count_chunks(self, streams: Sequence[Stream]) -> None:
        for stream in dict.fromkeys(streams):
            if stream.has_uncounted and (labels := self._streams.get(stream)) is not None:
                self._series_for(StreamSeries, *labels).count_tokens((stream,))

    def _count_last_chunks(self, streams: Sequence[Stream]) -> None:
        self._count_chunks(streams)
        for stream in streams:
            self._streams.pop(stream, None)

    def _init_series(self, wanted: Sequence[tuple[type[Series], tuple[str, ...]]]) -> None:
        for kind, values in wanted:
            self._series_for(kind, *values)

    def _update_open_runs(self, counts: Sequence[int]) -> None:
        # Added, not set: another handler on the registry has open runs of its own.
        self._open_runs.inc(counts[-1] - self._shown_open_runs)
        self._shown_open_runs = counts[-1]

    def _count_evicted(self, runs: Sequence[int]) -> None:
        self._evicted.inc(sum(runs))

    def _count_errors(self, errors: Sequence[tuple[str, int]]) -> None:
        for callback, times in errors:
            self._errors.labels(callback=callback).inc(times)

    # --- the handler itself, and publishers of streams ---

    def set_budget(self, tenant_id: str, *, monthly_usd: float | None, daily_usd: float | None) -> None:
        """Set what a tenant may spend; None is no limit."""
        for name, usd in (("tenant_monthly_budget_usd", monthly_usd), ("tenant_daily_budget_usd", daily_usd)):
            if usd is not None:
                self._instruments.gauge(name).labels(tenant_id=self._label("tenant_id", tenant_id)).set(usd)

    def watch_prices(
        self, version: str, prices_version: Callable[[], str], age_seconds: Callable[[], float], *, is_loaded: bool
    ) -> None:
        """Show which versions are in use, and at each flush the age of the price data.

        Where the data is not loaded yet, the first flush loads it. In multiprocess mode none follows.
        """
        self._prices_age_seconds = age_seconds
        self._prices_version = version, prices_version
        if is_loaded or not self._instruments.waits:
            self._show_prices()

    def _show_prices(self) -> None:
        if self._prices_version is not None:
            (version, prices_version), self._prices_version = self._prices_version, None
            self._instruments.enqueue(self._set_info, (version, prices_version()))
        if self._prices_age_seconds is not None:
            self._instruments.enqueue(self._show_prices_age, self._prices_age_seconds())

    def _set_info(self, versions: Sequence[tuple[str, str]]) -> None:
        for version, prices_version in versions:
            info = self._instruments.gauge("eco2_callbacks_info")
            info.labels(version=version, prices_version=prices_version).set(1)

    def _show_prices_age(self, ages: Sequence[float]) -> None:
        self._instruments.gauge("eco2_callbacks_prices_age_seconds").set(ages[-1])

    def init_error(self, callback: str) -> None:
        """Initialise the error counter of a callback at 0."""
        self._instruments.enqueue(self._count_errors, (callback, 0))

    def count_error(self, callback: str) -> None:
        """Count an exception inside the handler."""
        self._instruments.enqueue(self._count_errors, (callback, 1))

    def watch_open_runs(self, count: Callable[[], int]) -> None:
        """Take a bound method that closes the runs that their callers have left; it is called before each flush."""
        # Weak: the threads of sinks and instruments keep the exporter, and must not keep the handler.
        self._open_run_count = WeakMethod(count)
        self._instruments.before_flush(self._update_live)
        self._instruments.after_settling(self._show_open_runs)

    def count_published(self, node: str, seconds: float) -> None:
        """Count one token that a publisher sent to its readers."""
        self._instruments.enqueue(self._count_published, (node, seconds))

    def count_recovery(self, kind: Recovery, status: RecoveryStatus) -> None:
        """Count a reader that took up a stream again, or failed to."""
        self._instruments.enqueue(self._count_recoveries, (kind, status))

    def _count_published(self, tokens: Sequence[tuple[str, float]]) -> None:
        by_node: defaultdict[str, list[float]] = defaultdict(list)
        for node, seconds in tokens:
            by_node[node].append(seconds)
        for node, published in by_node.items():
            self._series_for(PublishSeries, node).count(published)

    def _count_recoveries(self, recoveries: Sequence[tuple[str, str]]) -> None:
        for kind, status in recoveries:
            self._recoveries.labels(type=kind, status=status).inc()
            if status == "success":
                self._stream_requests.labels(status="recovered").inc()

    def _update_live(self) -> None:
        """Close the runs that their callers have left, and enqueue the chunks of open streams."""
        count = None if self._open_run_count is None else self._open_run_count()
        if count is not None:
            count()
        self._show_prices()
        for stream in list(self._streams):
            if stream.has_uncounted:
                self._instruments.enqueue(self._count_chunks, stream)

    def _show_open_runs(self) -> None:
        # An ended run is claimed until it is recorded.
        open_runs = len(self._claims)
        if open_runs != self._shown_open_runs:
            self._instruments.enqueue(self._update_open_runs, open_runs)

    # --- series ---

    def _init(self, kind: type[Series], *values: str) -> None:
        """Have the series of these label values initialised with the next records."""
        if values not in self._initialised[kind]:
            initialised = self._initialised[kind]
            if len(initialised) >= _MAX_INITIALISED:
                initialised.clear()
            initialised.add(values)
            self._instruments.enqueue(self._init_series, (kind, values))

    def _series_for(self, kind: type[_S], *values: str) -> _S:
        """Return the series of these label values; values past the cap share the series of ``other``."""
        known = self._series[kind]
        series = known.get(values)
        if series is None:
            admitted = tuple(map(self._label, kind.LABELS, values))
            # Kept under the admitted values only: the others are unbounded.
            series = known.get(admitted)
            if series is None:
                built = kind(self._instruments, dict(zip(kind.LABELS, admitted, strict=True)), self._label)
                series = known.setdefault(admitted, built)
        return cast("_S", series)

    def _label(self, label: str, value: str) -> str:
        if (declared := self._declared.get(label)) is not None and exposable(value) in declared:
            return exposable(value)
        return self._instruments.limiter.admit(label, value, self._tenant_cap if label == "tenant_id" else self._cap)
