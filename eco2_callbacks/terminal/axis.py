"""Draws bars and notes on a time axis, as renderables of rich."""

from __future__ import annotations

from rich.bar import Bar
from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

__all__ = ["Axis", "AxisBar", "AxisNote"]

_MIN_BAR_CHARS = 8


class AxisBar:
    """A bar on the axis. A bar narrower than one character is drawn as a thin mark."""

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
        return Measurement(_MIN_BAR_CHARS, options.max_width)


class Axis:
    """The axis, labelled with 0 on the left and its length on the right."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        end = f" {round(self._seconds, 2):g} s"
        if len(end) + 3 > options.max_width:
            end = f" {self._seconds:.0f} s"
        yield Text("0 " + "─" * (options.max_width - len(end) - 2) + end, style="dim", no_wrap=True)

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement(_MIN_BAR_CHARS, options.max_width)


class AxisNote:
    """A text at its position on the axis, moved left if it would not fit, and left out if it is too long."""

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
        return Measurement(_MIN_BAR_CHARS, options.max_width)
