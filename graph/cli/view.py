"""Draws requests as trees on a time axis, with rich."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli import Axis, AxisBar, AxisNote
from graph.cli.figures import Figures, Row, Trace, group_by_step, saved_seconds
from graph.cli.summary import totals
from graph.cli.timeline import Timeline

__all__ = [
    "ConversationView",
    "is_live",
    "legend",
    "live",
    "strip_controls",
    "totals_table",
    "tree",
    "usd",
    "wide_enough",
]

_MIN_WIDTH = 80  # figures would be cut off in fewer columns
_MAX_WIDTH = 140  # in more columns, a bar is too far from its name
_FRAMES_PER_SECOND = 10
_AXES_SECONDS = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
_STYLES = {"running": "yellow", "success": "green", "error": "red", "cancelled": "magenta", "interrupted": "magenta"}
# A model's text may contain control characters, which a terminal would execute.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def strip_controls(text: str) -> str:
    """Return the text without control characters. Tabs and line feeds stay."""
    return text.translate(_CONTROLS)


def wide_enough(console: Console) -> Console:
    """Set the console to a width that shows a whole, readable tree, and return it."""
    console.width = min(max(console.width, _MIN_WIDTH), _MAX_WIDTH)
    return console


def is_live(console: Console) -> bool:
    """Return whether the console can redraw the view: it is a terminal and wide enough."""
    return console.is_terminal and shutil.get_terminal_size().columns >= console.width


@contextmanager
def live(console: Console, view: RenderableType) -> Iterator[None]:
    """Redraw the view during the block, or print it once at the end if the console cannot redraw."""
    if is_live(console):
        with Live(view, console=console, refresh_per_second=_FRAMES_PER_SECOND):
            yield
        return
    try:
        yield
    finally:
        console.print(view)


class ConversationView:
    """Shows the question, the current tree of the request, and the answer so far.

    Args:
        question: The user's message.
        timeline: Collects the request.
        number: The request's index in the timeline.
    """

    def __init__(self, question: str, timeline: Timeline, number: int) -> None:
        self._question = question
        self._timeline = timeline
        self._number = number
        self.answer = ""
        """The complete answer, set at the end."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the current state."""
        yield Text(f"> {self._question}", style="bold")
        if len(traces := self._timeline.traces) <= self._number:
            return
        trace = traces[self._number]
        yield tree(trace)
        lines = list(Text(strip_controls(self.answer or trace.answer)).wrap(console, options.max_width))
        if trace.status == "running" and console.is_terminal:
            # A redrawn view must fit on the screen, so only the end of the answer is shown.
            lines = lines[-max(1, console.height - len(trace.rows) - 8) :]
        yield Group(*lines)


