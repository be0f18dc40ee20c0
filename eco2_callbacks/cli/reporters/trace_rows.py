"""The rows of a trace in the order in which they are drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from eco2_callbacks.ledger import Span, Trace

__all__ = ["TraceRow", "document", "rows_of", "saved_seconds"]


class TraceRow(NamedTuple):
    """One line of the tree.

    Attributes:
        guide: The lines before the name.
        span: The run; None for the heading of runs that were parallel.
        parallel: The runs below such a heading.
    """

    guide: str
    span: Span | None
    parallel: Sequence[Span] = ()


def rows_of(trace: Trace) -> Iterator[TraceRow]:
    """Yield the rows of a trace: the request first, runs that ran at the same time below a heading."""
    yield TraceRow("", trace.root)
    yield from _below(trace.root, "")


def _below(span: Span, indent: str) -> Iterator[TraceRow]:
    groups = _groups(span.children)
    for position, group in enumerate(groups):
        is_last = position == len(groups) - 1
        guide, deeper = ("╰─ ", "   ") if is_last else ("├─ ", "│  ")
        if len(group) == 1:
            yield TraceRow(indent + guide, group[0])
            yield from _below(group[0], indent + deeper)
            continue
        yield TraceRow(indent + guide, None, group)
        for branch in group:
            inner, under = ("╰─ ", "   ") if branch is group[-1] else ("├─ ", "│  ")
            yield TraceRow(indent + deeper + inner, branch)
            yield from _below(branch, indent + deeper + under)


def _groups(children: Sequence[Span]) -> list[list[Span]]:
    """Return siblings in groups: those of one group overlapped."""
    groups: list[list[Span]] = []
    end = None
    for child in children:
        if groups and end is not None and child.parallel and child.started_at < end:
            groups[-1].append(child)
            end = max(end, child.ended_at)
        else:
            groups.append([child])
            end = child.ended_at
    return groups


def saved_seconds(spans: Sequence[Span]) -> float:
    """Return the time saved by running at the same time: the sum of the durations minus the time covered."""
    covered = end = 0.0
    for span in sorted(spans, key=lambda span: span.offset_seconds):
        ended = span.offset_seconds + span.seconds
        covered += max(0.0, ended - max(end, span.offset_seconds))
        end = max(end, ended)
    return max(0.0, sum(span.seconds for span in spans) - covered)


def document(trace: Trace) -> dict[str, Any]:
    """Return a trace for JSON."""
    return {
        "trace_id": trace.trace_id,
        "job_id": trace.job_id,
        "tenant_id": trace.tenant_id,
        "user_id": trace.user_id,
        "session_id": trace.session_id,
        "intent": trace.intent,
        "root": _span(trace.root),
    }


def _span(span: Span) -> dict[str, Any]:
    return {
        "kind": span.kind,
        "name": span.name,
        "path": span.path,
        "status": span.status,
        "error_type": span.error_type,
        "started_at": span.started_at.isoformat(),
        "offset_seconds": round(span.offset_seconds, 6),
        "seconds": round(span.seconds, 6),
        "input_tokens": span.input_tokens,
        "output_tokens": span.output_tokens,
        "cost_usd": span.cost,
        "estimated": span.estimated,
        "unpriced_calls": span.unpriced_calls,
        "parallel": span.parallel,
        "children": [_span(child) for child in span.children],
    }
