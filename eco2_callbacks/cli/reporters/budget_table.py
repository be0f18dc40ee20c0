"""The state of budgets on the terminal, with a bar each, and as a JSON document."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eco2_callbacks.budgets import BudgetState
from eco2_callbacks.cli.reporters.marks import usd
from eco2_callbacks.cli.reporters.whole_table import print_whole

__all__ = ["budget_document", "print_budgets"]

_BAR_CHARACTERS = 20
_WIDTH = 140
_COLORS = {"ok": "green", "warn": "yellow", "exceeded": "red"}


def print_budgets(states: Sequence[BudgetState], source: str, console: Console) -> None:
    """Print one line for each budget and scope.

    Args:
        states: The states, in their order.
        source: Where they come from: ``store`` or ``ledger``.
        console: Where to.
    """
    if not console.is_terminal:
        console.width = _WIDTH
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name, justify in (
        *(("budget", "left"), ("scope", "left"), ("window", "left"), ("", "left"), ("share", "right")),
        *(("spent USD", "right"), ("limit", "right"), ("left", "right"), ("until (UTC)", "left"), ("", "left")),
    ):
        table.add_column(name, justify=justify, no_wrap=bool(name))  # type: ignore[arg-type]  # rich names it
    for state in states:
        limit, spent = float(state.limit_usd), float(state.spent_usd)
        share = spent / limit if limit else 1.0
        table.add_row(
            Text(state.budget),
            Text(state.scope),
            state.window,
            Bar(1.0, 0.0, min(share, 1.0), width=_BAR_CHARACTERS, color=_COLORS[state.level]),
            f"{share:.0%}",
            usd(state.spent_usd),
            usd(state.limit_usd),
            usd(state.remaining_usd),
            "" if state.until is None else f"{state.until:%Y-%m-%d %H:%M}",
            Text("" if state.level == "ok" else state.level, style=_COLORS[state.level]),
        )
    notes = {
        "store": "From the store, with what processes hold for calls that are open.",
        "ledger": "From the ledger: without open calls, temporary raises, and what is on its way.",
    }
    print_whole(table, console)
    console.print(Text(notes[source], style="dim"))


def budget_document(state: BudgetState) -> dict[str, Any]:
    """Return a state for JSON."""
    return msgspec.structs.asdict(state)
