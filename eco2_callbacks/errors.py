"""The exceptions of eco2_callbacks.

    Eco2CallbacksError
    ├── BudgetExceeded (RuntimeError)     a model call that was refused before it was sent
    ├── BudgetStoreError (OSError)        the store of shared budgets cannot be used
    ├── ConfigError (ValueError)          a setting or constructor argument that cannot be used
    │   └── RatesFileError                a file of custom rates that cannot be read
    ├── LedgerError (RuntimeError)        a ledger that cannot be opened, read or changed
    ├── UnknownModelError (LookupError)   a model without a known price
    └── UsageError (ValueError)           token counts that contradict each other

Only constructors and direct calls raise. Inside a LangChain callback the handler logs and counts instead. The one
exception is BudgetExceeded, whose purpose is to stop the call.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Literal, Self, TypeAlias

__all__ = [
    "BudgetExceeded",
    "BudgetStoreError",
    "ConfigError",
    "Eco2CallbacksError",
    "LedgerError",
    "RatesFileError",
    "UnknownModelError",
    "UsageError",
]


class Eco2CallbacksError(Exception):
    """Base class of all exceptions of this package."""


RefusalReason: TypeAlias = Literal["limit", "unpriced_model", "store_unreachable", "after_refusal"]
_REASONS: dict[RefusalReason, str] = {
    "limit": "this call could cost up to {cost} USD more. Raise the limit, wait, or use a cheaper model",
    "unpriced_model": "the price of the model is unknown. Add its rate with prices=, or set unpriced_model = 'pass'",
    "store_unreachable": "its store cannot be reached. Start the store, or set store_unreachable = 'open'",
    "after_refusal": "it refused an earlier call of this request. Set after_refusal = 'reserve' to allow a cheaper one",
}


class BudgetExceeded(Eco2CallbacksError, RuntimeError):  # noqa: N818  named as what happened, as users look for it
    """A model call was refused before it was sent: a budget has no room for what it could cost.

    Attributes:
        budget: Name of the budget.
        scope: Whose budget it is, such as ``user_id=ann``; ``""`` for a budget without ``per``.
        spent_usd: What is spent and reserved in the current window.
        limit_usd: The limit in force.
        call_usd: What the call could cost at most; None where that is unknown.
        until: When the window ends; None for a budget of one run.
        reason: Why the call was refused.
    """

    def __init__(
        self,
        budget: str,
        *,
        scope: str,
        spent_usd: Decimal,
        limit_usd: Decimal,
        call_usd: Decimal | None,
        until: datetime | None,
        reason: RefusalReason = "limit",
    ) -> None:
        self.budget = budget
        self.scope = scope
        self.spent_usd = spent_usd
        self.limit_usd = limit_usd
        self.call_usd = call_usd
        self.until = until
        self.reason: RefusalReason = reason
        owner = f" ({scope})" if scope else ""
        end = f"until {until.isoformat(timespec='seconds')}" if until is not None else "in this run"
        super().__init__(
            f"Budget {budget!r}{owner} has spent or reserved {spent_usd} of {limit_usd} USD {end}: "
            f"{_REASONS[reason].format(cost=call_usd)}."
        )

    def __reduce__(self) -> tuple[object, ...]:
        return _new_budget_exceeded, (self.budget, {name: getattr(self, name) for name in _BUDGET_FIELDS})


_BUDGET_FIELDS = ("scope", "spent_usd", "limit_usd", "call_usd", "until", "reason")


def _new_budget_exceeded(budget: str, fields: dict[str, object]) -> BudgetExceeded:
    return BudgetExceeded(budget, **fields)  # type: ignore[arg-type]  # as __reduce__ took them


class BudgetStoreError(Eco2CallbacksError, OSError):
    """The store of shared budgets cannot be used. Only reports on budgets raise it; calls follow a policy."""


class ConfigError(Eco2CallbacksError, ValueError):
    """A setting or constructor argument cannot be used."""


class RatesFileError(ConfigError):
    """A file of custom rates cannot be read; ``path`` names it."""

    def __init__(self, path: object, problem: str) -> None:
        self.path = path
        self.problem = problem
        super().__init__(f"Rates file {str(path)!r}: {problem}")

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.path, self.problem)


class LedgerError(Eco2CallbacksError, RuntimeError):
    """A ledger cannot be opened, read or changed."""


class UnknownModelError(Eco2CallbacksError, LookupError):
    """No price is known for a model of a provider on a day."""

    def __init__(self, provider: str, model: str, day: str) -> None:
        self.provider = provider
        self.model = model
        self.day = day
        super().__init__(
            f"No price for model {model!r} of provider {provider!r} on {day}; "
            "add it to the file named by ECO2_PRICES or pass prices=."
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.provider, self.model, self.day)


class UsageError(Eco2CallbacksError, ValueError):
    """Token counts contradict each other, so their cost is undefined."""

    def __init__(self, whole: str, total: int, parts: int) -> None:
        self.whole = whole
        self.total = total
        self.parts = parts
        super().__init__(
            f"The parts of {whole} sum to {parts}, more than the {total} it holds; "
            "pass counts that include their own parts."
        )

    def __reduce__(self) -> tuple[type[Self], tuple[object, ...]]:
        return type(self), (self.whole, self.total, self.parts)
