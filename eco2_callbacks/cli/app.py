"""The commands of ``eco2``, put together with typer."""

from __future__ import annotations

import typer

from eco2_callbacks.cli.commands import (
    budget,
    compare,
    doctor,
    focus,
    forget,
    migrate,
    prices,
    prune_rows,
    raise_budget,
    reconcile,
    report,
    reprice,
    serve_mcp,
    status,
    trace,
)

__all__ = ["build_app"]


def build_app() -> typer.Typer:
    """Return the command with all its verbs."""
    app = typer.Typer(
        name="eco2",
        help="What your LangChain and LangGraph applications consumed and cost.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        rich_markup_mode=None,
    )
    app.command("report")(report)
    app.command("trace")(trace)
    app.command("prices")(prices)
    app.command("reprice")(reprice)
    app.command("reconcile")(reconcile)
    app.command("focus")(focus)
    app.command("compare")(compare)
    app.command("mcp")(serve_mcp)
    app.command("doctor")(doctor)
    ledger = typer.Typer(help="The state of a ledger, and its upkeep.", no_args_is_help=True, rich_markup_mode=None)
    ledger.command("status")(status)
    ledger.command("migrate")(migrate)
    ledger.command("prune")(prune_rows)
    ledger.command("forget")(forget)
    app.add_typer(ledger, name="ledger")
    budgets = typer.Typer(invoke_without_command=True, rich_markup_mode=None)
    budgets.callback()(budget)
    budgets.command("raise")(raise_budget)
    app.add_typer(budgets, name="budget")
    return app
