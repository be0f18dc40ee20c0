"""budget_state: what a node can read of the budgets in which its calls count."""

from __future__ import annotations

from langchain_core.runnables import RunnableConfig, ensure_config

from eco2_callbacks.budgets.gate import BudgetGate
from eco2_callbacks.budgets.report import BudgetReport
from eco2_callbacks.run_ids import uuid_of

__all__ = ["budget_state"]


def budget_state(config: RunnableConfig | None = None, *, model: str = "") -> BudgetReport:
    """Return the budgets in which the calls below a config count, with what remains in them.

    Args:
        config: The config that a node gets; None is the current one.
        model: The model to be called, for budgets by model.

    Returns:
        An empty report where no handler with budgets is attached.
    """
    config = ensure_config(config)
    callbacks = config.get("callbacks")
    handlers = callbacks if isinstance(callbacks, list) else getattr(callbacks, "handlers", ())
    for handler in handlers:
        gate = handler if isinstance(handler, BudgetGate) else getattr(handler, "budget_gate", None)
        if isinstance(gate, BudgetGate):
            parent_run_id = getattr(callbacks, "parent_run_id", None)
            return gate.report(
                None if parent_run_id is None else uuid_of(parent_run_id), config.get("metadata") or {}, model
            )
    return BudgetReport()
