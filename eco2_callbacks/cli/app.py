"""The commands of ``eco2``, put together with typer.

A command is imported when it runs, so that the help is there at once.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup

from eco2_callbacks.cli.commands import load_verb
from eco2_callbacks.cli.lazy_command import LazyCommand

__all__ = ["build_app"]

# A verb, the function that runs it, and the sentence of its help, which is that function's docstring.
_VERBS = (
    ("report", "report.report", "What model calls consumed and cost in a period."),
    ("trace", "trace.trace", "The runs of a request as a tree on a time axis, with their cost."),
    ("prices", "prices.prices", "The rates of a model, their source, the day they were checked and their age."),
    ("reprice", "reprice.reprice", "What the calls of a period would have cost at other prices, by model and tenant."),
    (
        *("reconcile", "reconcile.reconcile"),
        "Where the ledger and other books differ, by day and model, with the likely cause and the capture rate.",
    ),
    ("focus", "focus.focus", "The ledger's calls as charges of FOCUS 1.2, with corrections of earlier months."),
    (
        *("compare", "compare.compare"),
        "Tokens, dollars, seconds, errors and feedback of a call by variant, with what the sample allows to say.",
    ),
    ("mcp", "mcp.serve_mcp", "Serve the ledger to an assistant over the Model Context Protocol, for reading only."),
    ("doctor", "doctor.doctor", "Check environment, packages, services and source; exit with 1 if there is an error."),
)
_LEDGER_VERBS = (
    ("status", "ledger_status.status", "What the ledger holds, and what still waits on this machine."),
    ("migrate", "ledger_migrate.migrate", "Create the ledger's tables, or bring them to the newest schema."),
    ("prune", "ledger_prune.prune_rows", "Delete everything that started before a moment, with its dollars."),
    (
        *("forget", "ledger_forget.forget"),
        "Erase a user's ids from the ledger and from this machine's spool; usage and dollars stay.",
    ),
)
_BUDGET = "What is spent of each budget in its current window: of its store, or without one of the ledger."


def build_app() -> TyperGroup:
    """Return the command with all its verbs."""
    ledger = _group("ledger", "The state of a ledger, and its upkeep.", _LEDGER_VERBS)
    app = _group("eco2", "What your LangChain and LangGraph applications consumed and cost.", _VERBS)
    app.add_command(ledger)
    app.add_command(LazyCommand("budget", _BUDGET, _build_budget))
    return app


def _group(name: str, text: str, verbs: tuple[tuple[str, str, str], ...]) -> TyperGroup:
    commands = [LazyCommand(verb, sentence, partial(_build, function)) for verb, function, sentence in verbs]
    return TyperGroup(name=name, help=text, commands=commands, no_args_is_help=True, rich_markup_mode=None)


def _build(path: str) -> Any:
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command()(load_verb(path))
    return typer.main.get_command(app)


def _build_budget() -> Any:
    """Return ``eco2 budget``, which has a verb and runs without it too."""
    app = typer.Typer(invoke_without_command=True, add_completion=False, rich_markup_mode=None)
    app.callback()(load_verb("budget.budget"))
    app.command("raise")(load_verb("budget.raise_budget"))
    return typer.main.get_command(app)
