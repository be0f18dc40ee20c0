"""``eco2 budget``: what is spent of each budget; ``eco2 budget raise``: a temporary raise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eco2_callbacks.budgets import Budgets, BudgetState, grant_raise, read_ledger_states, read_states
from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import budget_document, print_budgets, print_json
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import parse_duration
from eco2_callbacks.settings import budgets_of, ledger_of

__all__ = ["budget", "raise_budget"]

BudgetsFile = Annotated[
    Path | None,
    typer.Option("--budgets", metavar="FILE", help="The budgets.toml; ECO2_BUDGETS by default.", show_default=False),
]


def budget(
    context: typer.Context,
    budgets: BudgetsFile = None,
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """What is spent of each budget in its current window: of its store, or without one of the ledger."""
    if context.invoked_subcommand is not None:
        return
    settings = _read(budgets)
    states, source = _states(settings, ledger)
    if as_json:
        print_json({"source": source, "budgets": [budget_document(state) for state in states]})
    else:
        print_budgets(states, source, Console(highlight=False))


def raise_budget(
    name: Annotated[str, typer.Argument(help="The budget's name.")],
    usd: Annotated[str, typer.Argument(help="By how many dollars.")],
    duration: Annotated[str, typer.Option("--for", metavar="DURATION", help="How long it holds: 8h, 2d, 1w.")],
    budgets: BudgetsFile = None,
    as_json: AsJson = False,
) -> None:
    """Raise the limit of a shared budget for a time, for all its scopes."""
    until = grant_raise(_read(budgets), name, usd, parse_duration(duration))
    if as_json:
        print_json({"budget": name, "raised_usd": usd, "until": until.isoformat()})
    else:
        sys.stdout.write(f"Raised {name!r} by {usd} USD until {until:%Y-%m-%d %H:%M} UTC.\n")


def _read(path: Path | None) -> Budgets:
    found = path or budgets_of(os.environ)
    if found is None:
        raise ConfigError("No budgets are named; pass --budgets FILE or set ECO2_BUDGETS, for example budgets.toml.")
    return Budgets.from_toml(found)


def _states(budgets: Budgets, ledger: str) -> tuple[list[BudgetState], str]:
    """Return the states, and where they come from: ``store`` or ``ledger``."""
    if budgets.store is not None and not ledger:
        return read_states(budgets), "store"
    if not (ledger or ledger_of(os.environ)):
        raise ConfigError(
            "The budgets have no store, so each process keeps its own; name the ledger with --ledger or ECO2_LEDGER, "
            "or set store = 'redis://...' in the file."
        )
    backend = open_ledger(ledger)
    try:
        return read_ledger_states(budgets, backend), "ledger"
    finally:
        backend.close()
