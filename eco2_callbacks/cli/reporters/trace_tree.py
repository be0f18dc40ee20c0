"""A trace on the terminal: its tree, each run with a bar on one time axis."""

from __future__ import annotations

from decimal import Decimal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.reporters.trace_rows import rows_of, saved_seconds
from eco2_callbacks.ledger import Span, Trace
from eco2_callbacks.terminal import Axis, AxisBar, AxisNote

__all__ = ["print_trace"]

_MIN_WIDTH = 80
_MAX_WIDTH = 160
_STYLES = {"success": "green", "error": "red", "cancelled": "magenta", "interrupted": "magenta"}
_KIND_STYLES = {"llm": "cyan", "tool": "blue", "retriever": "blue"}


def print_trace(trace: Trace, console: Console) -> None:
    """Print a trace."""
    console.width = min(max(console.width, _MIN_WIDTH), _MAX_WIDTH)
    about = [("trace", trace.trace_id), ("job", trace.job_id), ("tenant", trace.tenant_id), ("user", trace.user_id)]
    about.append(("session", trace.session_id))
    console.print(Text("  ".join(f"{name} {value}" for name, value in about if value), style="dim"))
    seconds = max(
        [trace.root.seconds, *(row.span.offset_seconds + row.span.seconds for row in rows_of(trace) if row.span)]
    )
    seconds = max(seconds, 0.001)
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(Axis(seconds), ratio=1, no_wrap=True)
    for name in ("seconds", "input", "output", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    for row in rows_of(trace):
        if row.span is None:
            table.add_row(
                Text(f"{row.guide}{len(row.parallel)} in parallel", style="dim"),
                AxisNote(f"saved {saved_seconds(row.parallel):.2f} s", row.parallel[0].offset_seconds / seconds),
            )
            continue
        span = row.span
        style = "bright_black" if span.kind == "request" else _KIND_STYLES.get(span.kind, "") or _STYLES[span.status]
        table.add_row(
            _name(row.guide, span),
            AxisBar(
                span.offset_seconds,
                span.offset_seconds + span.seconds,
                seconds,
                _STYLES[span.status] if span.status != "success" else style,
            ),
            f"{span.seconds:.2f}",
            f"{span.input_tokens:,}" if span.input_tokens else "",
            f"{span.output_tokens:,}" if span.output_tokens else "",
            _usd(span),
            style="bold" if span.kind == "request" else "",
        )
    console.print(table)
    root = trace.root
    if root.unpriced_calls:
        console.print(Text(f"? excludes {root.unpriced_calls} calls without a price", style="dim"))
    if root.estimated:
        console.print(Text("~ contains an estimate", style="dim"))


def _name(guide: str, span: Span) -> Text:
    failed = span.status != "success"
    error = f" ({span.error_type})" if span.error_type else f" ({span.status})" if failed else ""
    style = _STYLES[span.status] if failed else _KIND_STYLES.get(span.kind, "")
    return Text.assemble((guide, "dim"), (f"{'✗ ' if failed else ''}{span.name}{error}", style))


def _usd(span: Span) -> str:
    if span.kind in ("tool", "retriever"):
        return ""
    if not span.cost:
        return "?" if span.unpriced_calls else ""
    text = f"{span.cost:.8f}" if span.cost >= Decimal("0.000000005") else "<0.00000001"
    return f"{'?' if span.unpriced_calls else ''}{'~' if span.estimated else ''}{text}"
