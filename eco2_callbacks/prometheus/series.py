"""The series that one kind of record moves, looked up once and initialised at 0 with all their statuses.

A look-up by label values costs more than the count itself, so the series of one set of values are kept together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from functools import cached_property, partial
from typing import ClassVar, NamedTuple, TypeAlias, get_args

from eco2_callbacks.pricing import COST_PARTS, Cost
from eco2_callbacks.prometheus.instruments import Instruments
from eco2_callbacks.prometheus.sums import observe_all
from eco2_callbacks.records import (
    EstimateReason,
    GraphRun,
    LLMCall,
    NodeRun,
    Record,
    RetrieverCall,
    RetryReason,
    Status,
    ToolCall,
    UnpricedReason,
)
from eco2_callbacks.runs import Stream
from eco2_callbacks.usage import TokenUsage

__all__ = [
    "AgentRun",
    "CallSeries",
    "NodeSeries",
    "PublishSeries",
    "RequestSeries",
    "RetrieverSeries",
    "ScoreSeries",
    "Series",
    "StreamSeries",
    "SubagentSeries",
    "ToolSeries",
]

Labels = Mapping[str, str]
# Returns the value of a label, or what replaces it past the cap.
Labeller = Callable[[str, str], str]

_CALL_STATUSES = ("success", "error", "cancelled")
_RUN_STATUSES = (*_CALL_STATUSES, "interrupted")


def selector(labels: Labels, *names: str) -> dict[str, str]:
    return {name: labels[name] for name in names}


def exemplar_of(record: Record) -> dict[str, str] | None:
    """Return the exemplar that links a record's seconds to its trace."""
    if record.otel_trace_id is None or record.otel_span_id is None:
        return None
    return {"trace_id": record.otel_trace_id, "span_id": record.otel_span_id}


class Series:
    """The series of one set of label values; ``LABELS`` names them."""

    LABELS: ClassVar[tuple[str, ...]]

    def __init__(self, instruments: Instruments, labels: Labels, label: Labeller) -> None:
        """Initialise the series; ``label`` limits the values of labels that only a record holds."""
        self._sums = instruments.sums
        self._label = label
        self._init_series(instruments, labels)

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        """Look the series up, which initialises them at 0."""
        raise NotImplementedError


