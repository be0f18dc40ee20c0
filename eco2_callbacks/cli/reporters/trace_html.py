"""A trace as a page: the same tree, each run with a bar on one time axis."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any

from eco2_callbacks.cli.reporters.html_page import chart_text, page, table_html
from eco2_callbacks.cli.reporters.trace_rows import rows_of
from eco2_callbacks.ledger import Span, Trace

__all__ = ["trace_page"]

_COLOURS = {"request": "#9aa5b1", "node": "#2f9e67", "llm": "#1f83b4", "tool": "#8a63d2", "retriever": "#8a63d2"}
_FAILED = "#d64545"


def trace_page(traces: Sequence[Trace]) -> str:
    """Return the page of the traces of a job.

    Raises:
        LedgerError: If the extra ``html`` is not installed.
    """
    body, charts = [], []
    for number, trace in enumerate(traces):
        rows = [(row.guide, row.span) for row in rows_of(trace) if row.span is not None]
        about = [("trace", trace.trace_id), ("job", trace.job_id), ("tenant", trace.tenant_id), ("user", trace.user_id)]
        shown = "  ".join(f"{name} {value}" for name, value in about if value)
        body.append(f"<h1>{html.escape(trace.root.name)}</h1><p class=dim>{html.escape(shown)}</p>")
        body.append(f"<div id=trace{number} style='height:{90 + 26 * len(rows)}px'></div>")
        charts.append((f"trace{number}", _bars(rows), _layout(rows)))
        head = ["run", "kind", "status", "start s", "seconds", "input", "output", "USD"]
        # A space that HTML keeps: the guides are an indentation.
        cells = [
            [row.guide.replace(" ", "\u00a0") + f"{len(row.parallel)} in parallel", *[""] * (len(head) - 1)]
            if row.span is None
            else [row.guide.replace(" ", "\u00a0") + row.span.name, *_cells(row.span)]
            for row in rows_of(trace)
        ]
        body.append(table_html(head, cells, texts=3))
    return page("Trace", "\n".join(body), charts)


def _bars(rows: Sequence[tuple[str, Span]]) -> list[dict[str, Any]]:
    return [
        {
            "type": "bar",
            "orientation": "h",
            "y": list(range(len(rows))),
            "base": [span.offset_seconds for _, span in rows],
            "x": [max(span.seconds, 0.0005) for _, span in rows],
            "marker": {"color": [_COLOURS[span.kind] if span.status == "success" else _FAILED for _, span in rows]},
            "hovertext": [chart_text(f"{span.name}: {span.seconds:.3f} s") for _, span in rows],
            "hoverinfo": "text",
        }
    ]


def _layout(rows: Sequence[tuple[str, Span]]) -> dict[str, Any]:
    names = [chart_text("\u00a0\u00a0" * (len(guide) // 3) + span.name) for guide, span in rows]
    return {
        "margin": {"l": 20, "r": 20, "t": 10, "b": 45},
        "font": {"family": "system-ui, sans-serif", "size": 13},
        "plot_bgcolor": "#fff",
        "bargap": 0.35,
        "showlegend": False,
        "yaxis": {
            "autorange": "reversed",
            "automargin": True,
            "tickmode": "array",
            "tickvals": list(range(len(rows))),
            "ticktext": names,
        },
        "xaxis": {"title": {"text": "seconds"}, "rangemode": "tozero"},
    }


def _cells(span: Span) -> list[str]:
    status = span.status + (f" ({span.error_type})" if span.error_type else "")
    cost = "" if span.cost is None or span.kind in ("tool", "retriever") else f"{span.cost:.8f}"
    return [
        span.kind,
        status,
        f"{span.offset_seconds:.3f}",
        f"{span.seconds:.3f}",
        f"{span.input_tokens:,}" if span.input_tokens else "",
        f"{span.output_tokens:,}" if span.output_tokens else "",
        f"{'?' if span.unpriced_calls else ''}{'~' if span.estimated else ''}{cost}",
    ]
