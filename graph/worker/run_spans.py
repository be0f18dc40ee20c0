"""One run of the graph as OpenTelemetry spans: the request, its nodes, model calls, tools and retrievers."""

from __future__ import annotations

from datetime import datetime, timedelta
from uuid import UUID

from opentelemetry import trace
from opentelemetry.trace import Span, SpanKind, StatusCode
from opentelemetry.util.types import AttributeValue

from eco2_callbacks import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, TokenUsage, ToolCall
from eco2_callbacks.otel_metrics import PROVIDER_NAMES

__all__ = ["RunSpans"]

# Proposed names: https://github.com/open-telemetry/semantic-conventions-genai has no cost yet.
_COST, _CURRENCY, _SOURCE, _ESTIMATED = (
    f"gen_ai.usage.cost.{name}" for name in ("amount", "currency", "source", "estimated")
)
_Attributes = dict[str, AttributeValue]


class RunSpans:
    """Makes the spans of one run below the current span. A span ends with its record, which has its tokens and dollars.

    Prompts and answers are never on a span.

    Args:
        agent_name: Names the request's span.
        job_id: The job, an attribute of that span.
        session_id: The conversation, likewise.
    """

    def __init__(self, *, agent_name: str, job_id: str, session_id: str) -> None:
        self._tracer = trace.get_tracer("graph.worker")
        self._root = self._tracer.start_span(
            f"invoke_agent {agent_name}",
            attributes={
                "gen_ai.operation.name": "invoke_agent",
                "gen_ai.agent.name": agent_name,
                "gen_ai.conversation.id": session_id,
                "eco2.job_id": job_id,
            },
        )
        self._open: dict[UUID, Span] = {}

    def start(self, run_id: UUID, *, parent: UUID | None, kind: str, name: str) -> None:
        """Start the span of a step. For any thread.

        Args:
            run_id: The step's run.
            parent: The node's run; None below the request.
            kind: ``node``, ``model``, ``tool`` or ``retriever``.
            name: The node, model, tool or retriever.
        """
        if not self._root.is_recording():
            return
        above = self._open.get(parent, self._root) if parent is not None else self._root
        title = {"model": f"chat {name}", "tool": f"execute_tool {name}", "retriever": f"retrieve {name}"}.get(
            kind, name
        )
        self._open[run_id] = self._tracer.start_span(
            title,
            context=trace.set_span_in_context(above),
            kind=SpanKind.CLIENT if kind == "model" else SpanKind.INTERNAL,
        )

    def end(self, record: Record) -> None:
        """End the span of a record, with its figures. For any thread."""
        if not self._root.is_recording():
            return  # no span is exported, or the run was given up before
        if isinstance(record, GraphRun):
            self._end(self._root, record)
        elif (span := self._open.pop(record.run_id, None)) is not None:
            self._end(span, record)

    def close(self) -> None:
        """End the spans that no record ended: the worker gave the run up."""
        for span in (*self._open.values(), self._root):
            if span.is_recording():
                span.set_status(StatusCode.ERROR, "The run has no record.")
                span.end()
        self._open.clear()

    def _end(self, span: Span, record: Record) -> None:
        span.set_attributes(_attributes(record))
        if isinstance(record, LLMCall):
            span.update_name(f"{record.operation} {record.model or record.request_model}")
        if record.status in {"error", "cancelled"}:
            span.set_attribute("error.type", record.error_type or "_OTHER")
            span.set_status(StatusCode.ERROR, record.status)
        span.end(_nanoseconds(record.started_at + timedelta(seconds=record.duration_seconds)))


def _attributes(record: Record) -> _Attributes:
    """Return a record's figures under the names of OpenTelemetry's GenAI conventions."""
    match record:
        case LLMCall():
            return {
                "gen_ai.operation.name": record.operation,
                "gen_ai.provider.name": PROVIDER_NAMES.get(record.provider, record.provider),
                "gen_ai.request.model": record.request_model,
                "gen_ai.response.model": record.model,
                **({"gen_ai.response.id": record.response_id} if record.response_id else {}),
                **(_tokens(record.usage) if record.usage is not None else {}),
                **({_SOURCE: record.cost_source} if record.cost is not None else {}),
                **_cost(record),
                **({"eco2.unpriced_reason": record.unpriced_reason} if record.unpriced_reason else {}),
            }
        case NodeRun() | GraphRun():
            return {
                **({"eco2.node": record.node} if isinstance(record, NodeRun) else {"eco2.intent": record.intent}),
                **_tokens(record.usage),
                **_cost(record),
                "eco2.unpriced_calls": record.unpriced_calls,
            }
        case ToolCall():
            return {"gen_ai.operation.name": "execute_tool", "gen_ai.tool.name": record.tool_name}
        case RetrieverCall():
            return {"gen_ai.operation.name": "retrieval", "gen_ai.data_source.id": record.retriever}


def _tokens(usage: TokenUsage) -> _Attributes:
    return {
        "gen_ai.usage.input_tokens": usage.input_tokens,
        "gen_ai.usage.output_tokens": usage.output_tokens,
        "gen_ai.usage.cache_read.input_tokens": usage.cache_read_tokens,
        "gen_ai.usage.reasoning.output_tokens": usage.reasoning_tokens,
    }


def _cost(record: LLMCall | NodeRun | GraphRun) -> _Attributes:
    """Return the cost; nothing where it is unknown, which is not zero."""
    if record.cost is None:
        return {}
    return {_COST: float(record.cost.total_usd), _CURRENCY: "USD", _ESTIMATED: record.estimated}


def _nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp() * 1_000_000_000)
