"""Budgets: what may be spent, by whom and when, and the gate that refuses a call before it is sent.

What keeps accounts is imported with its first use: most handlers have no budgets.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from eco2_callbacks.budgets.callers import RUN_LIMIT, Caller
from eco2_callbacks.budgets.events import BudgetEvent, BudgetState
from eco2_callbacks.budgets.gate import BudgetGate, BudgetReport, budget_state
from eco2_callbacks.budgets.rules import BudgetRule, read_usd
from eco2_callbacks.budgets.settings import Budgets, BudgetSource, read_budgets
from eco2_callbacks.budgets.webhook import Webhook

if TYPE_CHECKING:
    from eco2_callbacks.budgets.administration import grant_raise, read_ledger_states, read_states
    from eco2_callbacks.budgets.control import BudgetControl

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

_LAZY = {
    "BudgetControl": "control",
    "grant_raise": "administration",
    "read_ledger_states": "administration",
    "read_states": "administration",
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_LAZY[name]}"), name)
