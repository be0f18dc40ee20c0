"""Trace: everything that one request did, as a tree on a time axis."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import sqlalchemy as sa

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.unpriced import is_unpriced_in_sql
from eco2_callbacks.pricing import EXACT

__all__ = ["Span", "SpanKind", "Trace", "read_traces"]

SpanKind: TypeAlias = Literal["request", "node", "llm", "tool", "retriever"]
_LATE = timedelta(days=1)  # work that a request started can end after it
_ZERO = Decimal(0)


@dataclass(slots=True)
class Span:
    """One run, with the runs inside it.

    Attributes:
        offset_seconds: From the start of the trace.
        cost: USD; None where it is unknown.
        parallel: Whether a sibling ran at the same time.
    """

    kind: SpanKind
    name: str
    path: str
    status: str
    error_type: str | None
    started_at: datetime
    seconds: float
    offset_seconds: float = 0.0
    input_tokens: int | None = None
    output_tokens: int | None = None
    cost: Decimal | None = None
    estimated: bool = False
    unpriced_calls: int = 0
    model: str = ""
    parallel: bool = False
    children: list[Span] = field(default_factory=list)

    @property
    def ended_at(self) -> datetime:
        """When the run ended."""
        return self.started_at + timedelta(seconds=self.seconds)


@dataclass(frozen=True, slots=True)
class Trace:
    """One request, or one model call outside any."""

    trace_id: str
    job_id: str | None
    tenant_id: str
    user_id: str | None
    session_id: str | None
    intent: str
    root: Span


def read_traces(backend: Backend, wanted: str) -> list[Trace]:
    """Return the traces of a job or of a trace id, in the order of their starts.

    Raises:
        LedgerError: If there is no ledger, or it has no such job or trace.
    """
    Schema(backend).require()
    trace_ids = [wanted] if _is_uuid(wanted) else []
    requests, calls = table("requests"), table("calls")
    with backend.engine().connect() as connection:
        named = requests.c.job_id == wanted
        if trace_ids:
            named = sa.or_(named, requests.c.trace_id == wanted)
        roots = connection.execute(sa.select(requests).where(named).order_by(requests.c.started_at)).mappings().all()
        if roots:
            return [_trace(connection, root) for root in roots]
        # A model call outside any chain, or a request that has not ended: a scan.
        alone = calls.c.job_id == wanted
        if trace_ids:
            alone = sa.or_(alone, calls.c.trace_id == wanted)
        found = connection.execute(sa.select(calls).where(alone).order_by(calls.c.started_at)).mappings().all()
        return _unfinished(connection, found, backend, wanted)


def _unfinished(connection: Any, calls: Sequence[Any], backend: Backend, wanted: str) -> list[Trace]:
    if not calls:
        raise LedgerError(
            f"The ledger {backend.shown_url} has no job or trace {wanted!r}. Its requests carry the job_id of their "
            "run_config and the trace id of the handler's records; check --ledger too."
        )
    traces = []
    for trace_id in dict.fromkeys(call["trace_id"] for call in calls):
        first = next(call for call in calls if call["trace_id"] == trace_id)
        traces.append(_trace(connection, {**first, "duration_seconds": None}))
    return traces


def _trace(connection: Any, root: Any) -> Trace:
    trace_id, begin = root["trace_id"], root["started_at"]
    end = begin + timedelta(seconds=root["duration_seconds"] or 0.0) + _LATE
    spans: list[Span] = []
    runs_above: list[Any] = []
    by_run_id: dict[str, Span] = {}
    for name, make in (("node_runs", _node), ("calls", _call), ("tool_calls", _tool), ("retriever_calls", _retriever)):
        runs = table(name)
        query = sa.select(runs).where(runs.c.started_at >= begin, runs.c.started_at <= end, runs.c.trace_id == trace_id)
        if name == "calls":
            newest = table("newest_ratings")
            on = sa.and_(newest.c.started_at == runs.c.started_at, newest.c.run_id == runs.c.run_id)
            unpriced = is_unpriced_in_sql(runs, newest).label("is_unpriced")
            query = query.add_columns(newest.c.contracted_cost, unpriced).select_from(runs.outerjoin(newest, on))
        for row in connection.execute(query.order_by(runs.c.started_at)).mappings():
            spans.append(make(row))
            by_run_id[str(row["run_id"])] = spans[-1]
            runs_above.append(row["enclosing_run_id"])
    top = _root(root, spans)
    for span in spans:
        span.offset_seconds = max(0.0, (span.started_at - begin).total_seconds())
    by_run_id.setdefault(str(trace_id), top)
    _nest(top, spans, [by_run_id.get(str(run_id)) for run_id in runs_above])
    return Trace(
        str(trace_id), root["job_id"], root["tenant_id"], root["user_id"], root["session_id"], root["intent"], top
    )


def _root(root: Any, spans: Sequence[Span]) -> Span:
    """Return the request's span; its cost is the sum of its calls' newest ratings."""
    calls = [span for span in spans if span.kind == "llm"]
    begin = root["started_at"]
    seconds = root["duration_seconds"]
    if seconds is None:
        seconds = max((span.ended_at for span in spans), default=begin) - begin
        seconds = seconds.total_seconds()
    return Span(
        "request",
        root["intent"] or "request",
        "",
        root["status"],
        root["error_type"],
        begin,
        seconds,
        input_tokens=sum(call.input_tokens or 0 for call in calls),
        output_tokens=sum(call.output_tokens or 0 for call in calls),
        cost=_sum(call.cost for call in calls),
        estimated=any(call.estimated for call in calls),
        unpriced_calls=sum(call.unpriced_calls for call in calls),
    )


def _sum(costs: Iterable[Decimal | None]) -> Decimal:
    total = _ZERO
    for cost in costs:
        if cost is not None:
            total = EXACT.add(total, cost)
    return total


def _nest(top: Span, spans: Sequence[Span], above: Sequence[Span | None]) -> None:
    """Put each run into the one that encloses it.

    Where the ledger does not name it, as in rows of older versions, it is the shortest node or tool that was running
    around it on its path.
    """
    holders = [span for span in spans if span.kind in ("node", "tool")]
    for span, parent in zip(spans, above, strict=True):
        (parent or _running_around(span, holders) or top).children.append(span)
    for span in (top, *spans):
        # A run without duration comes first: the next one starts at its end, not beside it.
        span.children.sort(key=lambda child: (child.offset_seconds, child.seconds > 0, -child.seconds))
        _mark_parallel(span.children)
    for span in spans:
        if span.kind == "node":
            calls = [each for each in _below(span) if each.kind == "llm"]
            span.cost = _sum(call.cost for call in calls)
            span.unpriced_calls = sum(call.unpriced_calls for call in calls)


def _running_around(span: Span, holders: Sequence[Span]) -> Span | None:
    around = [holder for holder in holders if holder is not span and _holds(holder, span)]
    return min(around, key=lambda holder: (holder.seconds, -len(holder.path)), default=None)


def _below(span: Span) -> Iterable[Span]:
    for child in span.children:
        yield child
        yield from _below(child)


def _holds(holder: Span, span: Span) -> bool:
    """Return whether a run is inside another one: on its path, and started while it ran."""
    inner, outer = span.path, holder.path
    if not (inner == outer or inner.startswith(f"{outer}/") or not outer):
        return False
    if holder.kind == span.kind and inner == outer:
        # Two runs of one node or tool do not hold each other.
        return False
    return holder.started_at <= span.started_at and span.ended_at <= holder.ended_at + timedelta(milliseconds=5)


def _mark_parallel(siblings: Sequence[Span]) -> None:
    last: Span | None = None  # of those so far, the one that ended last
    for span in siblings:
        if last is not None and span.started_at < last.ended_at:
            span.parallel = last.parallel = True
        if last is None or span.ended_at > last.ended_at:
            last = span


def _common(row: Any, kind: SpanKind, name: str) -> dict[str, Any]:
    return {
        "kind": kind,
        "name": name,
        "path": row["path"],
        "status": row["status"],
        "error_type": row["error_type"],
        "started_at": row["started_at"],
        "seconds": row["duration_seconds"],
    }


def _node(row: Any) -> Span:
    return Span(
        **_common(row, "node", row["node"]),
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=row["cost"],
        estimated=bool(row["estimated"]),
        unpriced_calls=row["unpriced_calls"],
    )


def _call(row: Any) -> Span:
    return Span(
        **_common(row, "llm", row["model"]),
        input_tokens=row["input_tokens"],
        output_tokens=row["output_tokens"],
        cost=row["contracted_cost"],
        estimated=bool(row["estimated"]),
        unpriced_calls=int(bool(row["is_unpriced"])),
        model=row["model"],
    )


def _tool(row: Any) -> Span:
    return Span(**_common(row, "tool", row["tool_name"]))


def _retriever(row: Any) -> Span:
    return Span(**_common(row, "retriever", row["retriever"]))


def _is_uuid(text: str) -> bool:
    try:
        uuid.UUID(text)
    except ValueError:
        return False
    return True
