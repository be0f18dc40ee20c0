"""RuleIndex: the rules that can match a call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from eco2_callbacks.budgets.rules import BudgetRule, comparable

__all__ = ["RuleIndex"]


class RuleIndex:
    """Finds the rules that can match a call: of many tenants' rules only those of the call's tenant."""

    def __init__(self, rules: Sequence[BudgetRule]) -> None:
        self.all = rules
        self._of_tenant: dict[str, list[BudgetRule]] = {}
        self._others: list[BudgetRule] = []
        for rule in rules:
            tenants = next(
                (exact for key, exact, patterns in rule.patterns if key == "tenant_id" and not patterns), None
            )
            if tenants is None:
                self._others.append(rule)
            for tenant_id in tenants or ():
                self._of_tenant.setdefault(tenant_id, []).append(rule)

    def matching(self, value_of: Callable[[str], Any]) -> list[BudgetRule]:
        """Return the rules that can match a call, given the function that returns its values."""
        if not self._of_tenant:
            return self._others
        of_tenant = self._of_tenant.get(comparable(value_of("tenant_id")))
        return self._others if of_tenant is None else [*self._others, *of_tenant]
