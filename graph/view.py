"""The view: requests as trees on a time axis, drawn by rich."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from graph.timeline import Figures, Row, Timeline, Trace, saved_seconds, steps, totals

__all__ = ["Conversation", "is_live", "legend", "live", "plain", "totals_table", "tree", "usd", "wide_enough"]

WIDTH = 80  # narrower, figures would be cut off
_WIDEST = 140  # wider, a bar is too far from its name
_LEAST_BAR = 16
_FRAMES_A_SECOND = 10
_AXES_SECONDS = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
_STYLES = {"running": "yellow", "success": "green", "error": "red", "cancelled": "magenta", "interrupted": "magenta"}
# A terminal obeys the control characters in a text that a model wrote.
_CONTROLS = dict.fromkeys([*range(9), *range(11, 32), *range(127, 160)])


def plain(text: str) -> str:
    """Return a model's text without the characters that a terminal obeys; tabs and line feeds stay."""
    return text.translate(_CONTROLS)


def wide_enough(console: Console) -> Console:
    """Return the console at a width at which a tree is whole and easily read."""
    console.width = min(max(console.width, WIDTH), _WIDEST)
    return console


def is_live(console: Console) -> bool:
    """Say whether a picture can be redrawn there: in a terminal whose lines are not shorter than the picture's."""
    return console.is_terminal and shutil.get_terminal_size().columns >= console.width


@contextmanager
def live(console: Console, picture: RenderableType) -> Iterator[None]:
    """Redraw the picture while the block runs; where that cannot be, print it once at the end."""
    if is_live(console):
        with Live(picture, console=console, refresh_per_second=_FRAMES_A_SECOND):
            yield
        return
    try:
        yield
    finally:
        console.print(picture)


class Conversation:
    """What the user asked, the tree of the request as it stands now, and the answer as far as it has come.

    Args:
        question: What the user wrote.
        timeline: Follows the request.
        number: Which of the timeline's requests it is, from 0.
    """

    def __init__(self, question: str, timeline: Timeline, number: int) -> None:
        self._question = question
        self._timeline = timeline
        self._number = number
        self.answer = ""
        """The whole answer, once it is known."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw it as it stands now."""
        yield Text(f"> {self._question}", style="bold")
        if len(traces := self._timeline.traces) <= self._number:
            return
        trace = traces[self._number]
        yield tree(trace)
        lines = list(Text(plain(self.answer or trace.answer)).wrap(console, options.max_width))
        if trace.status == "running" and console.is_terminal:
            # What is redrawn must fit on the screen: the answer's end is where it grows.
            lines = lines[-max(1, console.height - len(trace.rows) - 8) :]
        yield Group(*lines)


