"""Shows renderables of rich in a Jupyter notebook, in an output that can be updated."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console, Group, RenderableType

__all__ = ["NotebookDisplay"]

_HTML = (
    '<pre style="white-space:pre;overflow-x:auto;line-height:normal;'
    "font-family:Menlo,'DejaVu Sans Mono',consolas,'Courier New',monospace\">{code}</pre>"
)


class NotebookDisplay:
    """One output of the cell that runs: finished parts, and below them what is running.

    Args:
        width: Columns.
    """

    def __init__(self, width: int) -> None:
        self._width = width
        self._finished: list[RenderableType] = []
        self._running: Sequence[RenderableType] = ()
        self._handle: Any = None

    def add(self, finished: RenderableType) -> None:
        """Add a finished part; it is shown with the next ``show_running``."""
        self._finished.append(finished)

    def show_running(self, running: Sequence[RenderableType]) -> None:
        """Show what is running below the finished parts."""
        from IPython.display import DisplayHandle  # noqa: PLC0415  only a notebook has it

        self._running = running
        if self._handle is None:
            self._handle = DisplayHandle()  # type: ignore[no-untyped-call]
            self._handle.display(self)
        else:
            self._handle.update(self)

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None, **kwargs: Any) -> dict[str, str]:
        """Return the output as IPython asks for it."""
        console = Console(file=io.StringIO(), width=self._width, record=True, force_terminal=True, force_jupyter=False)
        console.print(Group(*self._finished, *self._running))
        html = console.export_html(inline_styles=True, code_format=_HTML, clear=False)
        return {"text/html": html, "text/plain": console.export_text()}