class CallSeries(Series):
    """A model's calls in one node of one agent, for one intent and tenant."""

    LABELS = ("node", "agent_name", "intent", "provider", "model", "tenant_id")

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        self._place = place = selector(labels, "node", "provider", "model")
        model = selector(labels, "provider", "model")
        spent = selector(labels, "node", "agent_name", "intent", "provider", "model")
        payer = selector(labels, "provider", "model", "tenant_id")
        counter = instruments.counter
        calls, tokens = counter("llm_calls_total"), counter("llm_tokens_total")
        node_tokens = counter("graph_node_tokens_total")
        self._calls = {status: calls.labels(status=status, **spent) for status in _CALL_STATUSES}
        self._input = tokens.labels(token_type="input", **payer)
        self._output = tokens.labels(token_type="output", **payer)
        self._node_input = node_tokens.labels(token_type="input", **spent)
        self._node_output = node_tokens.labels(token_type="output", **spent)
        self._cost = counter("llm_cost_dollars_total").labels(**payer)
        self._node_cost = counter("graph_node_cost_dollars_total").labels(**spent)
        cached, media = counter("llm_cached_tokens_total"), counter("llm_media_tokens_total")
        tools = counter("llm_server_tool_calls_total")
        # The counter of each count of TokenUsage besides input and output.
        self._details = {
            "cache_read_tokens": cached.labels(kind="read", **place),
            "cache_creation_tokens": cached.labels(kind="write", **place),
            "reasoning_tokens": counter("llm_reasoning_tokens_total").labels(**place),
            "input_audio_tokens": media.labels(direction="input", modality="audio", **place),
            "output_audio_tokens": media.labels(direction="output", modality="audio", **place),
            "output_image_tokens": media.labels(direction="output", modality="image", **place),
            "web_searches": tools.labels(tool="web_search", **place),
            "x_searches": tools.labels(tool="x_search", **place),
            "web_fetches": tools.labels(tool="web_fetch", **place),
            "file_searches": tools.labels(tool="file_search", **place),
            "attachment_searches": tools.labels(tool="file_search", **place),
            "code_interpreter_sessions": tools.labels(tool="code_interpreter", **place),
            "code_executions": tools.labels(tool="code_execution", **place),
            "image_generations": tools.labels(tool="image_generation", **place),
        }
        parts = counter("llm_cost_parts_dollars_total")
        self._parts = {part: parts.labels(part=part, **model) for part in COST_PARTS}
        estimated, unpriced = counter("llm_estimated_cost_dollars_total"), counter("llm_unpriced_calls_total")
        self._estimated = {reason: estimated.labels(reason=reason, **model) for reason in get_args(EstimateReason)}
        self._unpriced = {reason: unpriced.labels(reason=reason, **model) for reason in get_args(UnpricedReason)}
        self._cache_savings = counter("llm_cache_savings_dollars_total").labels(**model)
        self._cache_surcharge = counter("llm_cache_surcharge_dollars_total").labels(**model)
        retries = counter("llm_retries_total")
        self._retries = {reason: retries.labels(reason=reason, **place) for reason in get_args(RetryReason)}
        self._cache_hits = counter("llm_cache_hits_total").labels(**place)
        self._rate_limits = counter("llm_rate_limit_errors_total").labels(**model)
        self._errors, self._images = counter("llm_errors_total"), counter("llm_images_total")
        self._duration = instruments.histogram("llm_inference_duration_seconds").labels(**place)
        self._first_token = instruments.histogram("llm_time_to_first_token_seconds").labels(**place)
        self._build_streams = partial(StreamSeries, instruments, selector(labels, *StreamSeries.LABELS), self._label)

    @cached_property
    def streams(self) -> StreamSeries:
        """The series of streamed answers; most calls of most nodes are not streamed."""
        return self._build_streams()

    def count(self, call: LLMCall) -> None:
        """Count a call; tokens and cost of a cache hit are not counted again."""
        counts, observe = self._sums.counts, self._sums.observe
        counts[self._calls[call.status]] += 1
        if call.retry is not None:
            counts[self._retries[call.retry]] += 1
        if call.sdk_retries:
            counts[self._retries["sdk"]] += call.sdk_retries
        if call.streamed:
            self.streams.count(call)
        if call.from_cache:
            counts[self._cache_hits] += 1
            return
        exemplar = exemplar_of(call)
        observe(self._duration, call.duration_seconds, exemplar)
        if call.time_to_first_token_seconds is not None:
            observe(self._first_token, call.time_to_first_token_seconds, exemplar)
        if call.status != "success" or call.estimated or call.unpriced_reason:
            self._count_trouble(call)
        if call.usage is not None:
            self._count_usage(call.usage)
        if call.cost is not None:
            self._count_cost(call.cost, call.cache_savings_usd, call.cache_surcharge_usd)

    def _count_usage(self, usage: TokenUsage) -> None:
        counts, details = self._sums.counts, self._details
        counts[self._input] += usage.input_tokens
        counts[self._node_input] += usage.input_tokens
        counts[self._output] += usage.output_tokens
        counts[self._node_output] += usage.output_tokens
        for name, count in usage.nonzero():
            if name in details:
                counts[details[name]] += count
        for size in usage.image_sizes or ("",) * usage.images:
            counts[self._images.labels(size=self._label("size", size), **self._place)] += 1

    def _count_cost(self, cost: Cost, saved_usd: Decimal, surcharge_usd: Decimal) -> None:
        add_usd, total_usd = self._sums.add_usd, cost.total_usd
        add_usd(self._cost, total_usd)
        add_usd(self._node_cost, total_usd)
        for part, part_usd in cost.parts.items():
            add_usd(self._parts[part], part_usd)
        if saved_usd:
            add_usd(self._cache_savings, saved_usd)
        if surcharge_usd:
            add_usd(self._cache_surcharge, surcharge_usd)

    def _count_trouble(self, call: LLMCall) -> None:
        counts = self._sums.counts
        if call.status == "error":
            error_type = self._label("error_type", call.error_type or "")
            counts[self._errors.labels(error_type=error_type, **self._place)] += 1
        if call.rate_limited:
            counts[self._rate_limits] += 1
        if call.unpriced_reason is not None:
            counts[self._unpriced[call.unpriced_reason]] += 1
        if call.estimate_reason is not None and call.cost is not None:
            self._sums.add_usd(self._estimated[call.estimate_reason], call.cost.total_usd)


class StreamSeries(Series):
    """Streams of a provider's answers in one node."""

    LABELS = ("node", "provider")

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        node, histogram = selector(labels, "node"), instruments.histogram
        tokens, seconds = instruments.counter("chat_stream_tokens_total"), histogram("chat_stream_duration_seconds")
        by_status = {status: tokens.labels(status=status, **node) for status in _CALL_STATUSES}
        # A chunk is counted when it arrives, before the status of its stream is known.
        self._tokens = by_status["success"]
        self._duration = {status: seconds.labels(status=status, **node) for status in _CALL_STATUSES}
        self._intervals = histogram("chat_stream_token_interval_seconds").labels(**selector(labels, "provider"))
        self._token_count = histogram("chat_stream_token_count").labels(**node)
        self._requests = instruments.counter("chat_stream_requests_total")
        PublishSeries(instruments, node, self._label)

    def count_tokens(self, streams: Sequence[Stream]) -> None:
        """Count the chunks that arrived since the last call."""
        for stream in streams:
            chunks, intervals = stream.pop_uncounted()
            if chunks:
                self._tokens.inc(chunks)
                observe_all(self._intervals, intervals)

    def count(self, call: LLMCall) -> None:
        """Count a stream that ended."""
        self._sums.counts[self._requests.labels(status=call.status)] += 1
        self._sums.observe(self._duration[call.status], call.duration_seconds, exemplar_of(call))
        self._sums.observe(self._token_count, call.streamed_tokens)


