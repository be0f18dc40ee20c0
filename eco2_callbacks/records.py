"""The records: one immutable object per finished event, made once and copied by every output."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias, get_args
from uuid import UUID

import msgspec

from eco2_callbacks.json_values import json_value
from eco2_callbacks.pricing import COST_PARTS, Cost, RatesUsed
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
RetryReason: TypeAlias = Literal["retry", "fallback", "sdk"]

_ZERO = Decimal(0)
_SPAN_IDS = re.compile("[0-9a-f]{32}-[0-9a-f]{16}")


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True, tag_field="record"):
    """What every record says about who spent it.

    Attributes:
        trace_id: Run id of the topmost run that the handler saw.
        tenant_id: The tenant that pays; ``""`` where none is known.
        user_id: None where unknown, as the next four.
        session_id: The conversation; LangGraph's ``thread_id`` where the application names no session.
        job_id: The application's own id of the request.
        feature: The product feature that the request serves.
        prompt_version: Version of the prompt in use.
        agent_name: The nearest enclosing agent; see ``docs/attribution.md``.
        path: Agents and nodes from the root to this run, joined by ``/``, without ids: ``boss/tools/researcher/model``.
        intent: What the request is for; ``unclassified`` where nothing says.
        otel_trace_id: Trace id of the sampled OpenTelemetry span that was current at the start: 32 hexadecimal digits.
            None where there was none.
        otel_span_id: Span id of the same span: 16 hexadecimal digits.
    """

    trace_id: UUID
    tenant_id: str = ""
    user_id: str | None = None
    session_id: str | None = None
    job_id: str | None = None
    feature: str | None = None
    prompt_version: str | None = None
    agent_name: str = ""
    path: str = ""
    intent: str = "unclassified"
    otel_trace_id: str | None = None
    otel_span_id: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the record ready for JSON, with the key ``record`` that names its class.

        Ids, decimals and times are texts, as in ``docs/records.schema.json``. ``cost`` also holds ``total_usd``,
        ``usage`` also ``total_tokens``. A value of ``metadata`` that JSON cannot hold becomes its type's name in angle
        brackets.
        """
        return {"record": type(self).__name__, **json_value(self)}


class LLMCall(_Event, frozen=True, kw_only=True):
    """One model call, however it ended.

    Attributes:
        run_id: The call's run id.
        parent_run_id: Run id of the run above, as LangChain names it.
        enclosing_run_id: Run id of the nearest node, tool or retriever around it, else of the request. None where there
            is neither.
        operation: OpenTelemetry's ``gen_ai.operation.name``: ``chat``, ``text_completion`` or ``embeddings``.
        node: The LangGraph node that made the call; ``""`` outside a graph.
        purpose: What a middleware made the call for, from its ``lc_source``: ``summarization``, ``tool_selection``, ...
            None for the application's own calls.
        provider: Who is paid: LangChain's ``ls_provider``, or the provider that the model's endpoint belongs to;
            ``self_hosted`` where that is unknown.
        model: The model that answered, or the requested model where the answer names none.
        error_type: Class name of the exception; None on success.
        retry: Why this call repeats another one; ``sdk`` where the provider's own client repeats it. None for a first
            attempt.
        sdk_retries: How often the provider's own client repeated the request inside this call; each may be billed. None
            where the client is not watched, see ``Eco2CallbackHandler.count_sdk_retries``.
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
        rates: The prices that made ``cost``, or ``computed_cost`` beside a cost that the provider stated; of the
            answering model, where a call has several. None where nothing was priced.
        computed_cost: What the rates give, beside a cost that the provider stated.
        list_cost: What the public prices give; ``cost`` itself without custom rates and discounts. None where no public
            price is known.
        margin_usd: What a custom price file charges on top of ``cost``.
        cache_savings_usd: What prompt-cache reads saved, compared with the plain input rate.
        cache_surcharge_usd: What prompt-cache writes cost above the plain input rate.
        response_id: The provider's id of the answer; None where the client library drops it.
        estimator: What counted the text of an estimated ``usage``; None where no text was counted.
        service_tier: As the answer reports it (``flex``, ``priority``, ...).
        from_cache: Answered by LangChain's LLM cache, or by another call inside this one, which has the tokens and the
            cost: nothing was consumed.
    """

    run_id: UUID
    parent_run_id: UUID | None = None
    enclosing_run_id: UUID | None = None
    operation: str = "chat"
    node: str = ""
    purpose: str | None = None
    provider: str = ""
    model: str = ""
    request_model: str = ""
    status: Status = "success"
    error_type: str | None = None
    retry: RetryReason | None = None
    sdk_retries: int | None = None
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
    rates: RatesUsed | None = None
    computed_cost: Cost | None = None
    list_cost: Cost | None = None
    margin_usd: Decimal = _ZERO
    cache_savings_usd: Decimal = _ZERO
    cache_surcharge_usd: Decimal = _ZERO
    response_id: str | None = None
    service_tier: str | None = None
    from_cache: bool = False
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)


class NodeRun(_Event, frozen=True, kw_only=True):
    """One run of a LangGraph node or functional-API task, with all model calls below it.

    Attributes:
        enclosing_run_id: As a call's.
        parallel: Whether another node of its step ran beside this one, or a task beside this task.
        cost: USD; leaves out what ``unpriced_calls`` calls have no price for.
        feedback: Quality scores that the node returned, by key.
    """

    run_id: UUID
    enclosing_run_id: UUID | None = None
    node: str
    step: int | None = None
    parallel: bool = False
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    cost: Cost = msgspec.field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    feedback: Mapping[str, float] = msgspec.field(default_factory=dict)


class ToolCall(_Event, frozen=True, kw_only=True):
    """One run of a tool; ``enclosing_run_id`` is as a call's."""

    run_id: UUID
    enclosing_run_id: UUID | None = None
    tool_name: str
    node: str = ""
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float


class RetrieverCall(_Event, frozen=True, kw_only=True):
    """One run of a retriever; ``enclosing_run_id`` is as a call's."""

    run_id: UUID
    enclosing_run_id: UUID | None = None
    retriever: str
    node: str = ""
    status: Status = "success"
    error_type: str | None = None
    started_at: datetime
    duration_seconds: float


class GraphRun(_Event, frozen=True, kw_only=True):
    """One request: a root chain run with everything below it.

    Attributes:
        status: ``interrupted`` where a node was interrupted, although the root run then ends normally.
        resumed: Whether the request continues an interrupted one.
        provider: Provider of the last model call.
        model: Model of the last model call.
        request_model: What that call had requested.
        cost: USD; leaves out what ``unpriced_calls`` calls have no price for.
    """

    status: Status = "success"
    error_type: str | None = None
    resumed: bool = False
    started_at: datetime
    duration_seconds: float
    provider: str = ""
    model: str = ""
    request_model: str = ""
    llm_calls: int = 0
    tool_calls: int = 0
    usage: TokenUsage = msgspec.field(default_factory=TokenUsage)
    cost: Cost = msgspec.field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = msgspec.field(default_factory=dict)


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
