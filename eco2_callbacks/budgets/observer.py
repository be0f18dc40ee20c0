"""BudgetObserver: settles the reservation of each call with the cost of its record."""

from __future__ import annotations

from eco2_callbacks.budgets.callers import caller_of_record
from eco2_callbacks.budgets.enforcer import BudgetEnforcer
from eco2_callbacks.budgets.worst_case import PlannedCall
from eco2_callbacks.records import LLMCall, Record
from eco2_callbacks.runs import OpenLLMCall, OpenRun, RunObserver

__all__ = ["BudgetObserver"]


class BudgetObserver(RunObserver):
    """Follows the runs of a handler for its budgets."""

    def __init__(self, enforcer: BudgetEnforcer) -> None:
        self._enforcer = enforcer

    def needs_record(self, run: OpenRun) -> bool:
        """Return whether a call must be settled at once; else its record may come later, together with others."""
        if not isinstance(run, OpenLLMCall):
            return False
        output = run.output
        metadata = output.response_metadata
        answer_model = metadata.get("model_name") or metadata.get("model") or ""
        call = PlannedCall(run.served, run.request_model, run.params, answer_model=answer_model)
        return self._enforcer.needs_settling(run.run_id, call, output.usage_metadata)

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Settle a call that ended, or release what a call reserved that makes no record."""
        if record is None:
            self._enforcer.release(run.run_id)
        else:
            self.settle(record)

    def settle(self, record: Record) -> None:
        """Settle the call of a record, also of one that the application made itself."""
        if isinstance(record, LLMCall):
            cost = record.cost
            self._enforcer.settle(
                record.run_id, lambda: caller_of_record(record), None if cost is None else cost.total_usd
            )