class PublishSeries(Series):
    """Tokens of a node that a publisher sends to readers."""

    LABELS = ("node",)

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        self._latency = instruments.histogram("chat_stream_token_latency_seconds").labels(**labels)

    def count(self, seconds: Sequence[float]) -> None:
        """Count tokens by the seconds that each took."""
        observe_all(self._latency, seconds)


class AgentRun(NamedTuple):
    """A run of an agent that is no node's."""

    status: Status
    duration_seconds: float


CountedRun: TypeAlias = NodeRun | ToolCall | AgentRun


class _RunSeries(Series):
    """Runs that are counted by status and timed."""

    RUNS: ClassVar[str]
    SECONDS: ClassVar[str]

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        runs = instruments.counter(self.RUNS)
        self._runs = {status: runs.labels(status=status, **labels) for status in _RUN_STATUSES}
        self._duration = instruments.histogram(self.SECONDS).labels(**labels)

    def count(self, run: CountedRun) -> None:
        """Count a run."""
        self._sums.counts[self._runs[run.status]] += 1
        exemplar = None if isinstance(run, AgentRun) else exemplar_of(run)
        self._sums.observe(self._duration, run.duration_seconds, exemplar)


class NodeSeries(_RunSeries):
    """A node's runs, by agent."""

    LABELS = ("node", "agent_name")
    RUNS = "graph_node_runs_total"
    SECONDS = "graph_node_duration_seconds"


class SubagentSeries(_RunSeries):
    """Runs of a node or agent named as subagent."""

    LABELS = ("subagent",)
    RUNS = "chat_subagent_calls_total"
    SECONDS = "chat_subagent_duration_seconds"


class ToolSeries(_RunSeries):
    """A tool's calls."""

    LABELS = ("tool_name", "agent_name")
    RUNS = "tool_calls_total"
    SECONDS = "tool_execution_duration_seconds"


class RetrieverSeries(Series):
    """A retriever's calls in one node."""

    LABELS = ("retriever", "node")

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        self._duration = instruments.histogram("retrieval_duration_seconds").labels(**labels)

    def count(self, call: RetrieverCall) -> None:
        """Count a call."""
        self._sums.observe(self._duration, call.duration_seconds, exemplar_of(call))


class ScoreSeries(Series):
    """A quality score of a node."""

    LABELS = ("node", "key")

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        self._scores = instruments.histogram("chat_feedback_score").labels(**labels)

    def count(self, score: float) -> None:
        """Observe a score."""
        self._sums.observe(self._scores, score)


class RequestSeries(Series):
    """An agent's requests of one intent and tenant, by the model of the last call."""

    LABELS = ("agent_name", "intent", "provider", "model", "tenant_id")

    def _init_series(self, instruments: Instruments, labels: Labels) -> None:
        self._intent = intent = selector(labels, "intent")
        self._agent = agent = selector(labels, "agent_name", "tenant_id")
        counter, histogram = instruments.counter, instruments.histogram
        requests = counter("chat_requests_total")
        answered_by = selector(labels, "intent", "provider")
        self._requests = {status: requests.labels(status=status, **answered_by) for status in _RUN_STATUSES}
        self._duration = histogram("chat_request_duration_seconds").labels(**answered_by)
        self._cost = histogram("chat_request_cost_dollars").labels(**intent)
        self._resumed = counter("chat_requests_resumed_total").labels(**intent)
        self._intents = counter("chat_intent_total").labels(**intent)
        self._errors = counter("chat_errors_total")
        self._agent_errors = counter("agent_errors_total")
        self._agent_duration = histogram("agent_request_duration_seconds").labels(model=labels["model"], **agent)
        self._llm_calls = histogram("agent_llm_calls_per_request").labels(agent_name=labels["agent_name"])
        self._tool_calls = histogram("agent_tool_calls_per_request").labels(agent_name=labels["agent_name"])
        self._open = instruments.gauge("agent_active_sessions").labels(**agent)

    def move_open(self, move: int) -> None:
        """Count a started request as +1 and an ended one as -1."""
        self._sums.counts[self._open] += move

    def count(self, run: GraphRun) -> None:
        """Count a request."""
        counts, observe = self._sums.counts, self._sums.observe
        counts[self._intents] += 1
        counts[self._requests[run.status]] += 1
        if run.resumed:
            counts[self._resumed] += 1
        exemplar = exemplar_of(run)
        observe(self._duration, run.duration_seconds, exemplar)
        observe(self._agent_duration, run.duration_seconds, exemplar)
        observe(self._cost, float(run.cost.total_usd))
        observe(self._llm_calls, run.llm_calls)
        observe(self._tool_calls, run.tool_calls)
        if run.status == "error":
            error_type = self._label("error_type", run.error_type or "")
            counts[self._errors.labels(error_type=error_type, **self._intent)] += 1
            counts[self._agent_errors.labels(error_type=error_type, **self._agent)] += 1
