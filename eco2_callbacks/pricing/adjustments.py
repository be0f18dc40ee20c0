"""Adjustments: discounts and margins on model calls, each with its start date and source."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from decimal import Decimal
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias, get_args

from eco2_callbacks.arguments import check_text
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.pricing.cost import EXACT, Cost

__all__ = ["Adjustment", "AdjustmentKind", "adjustment_for", "reduced"]

AdjustmentKind: TypeAlias = Literal["discount", "margin"]
_HUNDRED = Decimal(100)
_ONE = Decimal(1)
_MAX_PERCENT = 10_000
_MAX_USD = 1_000_000
_STEP = Decimal("1e-15")


@dataclass(frozen=True, slots=True)
class Adjustment:
    """A discount that a provider grants, or a margin that is charged on top of what a call costs.

    Attributes:
        kind: ``discount`` lowers the contracted cost; ``margin`` is kept beside it.
        start: First day (UTC) on which it holds.
        source: Where it comes from, such as a contract.
        percent: Share of the cost, 0 to 100 for a discount.
        fixed_usd: Dollars for each call. A discount never makes a cost negative.
        provider: As a rate's: a name or a pattern; ``*`` is any.
        model: Likewise.
        tenant: Likewise, but brackets stand for themselves: names of tenants have them.

    Raises:
        ConfigError: If a value cannot be used.
    """

    kind: AdjustmentKind
    start: date
    source: str
    percent: Decimal = Decimal(0)
    fixed_usd: Decimal = Decimal(0)
    provider: str = "*"
    model: str = "*"
    tenant: str = "*"

    def __post_init__(self) -> None:
        if self.kind not in get_args(AdjustmentKind):
            raise ConfigError(f"kind= is {self.kind!r}, wanted one of {list(get_args(AdjustmentKind))!r}.")
        for name in ("source", "provider", "model", "tenant"):
            check_text(name, getattr(self, name))
        if type(self.start) is not date:
            raise ConfigError(f"start= is {self.start!r}, wanted the first day; pass a datetime.date.")
        for name, most in (
            ("percent", 100 if self.kind == "discount" else _MAX_PERCENT),
            ("fixed_usd", _MAX_USD),
        ):
            value = getattr(self, name)
            if not isinstance(value, Decimal) or not value.is_finite() or not 0 <= value <= most:
                raise ConfigError(f"{name}= of a {self.kind} is {value!r}, wanted a Decimal from 0 to {most:,}.")
        if not self.percent and not self.fixed_usd:
            raise ConfigError(f"The {self.kind} from {self.start} changes nothing; give it percent or fixed_usd.")

    def is_for_model(self, providers: Iterable[str], models: Iterable[str]) -> bool:
        """Return whether it is for one of these names of a provider and of a model; case does not matter."""
        return any(fnmatchcase(name.lower(), self.provider.lower()) for name in providers) and any(
            fnmatchcase(name.lower(), self.model.lower()) for name in models
        )

    def is_for(self, provider: str, model: str) -> bool:
        """Return whether it is for this provider and model name."""
        return self.is_for_model((provider,), (model,))

    def is_for_tenant(self, tenant: str) -> bool:
        """Return whether it is for this tenant."""
        return fnmatchcase(tenant, self.tenant.replace("[", "[[]"))

    @property
    def factor(self) -> Decimal:
        """What a discount leaves of each price."""
        return EXACT.subtract(_ONE, EXACT.divide(self.percent, _HUNDRED))

    def usd_on(self, cost_usd: Decimal) -> Decimal:
        """Return a margin on the cost of one call."""
        return EXACT.add(EXACT.divide(EXACT.multiply(cost_usd, self.percent), _HUNDRED), self.fixed_usd)

    @property
    def _rank(self) -> tuple[bool, bool, bool, date]:
        return self.tenant != "*", self.model != "*", self.provider != "*", self.start


def adjustment_for(
    adjustments: Iterable[Adjustment], kind: AdjustmentKind, tenant: str, day: date
) -> Adjustment | None:
    """Return the one of a model's adjustments, of a kind, that holds for a tenant on a day.

    It is the one that names the tenant, else the model, else the provider; of several equally specific ones the
    latest.
    """
    found = [each for each in adjustments if each.kind == kind and each.start <= day and each.is_for_tenant(tenant)]
    return max(found, key=lambda each: each._rank, default=None)


def reduced(cost: Cost, usd: Decimal) -> Cost:
    """Return a cost that is lower by fixed dollars, at most by all of it; every part bears its share."""
    total = cost.total_usd
    left = EXACT.subtract(total, min(usd, total))
    if not left:
        return Cost()

    def share(amount: Decimal) -> Decimal:
        return EXACT.divide(EXACT.multiply(amount, left), total).quantize(_STEP, context=EXACT)

    parts = {part: share(amount) for part, amount in cost.parts.items()}
    if parts:
        largest = max(parts, key=lambda part: parts[part])
        others = sum((amount for part, amount in parts.items() if part != largest), Decimal(0))
        parts[largest] = EXACT.subtract(left, others)
    input_usd = min(share(cost.input_usd), left)
    return Cost(input_usd=input_usd, output_usd=EXACT.subtract(left, input_usd), parts=parts)