def tree(trace: Trace) -> RenderableType:
    """Return the picture of a request: its nodes below it, each with a bar on the request's own time axis."""
    seconds = trace.figures.seconds
    axis_seconds = _axis_seconds(seconds) if trace.status == "running" else max(seconds, 0.01)
    table = Table(box=None, padding=(0, 2, 0, 0), expand=True, header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    table.add_column(_Axis(axis_seconds), ratio=1, no_wrap=True)
    for name in ("seconds", "input", "output", "USD"):
        table.add_column(name, justify="right", no_wrap=True)
    intent = "…" if trace.status == "running" and trace.intent == "unclassified" else trace.intent
    style = _STYLES[trace.status]
    table.add_row(
        Text(intent, style="bold"),
        _Bar(0.0, seconds, axis_seconds, "bright_black"),
        *_cells(trace.figures, running=trace.status == "running"),
        style="bold" if trace.status == "success" else style,
    )
    groups = steps(trace.rows)
    for position, group in enumerate(groups):
        last = position == len(groups) - 1
        if len(group) == 1:
            _add(table, "╰─ " if last else "├─ ", group[0], axis_seconds)
            continue
        table.add_row(
            Text(f"{'╰─ ' if last else '├─ '}{len(group)} in parallel", style="dim"),
            _Note(f"saved {saved_seconds(group):.2f} s", group[0].started_seconds / axis_seconds),
        )
        for branch in group:
            guide = ("   " if last else "│  ") + ("╰─ " if branch is group[-1] else "├─ ")
            _add(table, guide, branch, axis_seconds)
    return Group(table, *_remarks(trace))


def totals_table(timeline: Timeline) -> Table:
    """Return what all requests came to, by node, by model and by intent; each part adds up to the last line."""
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
    """Return what the marks beside dollars mean, as far as there are any."""
    marks = {
        "~ rests on an estimate": figures.estimated,
        f"? without {_calls(figures.unpriced_calls)} that cannot be priced": bool(figures.unpriced_calls),
    }
    return "; ".join(mark for mark, shown in marks.items() if shown)


def usd(figures: Figures) -> str:
    """Return the dollars, marked where they rest on an estimate (``~``) or leave out calls without a price (``?``)."""
    total_usd = figures.cost.total_usd
    if not total_usd:
        return "?" if figures.unpriced_calls else ""
    text = f"{total_usd:.8f}" if total_usd >= 0.5e-8 else "<0.00000001"
    # In front, so that digits stand below digits.
    return f"{'?' if figures.unpriced_calls else ''}{'~' if figures.estimated else ''}{text}"


def _add(table: Table, guide: str, row: Row, axis_seconds: float) -> None:
    failed = row.status not in {"running", "success"}
    style = _STYLES[row.status]
    table.add_row(
        Text.assemble((guide, "dim"), (f"✗ {row.node}", style) if failed else row.node),
        _Bar(row.started_seconds, row.ended_seconds, axis_seconds, style),
        *_cells(row.figures, running=row.status == "running"),
    )


def _remarks(trace: Trace) -> Iterator[Text]:
    for row in trace.rows:
        if row.status not in {"running", "success"}:
            yield Text(f"{row.node}: {_ending(row.status, row.error_type)}", style=_STYLES[row.status])
    if trace.status not in {"running", "success"}:
        yield Text(f"request: {_ending(trace.status, trace.error_type)}", style=_STYLES[trace.status])
    parts = []
    if (saved := sum(saved_seconds(group) for group in steps(trace.rows))) >= 0.005:
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
    """Return a round length that holds these seconds, so that the axis changes seldom while they grow."""
    fitting = [axis for axis in _AXES_SECONDS if axis >= seconds]
    return fitting[0] if fitting else 60.0 * (floor(seconds / 60) + 1)


class _Bar:
    """A bar on the axis; what took less than a character's width is the thinnest mark there is, but never nothing."""

    def __init__(self, started: float, ended: float, axis_seconds: float, style: str) -> None:
        self._bar = Bar(axis_seconds, started, ended, color=style)
        self._style = style

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        per_character = self._bar.size / options.max_width
        if self._bar.end - self._bar.begin >= per_character:
            yield self._bar
            return
        indent = min(int(self._bar.begin / per_character), options.max_width - 1)
        yield Text(" " * indent + "▏", style=self._style, no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_BAR, options.max_width)


class _Axis:
    """The axis, from 0 at its left to its length at its right."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        end = f" {round(self._seconds, 2):g} s"
        yield Text("0 " + "─" * (options.max_width - len(end) - 2) + end, style="dim", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_BAR, options.max_width)


class _Note:
    """A text that begins where on the axis it belongs, or as near to it as it fits; nothing where it does not."""

    def __init__(self, text: str, begin: float) -> None:
        self._text = text
        self._begin = begin

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width - len(self._text)
        text = self._text if room >= 0 else ""
        yield Text(
            " " * min(int(self._begin * options.max_width), max(room, 0)) + text, style="dim italic", no_wrap=True
        )

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_LEAST_BAR, options.max_width)
