"""PrometheusExporter: finished records into counters and histograms, open runs into gauges."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial
from uuid import UUID
from weakref import WeakMethod, finalize

from prometheus_client import REGISTRY, CollectorRegistry

from eco2_callbacks.prometheus.instruments import Instruments, instruments_of
from eco2_callbacks.prometheus.model_labels import model_label
from eco2_callbacks.prometheus.price_metrics import PriceMetrics
from eco2_callbacks.prometheus.series import (
    AgentRun,
    CallSeries,
    NodeSeries,
    RequestSeries,
    RetrieverSeries,
    ScoreSeries,
    StreamSeries,
    SubagentSeries,
    ToolSeries,
)
from eco2_callbacks.prometheus.series_table import SeriesTable
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

__all__ = ["PrometheusExporter"]

_logger = logging.getLogger(__name__)
_CLOSED_GENERATOR = "GeneratorExit"


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
        self._table = SeriesTable(
            self._instruments,
            tenants=tenants,
            agents=(agent_name, *subagents),
            max_label_values=max_label_values,
            max_tenants=max_tenants,
        )
        self._init, self._series_for = self._table.init, self._table.series_for
        self._prices: PriceMetrics | None = None
        self._open_run_count: WeakMethod[Callable[[], int]] | None = None
        self._shown_open_runs = 0
        self._open_runs = self._instruments.gauge("eco2_callbacks_open_runs")
        self._streams: dict[Stream, tuple[str, str]] = {}
        self._active_streams = self._instruments.gauge("chat_stream_active")
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

    @property
    def table(self) -> SeriesTable:
        """The handler's series, for further metrics of this room."""
        return self._table

    # --- runs ---

    def on_start(self, run: OpenRun) -> None:
        """Initialise the run's series at 0, so that a ratio over them is 0 and not missing; count open requests.

        A run that another exporter on the registry counts is left to that one.
        """
        if not self._claims.claim(run.run_id, None if run.parent is None else run.parent.run_id):
            return
        self._instruments.start_updates()
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
        self._instruments.start_updates()
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

    def _update_open_runs(self, counts: Sequence[int]) -> None:
        # Added, not set: another handler on the registry has open runs of its own.
        self._open_runs.inc(counts[-1] - self._shown_open_runs)
        self._shown_open_runs = counts[-1]

    def _count_evicted(self, runs: Sequence[int]) -> None:
        self._evicted.inc(sum(runs))

    def _count_errors(self, errors: Sequence[tuple[str, int]]) -> None:
        for callback, times in errors:
            self._errors.labels(callback=callback).inc(times)

    # --- the handler itself ---

    def set_budget(self, tenant_id: str, *, monthly_usd: float | None, daily_usd: float | None) -> None:
        """Set what a tenant may spend; None is no limit."""
        for name, usd in (("tenant_monthly_budget_usd", monthly_usd), ("tenant_daily_budget_usd", daily_usd)):
            if usd is not None:
                self._instruments.gauge(name).labels(tenant_id=self._table.label("tenant_id", tenant_id)).set(usd)

    def watch_prices(self, prices: PriceMetrics) -> None:
        """Show the price data at each flush."""
        self._prices = prices

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

    def _update_live(self) -> None:
        """Close the runs that their callers have left, and enqueue the chunks of open streams."""
        count = None if self._open_run_count is None else self._open_run_count()
        if count is not None:
            count()
        if self._prices is not None:
            self._prices.show()
        for stream in list(self._streams):
            if stream.has_uncounted:
                self._instruments.enqueue(self._count_chunks, stream)

    def _show_open_runs(self) -> None:
        # An ended run is claimed until it is recorded.
        open_runs = len(self._claims)
        if open_runs != self._shown_open_runs:
            self._instruments.enqueue(self._update_open_runs, open_runs)
