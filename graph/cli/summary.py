"""Sums a timeline's figures by node, model and intent, also as JSON."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from typing import Any

from eco2_callbacks.terminal import Figures, Timeline

__all__ = ["summary", "totals"]


def totals(timeline: Timeline) -> dict[str, dict[str, Figures]]:
    """Return the totals of all requests by node, by model and by intent."""
    return {
        "node": _group(timeline.nodes, lambda run: run.node),
        "model": _group(timeline.calls, lambda call: call.model),
        "intent": _group(timeline.requests, lambda request: request.intent),
    }


def summary(timeline: Timeline) -> dict[str, Any]:
    """Return requests, their nodes and the totals as JSON values. An unknown cost is None.

    Dollars are summed exactly and converted to floats at the end.
    """
    return {
        "requests": [
            {
                "intent": trace.intent,
                "nodes": [
                    {"node": row.name, "started_seconds": round(row.started_seconds, 6), **_numbers(row.figures)}
                    for row in trace.rows
                ],
                "cost_usd": _usd(trace.figures),
            }
            for trace in timeline.traces
        ],
        "totals": {
            "requests": len(timeline.requests),
            **_numbers(Figures.sum(timeline.requests)),
            "unpriced_calls": Figures.sum(timeline.requests).unpriced_calls,
            **{
                f"{kind}s": {name: _numbers(figures) for name, figures in group.items()}
                for kind, group in totals(timeline).items()
            },
        },
    }


def _group(runs: Iterable[Any], name_of: Callable[[Any], str]) -> dict[str, Figures]:
    groups: dict[str, list[Any]] = {}
    for run in runs:
        groups.setdefault(name_of(run), []).append(run)
    return {name: Figures.sum(group) for name, group in groups.items()}


def _numbers(figures: Figures) -> Mapping[str, float | None]:
    return {
        "seconds": round(figures.seconds, 6),
        "input_tokens": figures.usage.input_tokens,
        "output_tokens": figures.usage.output_tokens,
        "cost_usd": _usd(figures),
    }


def _usd(figures: Figures) -> float | None:
    total_usd: Decimal = figures.cost.total_usd
    return None if figures.unpriced_calls and not total_usd else float(total_usd)
