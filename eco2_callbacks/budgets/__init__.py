"""Budgets: what may be spent, by whom and when, and the gate that refuses a call before it is sent.

Each name is imported with its first use: most handlers have no budgets.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names

if TYPE_CHECKING:
    from eco2_callbacks.budgets.administration import grant_raise, read_ledger_states, read_states
    from eco2_callbacks.budgets.callers import RUN_LIMIT, Caller
    from eco2_callbacks.budgets.control import BudgetControl
    from eco2_callbacks.budgets.events import BudgetEvent, BudgetState
    from eco2_callbacks.budgets.gate import BudgetGate
    from eco2_callbacks.budgets.node_report import budget_state
    from eco2_callbacks.budgets.report import BudgetReport
    from eco2_callbacks.budgets.rules import BudgetRule, read_usd
    from eco2_callbacks.budgets.settings import Budgets, BudgetSource, read_budgets
    from eco2_callbacks.budgets.webhook import Webhook

__all__ = [
    "RUN_LIMIT",
    "BudgetControl",
    "BudgetEvent",
    "BudgetGate",
    "BudgetReport",
    "BudgetRule",
    "BudgetSource",
    "BudgetState",
    "Budgets",
    "Caller",
    "Webhook",
    "budget_state",
    "grant_raise",
    "read_budgets",
    "read_ledger_states",
    "read_states",
    "read_usd",
]

__getattr__ = lazy_names(
    __name__,
    {
        "administration": ("grant_raise", "read_ledger_states", "read_states"),
        "callers": ("RUN_LIMIT", "Caller"),
        "control": ("BudgetControl",),
        "events": ("BudgetEvent", "BudgetState"),
        "gate": ("BudgetGate",),
        "node_report": ("budget_state",),
        "report": ("BudgetReport",),
        "rules": ("BudgetRule", "read_usd"),
        "settings": ("BudgetSource", "Budgets", "read_budgets"),
        "webhook": ("Webhook",),
    },
)
