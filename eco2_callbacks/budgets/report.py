"""BudgetReport: what remains in the budgets of a caller."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

import msgspec

from eco2_callbacks.budgets.events import BudgetState, Level

__all__ = ["BudgetReport"]

_LEVELS: Sequence[Level] = ("ok", "warn", "exceeded")


class BudgetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The budgets in which the calls of a config count.

    Attributes:
        budgets: Each budget's state.
    """

    budgets: tuple[BudgetState, ...] = ()

    @property
    def remaining_usd(self) -> Decimal | None:
        """The least that remains in a budget that refuses calls; None where no such budget applies."""
        return min((state.remaining_usd for state in self.budgets if state.refuses), default=None)

    @property
    def level(self) -> Level:
        """The worst level of the budgets; ``ok`` where none applies."""
        return max((state.level for state in self.budgets), key=_LEVELS.index, default="ok")
