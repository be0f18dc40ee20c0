"""TerminalSink: shows each request as a tree while it runs, in a terminal, a pipe or a notebook."""

from __future__ import annotations

import atexit
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import IO, cast

from rich.console import Console, Group, RenderableType
from rich.live import Live

from eco2_callbacks import forks
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.records import Record
from eco2_callbacks.sinks import RunStart
from eco2_callbacks.terminal.notebook import NotebookDisplay
from eco2_callbacks.terminal.plain_text import PlainTextFile, can_draw
from eco2_callbacks.terminal.timeline import Timeline
from eco2_callbacks.terminal.tree import RequestTree

__all__ = ["TerminalSink"]

_utc_now = partial(datetime.now, UTC)
_MAX_WIDTH = 140  # in more columns, a bar is too far from its name
_MIN_WIDTH = 40
_FRAMES_PER_SECOND = 10
_NOTEBOOK_SECONDS = 0.2
# Lines of a tree that do not show a run: the axis, the request, the remarks below.
_OTHER_LINES = 6


class TerminalSink(forks.ForkAware):
    """Shows each request as a tree of its nodes, with a bar, tokens and dollars for each.

    ======================  ===========================================================
    Output                  Shows
    ======================  ===========================================================
    a terminal              the running requests, redrawn in place; then each final tree
    a pipe, a file          each tree once, when the request has ended
    a Jupyter notebook      one output a request, updated while it runs
    ======================  ===========================================================

    ``NO_COLOR`` and ``COLUMNS`` are respected. In fewer columns the figures are shorter.

    Args:
        file: Where to write; None for standard output.
        width: Columns; None for those of the terminal, and at most 140.
        live: Whether to redraw; None where the output can. False leaves standard output alone while a request runs.
        now: Wall time with a time zone; pass the handler's if it has one of its own.

    Raises:
        ConfigError: If the width is below 40.
    """

    def __init__(
        self,
        *,
        file: IO[str] | None = None,
        width: int | None = None,
        live: bool | None = None,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        if width is not None and (isinstance(width, bool) or not isinstance(width, int) or width < _MIN_WIDTH):
            raise ConfigError(
                f"width= is {width!r}, wanted at least {_MIN_WIDTH} columns; leave it out for the terminal's."
            )
        self._file = file
        self._width = width
        self._wants_live = live
        self._timeline = Timeline(now=now)
        self._screen: _Screen | _Notebook | _Printer | None = None
        self._lock = threading.RLock()
        forks.register(self)

    def on_start(self, run: RunStart) -> None:
        """Show a run that has started."""
        self._timeline.on_start(run)
        with self._lock:
            if self._screen is None:
                self._screen = self._new_screen()
            self._screen.update(self._timeline)

    def emit(self, record: Record) -> None:
        """Show a run that has ended; print a request that is complete."""
        self._timeline.emit(record)
        with self._lock:
            if self._screen is None:
                return
            self._screen.update(self._timeline)
            for trace in self._timeline.pop_ended():
                self._screen.print(RequestTree(trace))
            if not self._timeline.traces:
                self._screen.stop()
                self._screen = None

    def after_fork_in_child(self) -> None:
        """Leave the screen and the requests to the parent."""
        self._lock = threading.RLock()
        self._screen = None
        self._timeline.clear()

    def _new_screen(self) -> _Screen | _Notebook | _Printer:
        # A console for each series of requests: standard output can be replaced in between, as pytest does.
        console = Console(file=self._file, width=self._width)
        if not can_draw(console.encoding):
            plain = cast("IO[str]", PlainTextFile(console.file))
            console = Console(file=plain, width=self._width, no_color=True)
        elif console.is_jupyter and self._file is None:
            return _Notebook(self._width, live=self._wants_live is not False)
        console.width = min(console.width, self._width or _MAX_WIDTH)
        if self._wants_live or (self._wants_live is None and console.is_terminal and not console.is_dumb_terminal):
            return _Screen(console, self._timeline)
        return _Printer(console)


class _Printer:
    """Prints final trees only."""

    def __init__(self, console: Console) -> None:
        self._console = console

    def update(self, timeline: Timeline) -> None:
        """Show nothing of a running request."""

    def print(self, tree: RenderableType) -> None:
        self._console.print(tree)

    def stop(self) -> None:
        """Hold nothing."""


class _Screen(_Printer):
    """Redraws the running requests at the end of a terminal, on a thread of rich's own."""

    def __init__(self, console: Console, timeline: Timeline) -> None:
        super().__init__(console)
        self._timeline = timeline
        self._live = Live(
            get_renderable=self._view,
            console=console,
            refresh_per_second=_FRAMES_PER_SECOND,
            transient=True,
        )
        self._live.start()
        # A terminal without a cursor would be left where the process ends within a request.
        atexit.register(self.stop)

    def stop(self) -> None:
        self._live.stop()
        atexit.unregister(self.stop)

    def _view(self) -> RenderableType:
        running = [trace for trace in self._timeline.traces if trace.status == "running"]
        each = max(3, self._console.height // max(1, len(running)) - _OTHER_LINES)
        return Group(*(RequestTree(trace, max_lines=each) for trace in running))


class _Notebook:
    """Updates one output of a notebook's cell."""

    def __init__(self, width: int | None, *, live: bool) -> None:
        self._display = NotebookDisplay(width or 100)
        self._is_live = live
        self._next_update = 0.0

    def update(self, timeline: Timeline) -> None:
        if self._is_live and time.monotonic() >= self._next_update:
            self._next_update = time.monotonic() + _NOTEBOOK_SECONDS
            self._display.show_running([RequestTree(trace) for trace in timeline.traces])

    def print(self, tree: RenderableType) -> None:
        self._display.add(tree)

    def stop(self) -> None:
        self._display.show_running([])
