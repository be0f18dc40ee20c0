"""LedgerHistory: what the windows of rules have cost before, as a ledger holds it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from eco2_callbacks.budgets.money import to_nano
from eco2_callbacks.budgets.rule_index import RuleIndex
from eco2_callbacks.budgets.rules import SELECTORS, BudgetRule
from eco2_callbacks.budgets.windows import Window
from eco2_callbacks.log_once import is_first

if TYPE_CHECKING:
    from eco2_callbacks.ledger import LedgerSink, Spent, SpentQuery

__all__ = ["LedgerHistory", "PastSpending", "follow_ledger"]

_logger = logging.getLogger(__name__)
_FLUSH_SECONDS = 3.0


class PastSpending(NamedTuple):
    """What a budget of one scope has cost in its current period.

    Attributes:
        bucket: As ``Period.bucket``.
        nano: Nanodollars.
    """

    rule: BudgetRule
    scope: str
    bucket: int
    nano: int


class LedgerHistory:
    """Adds up the calls of a ledger in the current windows of rules.

    Args:
        spent: Reads the ledger.
        rules: The rules.
        on_failure: Called, while the exception is handled, where the ledger cannot be read. If it does not raise, the
            sums are left out.
    """

    def __init__(
        self,
        spent: Callable[[SpentQuery], Sequence[Spent]],
        rules: Sequence[BudgetRule],
        *,
        on_failure: Callable[[Exception], None],
    ) -> None:
        self._read = spent
        self._on_failure = on_failure
        self._rules = [rule for rule in rules if rule.span.kind != "run"]

    def read(self, now: datetime) -> Iterator[PastSpending]:
        """Yield what all rules and scopes have cost; rules that need the same sums share one query."""
        alike: dict[tuple[Window, frozenset[str]], list[BudgetRule]] = {}
        for rule in self._rules:
            alike.setdefault((rule.span, _keys(rule)), []).append(rule)
        for rules in alike.values():
            index = RuleIndex(rules)
            for spent in self._spent(rules, now, None, {}):
                value_of = _value_of(spent)
                for rule in index.matching(value_of):
                    scope = rule.scope_of(value_of)
                    if scope is not None:
                        yield PastSpending(rule, scope, spent.bucket, to_nano(spent.usd))

    def read_account(self, rule: BudgetRule, scope: str, now: datetime) -> list[tuple[int, int]]:
        """Return what one scope of a rule had cost until now, by bucket: a process reports its later calls itself."""
        wanted = {}
        if len(rule.per) == 1:
            (key,) = rule.per
            wanted[key] = (scope.removeprefix(f"{key}="),)
        found: dict[int, int] = {}
        for spent in self._spent([rule], now, now, wanted):
            if rule.scope_of(_value_of(spent)) == scope:
                found[spent.bucket] = found.get(spent.bucket, 0) + to_nano(spent.usd)
        return list(found.items())

    def _spent(
        self, rules: Sequence[BudgetRule], now: datetime, until: datetime | None, wanted: Mapping[str, Sequence[str]]
    ) -> Iterator[Spent]:
        """Yield the sums of the calls in the current window of rules that have one window and the same keys."""
        from eco2_callbacks.ledger import SpentQuery  # noqa: PLC0415  it brings SQLAlchemy

        span, keys = rules[0].span, _keys(rules[0])
        period = span.period(now)
        assert period.start is not None  # noqa: S101  only a run has none
        for key in keys & set(SELECTORS):
            values = [
                exact for rule in rules for name, exact, patterns in rule.patterns if name == key and not patterns
            ]
            if len(values) == len(rules):
                wanted = {**wanted, key: sorted(frozenset().union(*values))}
        query = SpentQuery(
            since=period.start,
            until=until,
            columns=tuple(sorted(keys & set(SELECTORS))),
            by_metadata=not keys <= set(SELECTORS),
            bucket_seconds=int(span.bucket_seconds),
            wanted=wanted,
        )
        try:
            found = self._read(query)
        except Exception as error:
            self._on_failure(error)
            return
        yield from (spent for spent in found if spent.bucket >= period.oldest)


def follow_ledger(ledger: LedgerSink, rules: Sequence[BudgetRule], *, on_failure: Callable[[], None]) -> LedgerHistory:
    """Return the history of a ledger that is written to: from now on it keeps the metadata that the rules name.

    Args:
        ledger: The ledger.
        rules: The rules.
        on_failure: Called where the ledger cannot be read; the sums are then left out.
    """
    if keys := frozenset().union(*map(_keys, rules)) - frozenset(SELECTORS):
        ledger.keep_metadata(keys)
    # What an earlier process left in the spool counts too. A living one can keep it from ever being empty.
    if not ledger.flush(_FLUSH_SECONDS) and ledger.lag_seconds() > _FLUSH_SECONDS:
        on_failure()
        _logger.warning(
            "The ledger lacks records that still wait in this machine's spool; the budgets begin without them."
        )

    def report(error: Exception) -> None:
        on_failure()
        if is_first("budgets", "history"):
            _logger.error(
                "The ledger could not be read for the budgets (%s); their windows begin at the start of this "
                "process, or as the store has them. Further failures are only counted, in "
                'eco2_callbacks_errors_total{callback="budget_history"}.',
                error,
            )

    from eco2_callbacks.ledger import spent_of  # noqa: PLC0415  it brings SQLAlchemy

    return LedgerHistory(partial(spent_of, ledger), rules, on_failure=report)


def _value_of(spent: Spent) -> Any:
    # As for a call: what the run tree knows wins over the metadata.
    return lambda key: spent.values.get(key) or spent.metadata.get(key)


def _keys(rule: BudgetRule) -> frozenset[str]:
    return frozenset([*(key for key, _, _ in rule.patterns), *rule.per])