def tree(trace: Trace) -> RenderableType:
    """Return the tree of a request: its nodes, each with a bar on the request's time axis."""
    seconds = trace.figures.seconds
    axis_seconds = _axis_seconds(seconds) if trace.status == "running" else max(seconds, 0.01)
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(Axis(axis_seconds), ratio=1, no_wrap=True)
    for name in ("seconds", "input", "output", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    intent = "…" if trace.status == "running" and trace.intent == "unclassified" else trace.intent
    style = _STYLES[trace.status]
    table.add_row(
        Text(intent, style="bold"),
        AxisBar(0.0, seconds, axis_seconds, "bright_black"),
        *_cells(trace.figures, running=trace.status == "running"),
        style="bold" if trace.status == "success" else style,
    )
    groups = group_by_step(trace.rows)
    for position, group in enumerate(groups):
        last = position == len(groups) - 1
        if len(group) == 1:
            _add(table, "╰─ " if last else "├─ ", group[0], axis_seconds)
            continue
        table.add_row(
            Text(f"{'╰─ ' if last else '├─ '}{len(group)} in parallel", style="dim"),
            AxisNote(f"saved {saved_seconds(group):.2f} s", group[0].started_seconds / axis_seconds),
        )
        for branch in group:
            guide = ("   " if last else "│  ") + ("╰─ " if branch is group[-1] else "├─ ")
            _add(table, guide, branch, axis_seconds)
    return Group(table, *_remarks(trace))


def totals_table(timeline: Timeline) -> Table:
    """Return the totals by node, by model and by intent. Each part adds up to the last line."""
    table = Table(title="All requests", title_justify="left", title_style="bold", show_footer=True, footer_style="bold")
    all_requests = Figures.sum(timeline.requests)
    table.add_column("", footer="total", no_wrap=True)
    table.add_column("runs", footer=f"{all_requests.runs:,}", justify="right", no_wrap=True)
    for name, cell in zip(("seconds", "input", "output", "USD"), _cells(all_requests), strict=True):
        table.add_column(name, footer=cell, justify="right", no_wrap=True)
    for kind, by in totals(timeline).items():
        table.add_row(Text(f"by {kind}", style="dim italic"))
        for name, figures in sorted(by.items(), key=lambda item: -item[1].cost.total_usd):
            table.add_row(f"  {name or '(none)'}", f"{figures.runs:,}", *_cells(figures))
        table.add_section()
    return table


def legend(figures: Figures) -> str:
    """Return the meaning of the marks that these dollars have; ``""`` without marks."""
    marks = {
        "~ contains an estimate": figures.estimated,
        f"? excludes {_calls(figures.unpriced_calls)} without a price": bool(figures.unpriced_calls),
    }
    return "; ".join(mark for mark, shown in marks.items() if shown)


def usd(figures: Figures) -> str:
    """Return the dollars, marked if they contain an estimate (``~``) or exclude calls without a price (``?``)."""
    total_usd = figures.cost.total_usd
    if not total_usd:
        return "?" if figures.unpriced_calls else ""
    text = f"{total_usd:.8f}" if total_usd >= 0.5e-8 else "<0.00000001"
    # The marks stand in front, so that the digits stay aligned.
    return f"{'?' if figures.unpriced_calls else ''}{'~' if figures.estimated else ''}{text}"


def _add(table: Table, guide: str, row: Row, axis_seconds: float) -> None:
    failed = row.status not in {"running", "success"}
    style = _STYLES[row.status]
    table.add_row(
        Text.assemble((guide, "dim"), (f"✗ {row.node}", style) if failed else row.node),
        AxisBar(row.started_seconds, row.ended_seconds, axis_seconds, style),
        *_cells(row.figures, running=row.status == "running"),
    )


def _remarks(trace: Trace) -> Iterator[Text]:
    for row in trace.rows:
        if row.status not in {"running", "success"}:
            yield Text(f"{row.node}: {_ending(row.status, row.error_type)}", style=_STYLES[row.status])
    if trace.status not in {"running", "success"}:
        yield Text(f"request: {_ending(trace.status, trace.error_type)}", style=_STYLES[trace.status])
    parts = []
    if (saved := sum(saved_seconds(group) for group in group_by_step(trace.rows))) >= 0.005:
        parts.append(f"parallel branches saved {saved:.2f} s")
    if trace.first_token_seconds is not None:
        parts.append(f"the answer began after {trace.first_token_seconds:.2f} s")
    if parts:
        yield Text("; ".join(parts), style="dim")
    if (remark := legend(trace.figures)) and trace.status != "running":
        yield Text(remark, style="dim")


def _ending(status: str, error_type: str | None) -> str:
    return f"{'failed' if status == 'error' else status}{f' ({error_type})' if error_type else ''}"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _cells(figures: Figures, *, running: bool = False) -> tuple[str, ...]:
    usage = figures.usage
    spent = bool(usage.input_tokens or usage.output_tokens)
    return (
        f"{figures.seconds:.1f} " if running else f"{figures.seconds:.2f}",
        f"{usage.input_tokens:,}" if spent else "",
        f"{usage.output_tokens:,}" if spent else "",
        usd(figures),
    )


def _axis_seconds(seconds: float) -> float:
    """Return a round axis length of at least these seconds, so that a growing axis rarely changes."""
    fitting = [axis for axis in _AXES_SECONDS if axis >= seconds]
    return fitting[0] if fitting else 60.0 * (floor(seconds / 60) + 1)
