"""The verbs of ``eco2``: one file each."""

from __future__ import annotations

from eco2_callbacks.cli.commands.budget import budget, raise_budget
from eco2_callbacks.cli.commands.compare import compare
from eco2_callbacks.cli.commands.doctor import doctor
from eco2_callbacks.cli.commands.focus import focus
from eco2_callbacks.cli.commands.ledger_forget import forget
from eco2_callbacks.cli.commands.ledger_migrate import migrate
from eco2_callbacks.cli.commands.ledger_prune import prune_rows
from eco2_callbacks.cli.commands.ledger_status import status
from eco2_callbacks.cli.commands.mcp import serve_mcp
from eco2_callbacks.cli.commands.prices import prices
from eco2_callbacks.cli.commands.reconcile import reconcile
from eco2_callbacks.cli.commands.report import report
from eco2_callbacks.cli.commands.reprice import reprice
from eco2_callbacks.cli.commands.trace import trace

__all__ = [
    "budget",
    "compare",
    "doctor",
    "focus",
    "forget",
    "migrate",
    "prices",
    "prune_rows",
    "raise_budget",
    "reconcile",
    "report",
    "reprice",
    "serve_mcp",
    "status",
    "trace",
]
