"""Prints tables whose figures a narrow terminal must not cut."""

from __future__ import annotations

from rich.console import Console
from rich.table import Table

__all__ = ["print_whole", "width_of"]

_MEASURED_WIDTH = 10_000


def width_of(table: Table, console: Console) -> int:
    """Return how many columns of characters a table needs to show every cell on one line."""
    return console.measure(table, options=console.options.update(max_width=_MEASURED_WIDTH)).maximum


def print_whole(table: Table, console: Console) -> None:
    """Print a table as wide as it needs to be. A narrower terminal breaks its lines; a cut figure would be wrong."""
    width = console.width
    console.width = max(width, width_of(table, console))
    console.print(table)
    console.width = width
