"""The records: one immutable object per finished event, made once and copied by every output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

import msgspec

from eco2_callbacks.pricing import COST_PARTS, Cost
from eco2_callbacks.usage import Estimator, TokenUsage

__all__ = [
    "CostSource",
    "EstimateReason",
    "GraphRun",
    "LLMCall",
    "NodeRun",
    "Record",
    "RetrieverCall",
    "RetryReason",
    "Status",
    "ToolCall",
    "UnpricedReason",
    "validate_record",
]

Status: TypeAlias = Literal["success", "error", "cancelled", "interrupted"]
EstimateReason: TypeAlias = Literal["cancelled", "error", "no_usage", "media", "lost_usage"]
UnpricedReason: TypeAlias = Literal["unknown_model", "no_usage", "unpriced_unit", "self_hosted"]
CostSource: TypeAlias = Literal["rates", "custom", "provider"]
RetryReason: TypeAlias = Literal["retry", "fallback"]

_ZERO = Decimal(0)
_SPAN_IDS = re.compile("[0-9a-f]{32}-[0-9a-f]{16}")


class LLMCall(msgspec.Struct, frozen=True, kw_only=True):
    """One model call, however it ended.

    Attributes:
        run_id: The call's run id.
        trace_id: Run id of the topmost run that the handler saw.
        parent_run_id: Run id of the run above, as LangChain names it.
        operation: OpenTelemetry's ``gen_ai.operation.name``: ``chat`` or ``text_completion``.
        node: The LangGraph node that made the call; ``""`` outside a graph.
        provider: Who is paid: LangChain's ``ls_provider``, or the provider that the model's endpoint belongs to;
            ``self_hosted`` where that is unknown.
        model: The model that answered, or the requested model where the answer names none.
        error_type: Class name of the exception; None on success.
        retry: Why this call repeats another one; None for a first attempt.
        rate_limited: Whether the provider answered with HTTP status 429.
        started_at: Wall time with a time zone.
        time_to_first_token_seconds: None unless the answer was streamed.
        streamed_tokens: Number of streamed chunks with content.
        usage: None where the provider reported no usage and no estimate is possible.
        cost: USD; None where usage or price is unknown.
        estimated: Whether any part of ``usage`` or ``cost`` is an estimate; ``estimate_reason`` says why.
        unpriced_reason: Why ``cost`` is None although the provider may have billed something; ``unpriced_unit`` where
            ``cost`` leaves out a counted unit that has no rate, such as a search.
        cost_source: Where ``cost`` comes from: public ``rates``, ``custom`` rates, or the ``provider``, who stated it.
        computed_cost: What the rates give, beside a cost that the provider stated.
        cache_savings_usd: What prompt-cache reads saved, compared with the plain input rate.
        cache_surcharge_usd: What prompt-cache writes cost above the plain input rate.
        response_id: The provider's id of the answer; None where the client library drops it.
        estimator: What counted the text of an estimated ``usage``; None where no text was counted.
        service_tier: As the answer reports it (``flex``, ``priority``, ...).
        from_cache: Answered by LangChain's LLM cache: nothing was consumed.
        otel_trace_id: Trace id of the sampled OpenTelemetry span that was current at the start: 32 hexadecimal digits.
            None where there was none. Every kind of record has this field and the next one.
        otel_span_id: Span id of the same span: 16 hexadecimal digits.
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
    estimator: Estimator | None = None
    unpriced_reason: UnpricedReason | None = None
    cost_source: CostSource = "rates"
    computed_cost: Cost | None = None
    cache_savings_usd: Decimal = _ZERO
    cache_surcharge_usd: Decimal = _ZERO
    response_id: str | None = None
    service_tier: str | None = None
    from_cache: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


class NodeRun(msgspec.Struct, frozen=True, kw_only=True):
    """One run of a LangGraph node or functional-API task, with all model calls below it.

    Attributes:
        parallel: Whether another run of the same step ran beside this one.
        cost: USD; leaves out what ``unpriced_calls`` calls have no price for.
        feedback: Quality scores that the node returned, by key.
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
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    cost: Cost = msgspec.field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    feedback: Mapping[str, float] = msgspec.field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


class ToolCall(msgspec.Struct, frozen=True, kw_only=True):
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


class RetrieverCall(msgspec.Struct, frozen=True, kw_only=True):
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


class GraphRun(msgspec.Struct, frozen=True, kw_only=True):
    """One request: a root chain run with everything below it.

    Attributes:
        status: ``interrupted`` where a node was interrupted, although the root run then ends normally.
        resumed: Whether the request continues an interrupted one.
        provider: Provider of the last model call.
        model: Model of the last model call.
        cost: USD; leaves out what ``unpriced_calls`` calls have no price for.
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
    resumed: bool = False
    started_at: datetime
    duration_seconds: float
    provider: str = ""
    model: str = ""
    llm_calls: int = 0
    tool_calls: int = 0
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    cost: Cost = msgspec.field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)
    otel_trace_id: str | None = None
    otel_span_id: str | None = None


Record: TypeAlias = LLMCall | NodeRun | ToolCall | RetrieverCall | GraphRun


def validate_record(record: Record) -> str | None:
    """Return why a record that the application made cannot be counted; None if it is sound."""
    if not isinstance(record, Record):
        wanted = ", ".join(kind.__name__ for kind in get_args(Record))
        return f"it is {type(record).__name__!r}, wanted one of {wanted}"
    if isinstance(record, LLMCall) and record.status == "interrupted":
        return "status is 'interrupted', wanted 'success', 'error' or 'cancelled'"
    ids = record.otel_trace_id, record.otel_span_id
    if ids != (None, None) and not _SPAN_IDS.fullmatch("{}-{}".format(*ids)):
        return f"the OpenTelemetry ids are {ids[0]!r} and {ids[1]!r}, wanted 32 and 16 hexadecimal digits"
    usage, cost = getattr(record, "usage", None), getattr(record, "cost", None)
    if usage is not None and (
        negative := [name for name, count in usage.nonzero() if name != "image_sizes" and count < 0]
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
