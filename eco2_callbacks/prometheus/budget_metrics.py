"""BudgetMetrics: the limits, the spending and the refused calls of budgets, exposed once there are budgets."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Callable, Iterable, Sequence
from decimal import Decimal
from typing import NamedTuple
from weakref import WeakMethod

from eco2_callbacks.prometheus.exporter import PrometheusExporter
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES

__all__ = ["BudgetFigures", "BudgetMetrics"]


class BudgetFigures(NamedTuple):
    """One budget's figures in US dollars; ``spent_usd`` is None where it is not known yet."""

    budget: str
    window: str
    limit_usd: Decimal
    spent_usd: Decimal | None


class BudgetMetrics:
    """Counts refused calls, and shows each budget's highest spender whenever the registry is read.

    Args:
        exporter: The handler's exporter.
        figures: A bound method that returns the figures of all budgets, several for a budget per user or session. It is
            held weakly.
    """

    def __init__(self, exporter: PrometheusExporter, figures: Callable[[], Iterable[BudgetFigures]]) -> None:
        self._instruments = instruments = exporter.instruments
        instruments.add_families(BUDGET_FAMILIES)
        self._figures = WeakMethod(figures)
        self._limit = instruments.gauge("budget_limit_dollars")
        self._spent = instruments.gauge("budget_spent_dollars")
        self._refused = instruments.counter("budget_refused_calls_total")
        self._shown: set[tuple[str, str]] = set()
        instruments.before_flush(self._update)

    def init_refused(self, budget: str) -> None:
        """Initialise the count of a budget's refused calls at 0."""
        self._instruments.enqueue(self._count_refused, (budget, 0))

    def count_refused(self, budget: str) -> None:
        """Count one refused call."""
        self._instruments.enqueue(self._count_refused, (budget, 1))

    def _count_refused(self, calls: Sequence[tuple[str, int]]) -> None:
        tally: Tally[str] = Tally()
        for budget, times in calls:
            tally[budget] += times
        for budget, times in tally.items():
            self._refused.labels(budget=budget).inc(times)

    def _update(self) -> None:
        figures = self._figures()
        if figures is None:
            return
        highest: dict[tuple[str, str], BudgetFigures] = {}
        for each in figures():
            known = highest.get((each.budget, each.window))
            if known is None or (known.spent_usd or 0) <= (each.spent_usd or 0):
                highest[each.budget, each.window] = each
        # Enqueued: a gauge that moves while the process forks stays locked in the child.
        self._instruments.enqueue(self._show, list(highest.values()))

    def _show(self, readings: Sequence[Sequence[BudgetFigures]]) -> None:
        for each in readings[-1]:
            labels = {"budget": each.budget, "window": each.window}
            self._limit.labels(**labels).set(float(each.limit_usd))
            if each.spent_usd is not None:
                self._shown.add((each.budget, each.window))
                self._spent.labels(**labels).set(float(each.spent_usd))
            elif (each.budget, each.window) in self._shown:
                # The window that was shown is over, and nothing is spent in a new one as far as is known.
                self._spent.labels(**labels).set(0)
