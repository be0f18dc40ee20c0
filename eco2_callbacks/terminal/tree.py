"""Draws a request as a tree on a time axis, with rich."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import floor
from typing import NamedTuple

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderableType, RenderResult
from rich.table import Table
from rich.text import Text

from eco2_callbacks.terminal.axis import Axis, AxisBar, AxisNote
from eco2_callbacks.terminal.figures import Figures, Row, Trace, group_by_step, saved_seconds

__all__ = ["RequestTree", "legend", "usd"]

_AXES_SECONDS = (0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 15.0, 20.0, 30.0, 45.0, 60.0)
_STYLES = {"running": "yellow", "success": "green", "error": "red", "cancelled": "magenta", "interrupted": "magenta"}
# Names of models, agents and tools may hold control characters, which a terminal would execute.
_CONTROLS = dict.fromkeys([*range(32), *range(127, 160)])


class _Layout(NamedTuple):
    """How a tree fits into a width."""

    headers: tuple[str, ...]
    gap: int
    min_axis: int
    is_compact: bool


_FULL = _Layout(("seconds", "input", "cached", "output", "USD"), gap=2, min_axis=12, is_compact=False)
_COMPACT = _Layout(("s", "in", "cached", "out", "USD"), gap=1, min_axis=8, is_compact=True)
_MIN_NAME_CHARS = 8


class _Line(NamedTuple):
    """One line of the tree, before it is laid out."""

    guide: str
    name: str
    style: str
    bar: RenderableType
    figures: Figures | None
    is_running: bool = False


class RequestTree:
    """The tree of a request: what ran, each with a bar on the request's time axis, and its tokens and dollars.

    Args:
        trace: The request.
        max_lines: How many lines below the request are drawn; the earliest are left out. None draws all.
    """

    def __init__(self, trace: Trace, *, max_lines: int | None = None) -> None:
        self._trace = trace
        self._max_lines = max_lines

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        """Draw the tree in full, or with shorter figures where the width needs it."""
        trace = self._trace
        is_running = trace.status == "running"
        seconds = trace.figures.seconds
        axis_seconds = _axis_seconds(seconds) if is_running else max(seconds, 0.01)
        top = _Line(
            "",
            _clean(trace.name or trace.intent),
            "bold" if trace.status in {"running", "success"} else _STYLES[trace.status],
            AxisBar(0.0, seconds, axis_seconds, "bright_black"),
            trace.figures,
            is_running,
        )
        below = list(_lines(trace.rows, "", axis_seconds))
        hidden = 0 if self._max_lines is None else max(0, len(below) - self._max_lines)
        lines = [top, *below[hidden:]]
        layout = _FULL if _width(lines, _FULL) <= options.max_width else _COMPACT
        table = Table(box=None, padding=(0, layout.gap, 0, 0), expand=True, header_style="dim", pad_edge=False)
        figures_width = sum(width + layout.gap for width in _figure_widths(lines, layout))
        room = options.max_width - figures_width - layout.gap - layout.min_axis
        table.add_column("", no_wrap=True, max_width=max(room, _MIN_NAME_CHARS) if layout.is_compact else None)
        table.add_column(Axis(axis_seconds), ratio=1, no_wrap=True)
        for header in layout.headers:
            table.add_column(header, justify="right", no_wrap=True)
        for line in lines:
            cells = () if line.figures is None else _cells(line.figures, layout, running=line.is_running)
            name = Text.assemble((line.guide, "dim"), (line.name, line.style))
            table.add_row(name, line.bar, *cells, style="bold" if line is top else "")
        yield table
        if hidden:
            yield Text(f"… {hidden} earlier", style="dim")
        yield from _remarks(trace)


def legend(figures: Figures) -> str:
    """Return the meaning of the marks that these dollars have; ``""`` without marks."""
    marks = {
        "~ contains an estimate": figures.estimated,
        f"? excludes {_calls(figures.unpriced_calls)} without a price": bool(figures.unpriced_calls),
    }
    return "; ".join(mark for mark, shown in marks.items() if shown)


def usd(figures: Figures, *, decimals: int = 8) -> str:
    """Return the dollars, marked if they contain an estimate (``~``) or exclude calls without a price (``?``)."""
    total_usd = figures.cost.total_usd
    if not total_usd:
        return "?" if figures.unpriced_calls else ""
    text = f"{total_usd:.{decimals}f}"
    if not float(text):
        text = f"<{10**-decimals:.{decimals}f}"
    # The marks stand in front, so that the digits stay aligned.
    return f"{'?' if figures.unpriced_calls else ''}{'~' if figures.estimated else ''}{text}"


def _lines(rows: Sequence[Row], indent: str, axis_seconds: float) -> Iterator[_Line]:
    groups = group_by_step(rows)
    for group in groups:
        is_last = group is groups[-1]
        guide, below = indent + ("╰─ " if is_last else "├─ "), indent + ("   " if is_last else "│  ")
        if len(group) == 1:
            yield from _row_lines(group[0], guide, below, axis_seconds)
            continue
        note = AxisNote(f"saved {saved_seconds(group):.2f} s", group[0].started_seconds / axis_seconds)
        yield _Line(guide, f"{len(group)} in parallel", "dim", note, None)
        for branch in group:
            ends = branch is group[-1]
            yield from _row_lines(
                branch, below + ("╰─ " if ends else "├─ "), below + ("   " if ends else "│  "), axis_seconds
            )


def _row_lines(row: Row, guide: str, below: str, axis_seconds: float) -> Iterator[_Line]:
    failed = row.status not in {"running", "success"}
    name = _clean(row.name) or "(no name)"
    yield _Line(
        guide,
        f"✗ {name}" if failed else name,
        _STYLES[row.status] if failed else "",
        AxisBar(row.started_seconds, row.ended_seconds, axis_seconds, _STYLES[row.status]),
        row.figures,
        row.status == "running",
    )
    yield from _lines(row.rows, below, axis_seconds)


def _width(lines: Sequence[_Line], layout: _Layout) -> int:
    """Return how many columns a layout needs at least."""
    name = max(cell_len(line.guide + line.name) for line in lines)
    return name + layout.gap + layout.min_axis + sum(width + layout.gap for width in _figure_widths(lines, layout))


def _figure_widths(lines: Sequence[_Line], layout: _Layout) -> list[int]:
    rows = [_cells(line.figures, layout, running=line.is_running) for line in lines if line.figures is not None]
    return [max(map(cell_len, column)) for column in zip(layout.headers, *rows, strict=True)]


def _cells(figures: Figures, layout: _Layout, *, running: bool) -> tuple[str, ...]:
    usage = figures.usage
    cached = usage.cache_read_tokens
    spent = bool(usage.input_tokens or usage.output_tokens)
    decimals = 1 if layout.is_compact or running else 2
    return (
        f"{figures.seconds:.{decimals}f}{' ' if running and not layout.is_compact else ''}",
        _count(usage.input_tokens, layout) if spent else "",
        _count(cached, layout) if cached else "",
        _count(usage.output_tokens, layout) if spent else "",
        usd(figures, decimals=4 if layout.is_compact else 8),
    )


def _count(count: int, layout: _Layout) -> str:
    if not layout.is_compact or count < 1000:
        return f"{count:,}"
    unit, size = ("M", 1_000_000) if count >= 1_000_000 else ("k", 1000)
    return f"{count / size:.0f}{unit}" if count >= 100 * size else f"{count / size:.1f}{unit}"


def _remarks(trace: Trace) -> Iterator[Text]:
    yield from _failures(trace.rows)
    if trace.status not in {"running", "success"}:
        yield Text(f"request: {_ending(trace.status, trace.error_type)}", style=_STYLES[trace.status])
    parts = []
    if (saved := _saved_below(trace.rows)) >= 0.005:
        parts.append(f"parallel branches saved {saved:.2f} s")
    if trace.first_token_seconds is not None:
        parts.append(f"the answer began after {trace.first_token_seconds:.2f} s")
    if parts:
        yield Text("; ".join(parts), style="dim")
    if (remark := legend(trace.figures)) and trace.status != "running":
        yield Text(remark, style="dim")


def _failures(rows: Sequence[Row]) -> Iterator[Text]:
    for row in rows:
        if row.status not in {"running", "success"}:
            yield Text(f"{_clean(row.name)}: {_ending(row.status, row.error_type)}", style=_STYLES[row.status])
        yield from _failures(row.rows)


def _saved_below(rows: Sequence[Row]) -> float:
    """Return the time that branches saved on the topmost level, and in the nodes that ran alone."""
    saved = 0.0
    for group in group_by_step(rows):
        saved += saved_seconds(group) if len(group) > 1 else _saved_below(group[0].rows)
    return saved


def _ending(status: str, error_type: str | None) -> str:
    return f"{'failed' if status == 'error' else status}{f' ({error_type})' if error_type else ''}"


def _calls(count: int) -> str:
    return "1 call" if count == 1 else f"{count} calls"


def _clean(name: str) -> str:
    return name.translate(_CONTROLS)


def _axis_seconds(seconds: float) -> float:
    """Return a round axis length of at least these seconds, so that a growing axis rarely changes."""
    fitting = [axis for axis in _AXES_SECONDS if axis >= seconds]
    return fitting[0] if fitting else 60.0 * (floor(seconds / 60) + 1)
