"""BudgetControl: puts a handler's budgets together: rules, gate, settlement, metrics, events."""

from __future__ import annotations

import logging
import time
import weakref
from collections.abc import Callable, Iterable, Sequence
from datetime import datetime
from functools import partial
from uuid import UUID

from eco2_callbacks.budgets.callers import caller_of_record
from eco2_callbacks.budgets.enforcer import BudgetEnforcer
from eco2_callbacks.budgets.events import BudgetEvent
from eco2_callbacks.budgets.gate import BudgetGate, Identify
from eco2_callbacks.budgets.history import follow_ledger
from eco2_callbacks.budgets.observer import BudgetObserver
from eco2_callbacks.budgets.rules import BudgetRule
from eco2_callbacks.budgets.settings import Budgets
from eco2_callbacks.budgets.shared_gate import SharedBudgetGate
from eco2_callbacks.budgets.stores import open_store
from eco2_callbacks.budgets.webhook import WebhookSender
from eco2_callbacks.budgets.worst_case import WorstCase
from eco2_callbacks.ledger import LedgerSink
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.prometheus import BudgetFigures, BudgetMetrics, PrometheusExporter
from eco2_callbacks.records import LLMCall

__all__ = ["BudgetControl"]

_logger = logging.getLogger(__name__)
_CALLBACKS = ("budget_gate", "budget_history", "budget_store", "budget_webhook")
_CLOSE_SECONDS = 5.0
_TENANT_GAUGES = {"month": "monthly_usd", "day": "daily_usd"}


class BudgetControl:
    """The budgets of one handler.

    Args:
        budgets: The settings.
        prices: Prices of the models.
        now: As the handler's.
        exporter: Shows budgets, and counts refused calls and failures.
        identify: As the gate's.
        on_event: Takes budget events; the webhook gets them besides.
        on_refused: As the gate's.
        on_failure: As the gate's.
        settle_waiting: As the enforcer's.
        open_run: As the enforcer's.
        ledger: What the windows are rebuilt from; None leaves them as they are.

    Attributes:
        gate: The handler that refuses calls.
        observer: Settles calls.

    Raises:
        ConfigError: If the store's address or client cannot be used.
    """

    def __init__(
        self,
        budgets: Budgets,
        *,
        prices: PriceBook,
        now: Callable[[], datetime],
        exporter: PrometheusExporter,
        identify: Identify,
        on_event: Callable[[BudgetEvent], None],
        on_refused: Callable[[Sequence[UUID], str], None],
        on_failure: Callable[[str, UUID | None], None],
        settle_waiting: Callable[[], None],
        open_run: Callable[[int], object | None],
        ledger: LedgerSink | None,
    ) -> None:
        store = None if budgets.store is None else open_store(budgets.store, timeout_seconds=_store_seconds(budgets))
        self._rules = budgets.rules
        self._metrics = BudgetMetrics(exporter, self.figures)
        self._webhook: WebhookSender | None = None
        if budgets.webhook is not None:
            self._webhook = WebhookSender(budgets.webhook, on_failure=partial(exporter.count_error, "budget_webhook"))
        self._send_to_sinks = on_event
        self._enforcer = BudgetEnforcer(
            budgets,
            store=store,
            worst_case=WorstCase(prices, assumed_output_tokens=budgets.assumed_output_tokens, now=now),
            now=now,
            on_event=_weak(self._on_event),
            on_refused=self._metrics.count_refused,
            on_failure=exporter.count_error,
            settle_waiting=settle_waiting,
            open_run=open_run,
        )
        gate = BudgetGate if store is None else SharedBudgetGate
        self.gate = gate(self._enforcer, identify=identify, on_refused=on_refused, on_failure=on_failure)
        self.observer = BudgetObserver(self._enforcer)
        for callback in _CALLBACKS:
            exporter.init_error(callback)
        for rule in budgets.rules:
            self._metrics.init_refused(rule.name)
            _show_tenant(rule, exporter)
        has_windows = any(rule.span.kind != "run" for rule in budgets.rules)
        self._has_history = has_windows and ledger is not None
        if has_windows and ledger is not None:
            on_unread = partial(exporter.count_error, "budget_history")
            self._enforcer.restore_from(follow_ledger(ledger, budgets.rules, on_failure=on_unread))
        elif has_windows and store is None and is_first("budgets", "memory"):
            _logger.warning(
                "Budgets without a store or a ledger begin at the start of this process, and each process has its own. "
                "Set store = 'redis://...' to share them, or pass a ledger to restore them."
            )

    def figures(self) -> list[BudgetFigures]:
        """Return the figures of all budgets for Prometheus."""
        known = [
            BudgetFigures(state.budget, state.window, state.limit_usd, state.spent_usd)
            for state in self._enforcer.all_states()
        ]
        shown = {each.budget for each in known}
        return known + [
            BudgetFigures(rule.name, rule.span.name, rule.limit_usd, None)
            for rule in self._rules
            if rule.name not in shown
        ]

    def since(self) -> datetime | None:
        """Return the earliest time whose calls still count in a budget; None where no such budget exists."""
        return self._enforcer.since()

    def restore(self, calls: Iterable[LLMCall]) -> None:
        """Add what calls cost that ended before this process began; left out where a ledger has them."""
        if self._has_history:
            _logger.warning("The budgets were rebuilt from the handler's ledger; restore_budgets() adds nothing.")
            return
        self._enforcer.restore(
            (caller_of_record(call), call.started_at, call.cost.total_usd) for call in calls if call.cost is not None
        )

    def release(self, run_id: UUID) -> None:
        """Release what a call has reserved that is not sent."""
        self._enforcer.release(run_id)

    def flush(self, timeout_seconds: float) -> bool:
        """Report what was spent and send the events so far; return whether the time sufficed."""
        until = time.monotonic() + timeout_seconds
        flushed = self._enforcer.flush(timeout_seconds)
        return flushed and (self._webhook is None or self._webhook.flush(max(0.0, until - time.monotonic())))

    def close(self) -> None:
        """Report what was spent, give back all slices, and send the events that wait."""
        self._enforcer.close()
        if self._webhook is not None:
            self._webhook.close(_CLOSE_SECONDS)

    def _on_event(self, event: BudgetEvent) -> None:
        if self._webhook is not None:
            self._webhook.send(event)
        self._send_to_sinks(event)


def _weak(take: Callable[[BudgetEvent], None]) -> Callable[[BudgetEvent], None]:
    """Return a call of a bound method that does not keep its object: the leaser's thread keeps what it calls."""
    reference = weakref.WeakMethod(take)

    def call(event: BudgetEvent) -> None:
        if (bound := reference()) is not None:
            bound(event)

    return call


def _store_seconds(budgets: Budgets) -> float:
    """Return how long one answer of the store may take: no longer than a call waits."""
    return max(0.1, budgets.wait_seconds)


def _show_tenant(rule: BudgetRule, exporter: PrometheusExporter) -> None:
    """Show a budget of exactly one tenant in the tenants' own gauges."""
    argument = _TENANT_GAUGES.get(rule.span.kind)
    if argument is None or rule.per or len(rule.patterns) != 1:
        return
    key, exact, patterns = rule.patterns[0]
    if key != "tenant_id" or patterns or len(exact) != 1:
        return
    usd: dict[str, float | None] = {"monthly_usd": None, "daily_usd": None, argument: float(rule.limit_usd)}
    (tenant_id,) = exact
    exporter.set_budget(tenant_id, monthly_usd=usd["monthly_usd"], daily_usd=usd["daily_usd"])
