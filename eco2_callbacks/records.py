"""The records: one immutable account of each finished event, made once and copied by every sink."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import field
from datetime import datetime
from decimal import Context, Decimal
from typing import Any, Literal, Protocol, TypeAlias, get_args
from uuid import UUID

from eco2_callbacks.frozen import frozen
from eco2_callbacks.usage import TokenUsage

__all__ = [
    "COST_PARTS",
    "EXACT",
    "Cost",
    "EstimateReason",
    "GraphRun",
    "LLMCall",
    "NodeRun",
    "Record",
    "RetrieverCall",
    "RetryReason",
    "Sink",
    "Status",
    "ToolCall",
    "UnpricedReason",
    "fault_of",
]

Status: TypeAlias = Literal["success", "error", "cancelled", "interrupted"]
EstimateReason: TypeAlias = Literal["cancelled", "error", "no_usage", "media"]
UnpricedReason: TypeAlias = Literal["unknown_model", "no_usage"]
RetryReason: TypeAlias = Literal["retry", "fallback"]

# What a bill is split by; a fee of a provider's tool is a part of its own.
COST_PARTS = (
    *("input", "cache_read", "cache_write", "output", "reasoning", "image", "audio"),
    *("web_search", "file_search", "code_interpreter", "maps_grounding"),
)

# Dollars are worked out in a context of our own: the application may have set another precision.
EXACT = Context(prec=60)
_ZERO = Decimal(0)
_SPAN = re.compile("[0-9a-f]{32}-[0-9a-f]{16}")


@frozen
class Cost:
    """US dollars, exact and unrounded.

    ``parts`` splits the total by what was billed (``input``, ``cache_read``, ``cache_write``, ``output``,
    ``reasoning``, ``image``, ``audio``, ``web_search``, ``file_search``, ``code_interpreter``, ``maps_grounding``) and
    sums to it.
    The fees of a provider's tools lie inside ``output_usd``.
    """

    input_usd: Decimal = _ZERO
    output_usd: Decimal = _ZERO
    parts: Mapping[str, Decimal] = field(default_factory=dict)

    @property
    def total_usd(self) -> Decimal:
        """Input plus output."""
        return EXACT.add(self.input_usd, self.output_usd)

    @classmethod
    def sum(cls, costs: Iterable[Cost]) -> Cost:
        """Return the costs added up, part by part."""
        costs = list(costs)
        if len(costs) == 1:
            return costs[0]
        input_usd = output_usd = _ZERO
        parts: dict[str, Decimal] = {}
        for cost in costs:
            input_usd = EXACT.add(input_usd, cost.input_usd)
            output_usd = EXACT.add(output_usd, cost.output_usd)
            for part, usd in cost.parts.items():
                parts[part] = EXACT.add(parts.get(part, _ZERO), usd)
        return cls(input_usd=input_usd, output_usd=output_usd, parts=parts)


@frozen
class LLMCall:
    """One call of a model, whatever became of it.

    Attributes:
        run_id: The call's run; ``parent_run_id`` the run above it, ``trace_id`` the topmost run the handler saw.
        operation: OpenTelemetry's ``gen_ai.operation.name``: ``chat`` or ``text_completion``.
        node: The LangGraph node it ran in, ``""`` outside a graph.
        provider: LangChain's ``ls_provider``; ``azure`` and ``google_vertexai`` are told from the endpoint.
        model: The model that answered, or the one asked for where the answer does not say.
        error_type: Class name of the exception, None on success.
        retry: Why this call repeats another one, None for a first attempt.
        rate_limited: Whether the provider answered 429.
        started_at: Aware wall time.
        time_to_first_token_seconds: None unless the answer streamed.
        streamed_tokens: Streamed chunks that carried content.
        usage: None where the provider told no usage and none could be estimated.
        cost: None where there is no usage or no price.
        estimated: Whether any part of ``usage`` or ``cost`` is an estimate; ``estimate_reason`` says why.
        unpriced_reason: Why ``cost`` is None although something may have been billed.
        service_tier: As the provider answered it (``flex``, ``priority``, ...).
        from_cache: Answered by LangChain's LLM cache: nothing was consumed.
        otel_trace_id: The sampled OpenTelemetry span that was current at the start, 32 hexadecimal digits, with the 16
            of ``otel_span_id``; None where there was none. All records have the two.
    """

    run_id: UUID
    trace_id: UUID
    parent_run_id: UUID | None = None
    operation: str = "chat"
    node: str = ""
    intent: str = "unclassified"
    tenant_id: str = ""
    agent_name: str = ""
    provider: str = ""
    model: str = ""
    request_model: str = ""
    status: Status = "success"
    error_type: str | None = None
    retry: RetryReason | None = None
    rate_limited: bool = False
    started_at: datetime
    duration_seconds: float
    time_to_first_token_seconds: float | None = None
    streamed: bool = False
    streamed_tokens: int = 0
    usage: TokenUsage | None = None
    cost: Cost | None = None
    estimated: bool = False
    estimate_reason: EstimateReason | None = None
    unpriced_reason: UnpricedReason | None = None
    service_tier: str | None = None
    from_cache: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


@frozen
class NodeRun:
    """One run of a LangGraph node with all model calls below it.

    ``parallel`` says that another task of the same step was seen; ``cost`` leaves out ``unpriced_calls`` calls without
    a price; ``feedback`` holds the quality scores the node returned, by key.
    """

    run_id: UUID
    trace_id: UUID
    node: str
    step: int | None = None
    parallel: bool = False
    intent: str = "unclassified"
    tenant_id: str = ""
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: Cost = field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    feedback: Mapping[str, float] = field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


@frozen
class ToolCall:
    """One run of a tool."""

    run_id: UUID
    trace_id: UUID
    tool_name: str
    node: str = ""
    agent_name: str = ""
    intent: str = "unclassified"
    tenant_id: str = ""
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


@frozen
class RetrieverCall:
    """One run of a retriever."""

    run_id: UUID
    trace_id: UUID
    retriever: str
    node: str = ""
    agent_name: str = ""
    intent: str = "unclassified"
    tenant_id: str = ""
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


@frozen
class GraphRun:
    """One request: a root chain run with everything below it.

    ``provider`` and ``model`` are those of the last model call; ``cost`` leaves out ``unpriced_calls`` calls without a
    price; a request in which a node was interrupted is ``interrupted`` although its root ended normally.
    """

    trace_id: UUID
    agent_name: str = ""
    intent: str = "unclassified"
    tenant_id: str = ""
    user_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float
    provider: str = ""
    model: str = ""
    llm_calls: int = 0
    tool_calls: int = 0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: Cost = field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


Record: TypeAlias = LLMCall | NodeRun | ToolCall | RetrieverCall | GraphRun


class Sink(Protocol):
    """Takes finished records.

    One that does I/O also has ``close()``: it is called on a thread of its own, and no call waits for it. One without
    is called on whatever thread an event happens on.
    """

    def emit(self, record: Record) -> None:
        """Take one record."""


def fault_of(record: Record) -> str | None:
    """Return what no sink could count about a record that was made elsewhere, None if it is sound."""
    if not isinstance(record, Record):
        return f"it is {type(record).__name__!r}, wanted one of {', '.join(kind.__name__ for kind in get_args(Record))}"
    if isinstance(record, LLMCall) and record.status == "interrupted":
        return "status is 'interrupted', wanted 'success', 'error' or 'cancelled'"
    ids = record.otel_trace_id, record.otel_span_id
    if ids != (None, None) and not _SPAN.fullmatch("{}-{}".format(*ids)):
        return f"the OpenTelemetry ids are {ids[0]!r} and {ids[1]!r}, wanted 32 and 16 hexadecimal digits"
    usage, cost = getattr(record, "usage", None), getattr(record, "cost", None)
    if usage is not None and (
        negative := [name for name, count in vars(usage).items() if name != "image_sizes" and count < 0]
    ):
        return f"the counts {negative!r} are below 0"
    if cost is None:
        return None
    if unknown := set(cost.parts) - set(COST_PARTS):
        return f"the cost has the parts {sorted(unknown)!r}, wanted some of {list(COST_PARTS)!r}"
    if min(cost.input_usd, cost.output_usd, *cost.parts.values(), _ZERO) < 0:
        return "the cost is below 0"
    if cost.parts and (parts_usd := sum(cost.parts.values())) != cost.total_usd:
        return f"the parts of the cost sum to {parts_usd}, not to its total {cost.total_usd}"
    return None
