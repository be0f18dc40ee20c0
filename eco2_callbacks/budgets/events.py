"""BudgetEvent and BudgetState: what a budget tells others."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, TypeAlias

import msgspec

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.money import from_nano

__all__ = ["BudgetEvent", "BudgetState", "EventKind", "Level", "state_of"]

EventKind: TypeAlias = Literal["warn", "exceeded", "reset"]
Level: TypeAlias = Literal["ok", "warn", "exceeded"]


class BudgetEvent(msgspec.Struct, frozen=True, kw_only=True):
    """A budget reached a warning level or its limit, or began anew after that.

    Sinks get it like a record. Each event comes once until the budget is free again, also where several processes share
    it: ``reset`` begins anew, and so does a rolling window that has moved on as a whole.

    Attributes:
        event: ``warn`` at each warning level; ``exceeded`` with the first refused call, or when more than the limit is
            spent; ``reset`` when less than the lowest level is spent after one of them: a new window begins, a rolling
            one has moved on, or the limit was raised.
        budget: Name of the rule.
        scope: Whose budget it is, such as ``user_id=ann``; ``""`` for a rule without ``per``.
        window: The rule's window.
        level: The share of the limit that was reached; None where no level belongs to the event.
        spent_usd: What was spent and reserved at that moment.
        limit_usd: The limit in force.
        at: When it happened.
        until: When the window ends; None for a budget of one run.
    """

    event: EventKind
    budget: str
    scope: str = ""
    window: str
    level: Decimal | None = None
    spent_usd: Decimal
    limit_usd: Decimal
    at: datetime
    until: datetime | None = None

    def to_dict(self) -> dict[str, Any]:
        """Return the event ready for JSON: decimals and times are texts."""
        values = {name: getattr(self, name) for name in self.__struct_fields__}
        return {"record": "BudgetEvent", **{name: _json(value) for name, value in values.items()}}


class BudgetState(msgspec.Struct, frozen=True, kw_only=True):
    """How much of a budget is left.

    Attributes:
        budget: Name of the rule.
        scope: As in ``BudgetEvent``.
        window: The rule's window.
        level: ``warn`` from the lowest warning level on, ``exceeded`` where nothing remains.
        spent_usd: What is spent, and reserved by open calls.
        limit_usd: The limit in force.
        remaining_usd: What is left, 0 or more.
        refuses: Whether the budget refuses calls; otherwise it only warns.
        until: When the window ends; None for a budget of one run.
    """

    budget: str
    scope: str = ""
    window: str
    level: Level = "ok"
    spent_usd: Decimal
    limit_usd: Decimal
    remaining_usd: Decimal
    refuses: bool = True
    until: datetime | None = None


def state_of(account: Account) -> BudgetState:
    """Return the state of an account."""
    rule = account.rule
    spent = account.settled + account.reserved
    level: Level = "ok"
    if spent >= account.limit:
        level = "exceeded"
    elif rule.warn_at and spent >= account.lowest:
        level = "warn"
    return BudgetState(
        budget=rule.name,
        scope="" if rule.span.kind == "run" else account.scope,
        window=rule.span.name,
        level=level,
        spent_usd=from_nano(spent),
        limit_usd=from_nano(account.limit),
        remaining_usd=from_nano(max(0, account.limit - spent)),
        refuses=rule.action == "refuse",
        until=account.until(),
    )


def _json(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    return format(value, "f") if isinstance(value, Decimal) else value
