"""Draws requests as trees on a time axis, with rich."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.live import Live
from rich.table import Table
from rich.text import Text

from eco2_callbacks.terminal import Figures, RequestTree, Timeline, usd
from graph.cli.answers import CollectedAnswer
from graph.cli.summary import totals

__all__ = [
    "ConversationView",
    "is_live",
    "live",
    "strip_controls",
    "totals_table",
    "wide_enough",
]

_MIN_WIDTH = 80  # figures would be cut off in fewer columns
_MAX_WIDTH = 140  # in more columns, a bar is too far from its name
_FRAMES_PER_SECOND = 10
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
        stream: Collects its answer.
        number: The request's index in the timeline.
    """

    def __init__(self, question: str, timeline: Timeline, stream: CollectedAnswer, number: int) -> None:
        self._question = question
        self._timeline = timeline
        self._stream = stream
        self._number = number
        self.answer = ""
        """The complete answer, set at the end."""

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the current state."""
        yield Text(f"> {self._question}", style="bold")
        if len(traces := self._timeline.traces) <= self._number:
            return
        trace = traces[self._number]
        yield RequestTree(trace)
        lines = list(Text(strip_controls(self.answer or self._stream.text)).wrap(console, options.max_width))
        if trace.status == "running" and console.is_terminal:
            # A redrawn view must fit on the screen, so only the end of the answer is shown.
            lines = lines[-max(1, console.height - len(trace.rows) - 8) :]
        yield Group(*lines)


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


def _cells(figures: Figures) -> tuple[str, ...]:
    usage = figures.usage
    spent = bool(usage.input_tokens or usage.output_tokens)
    return (
        f"{figures.seconds:.2f}",
        f"{usage.input_tokens:,}" if spent else "",
        f"{usage.output_tokens:,}" if spent else "",
        usd(figures),
    )
