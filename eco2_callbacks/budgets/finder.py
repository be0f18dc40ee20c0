"""AccountFinder: the accounts in which a call counts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import NamedTuple

from eco2_callbacks.budgets.accounts import Account, AccountTable
from eco2_callbacks.budgets.announcer import BudgetAnnouncer
from eco2_callbacks.budgets.callers import RUN_LIMIT, Caller
from eco2_callbacks.budgets.history import LedgerHistory, PastSpending
from eco2_callbacks.budgets.money import to_nano
from eco2_callbacks.budgets.rule_index import RuleIndex
from eco2_callbacks.budgets.rules import BudgetRule
from eco2_callbacks.budgets.slices import SliceLeaser

__all__ = ["AccountFinder"]

_MAX_RUN_RULES = 1000
_MAX_KNOWN = 1024
_TEXTS = frozenset({str, type(None)})
_NEVER = datetime.max.replace(tzinfo=UTC)


class _Found(NamedTuple):
    """The accounts of calls with the same values, until one of their periods ends, and their budgets of one run."""

    accounts: list[Account]
    run_rules: list[BudgetRule]
    until: datetime


class AccountFinder:
    """Finds accounts by rules. Its owner holds the lock of the accounts around every call.

    Args:
        rules: The rules.
        is_shared: As the table's.
        announcer: Gets the periods that are over.
        now: As the handler's.

    Attributes:
        table: The accounts.
        leaser: Restores shared accounts in their store; None without a store.
        history: What a ledger knows, for shared accounts that their store has lost; None without a ledger.
    """

    def __init__(
        self, rules: Sequence[BudgetRule], *, is_shared: bool, announcer: BudgetAnnouncer, now: Callable[[], datetime]
    ) -> None:
        self.leaser: SliceLeaser | None = None
        self.history: LedgerHistory | None = None
        self._rules = RuleIndex(rules)
        # What the rules read of a call.
        self._keys = tuple(
            dict.fromkeys(key for rule in rules for key in (*(key for key, _, _ in rule.patterns), *rule.per))
        )
        self._known: dict[tuple[str | None, ...], _Found] = {}
        self._now = now
        self._announcer = announcer
        self._run_rules: dict[Decimal, BudgetRule] = {}
        # Rule, scope and period -> nanodollars by bucket.
        self._restored: dict[tuple[str, str, str], dict[int, int]] = {}
        self.table = AccountTable(
            is_shared=is_shared, on_new=self._on_new, on_past=self._on_past, on_moved=announcer.on_moved
        )

    def since(self) -> datetime | None:
        """Return the earliest time whose calls still count in a budget; None where only budgets of one run exist."""
        now = self._now()
        starts = [start for rule in self._rules.all if (start := rule.span.period(now).start) is not None]
        return min(starts, default=None)

    def accounts_of(self, caller: Caller) -> list[Account]:
        """Return the accounts in which a caller's calls count, in their current period."""
        now, values = self._now(), caller.values(self._keys)
        known = None
        # Of another type the hash would be the application's code.
        if is_text := _TEXTS.issuperset(map(type, values)):
            known = self._known.get(values)
        if known is None or now >= known.until:
            known = self._find(caller, now)
            if is_text:
                if len(self._known) >= _MAX_KNOWN:
                    self._known.clear()
                self._known[values] = known
        run_rules = known.run_rules
        if caller.max_usd is not None:
            run_rules = [*run_rules, self._run_rule(caller.max_usd)]
        if not run_rules:
            return known.accounts
        return [*known.accounts, *(self.table.find(rule, str(caller.trace_id), now) for rule in run_rules)]

    def _find(self, caller: Caller, now: datetime) -> _Found:
        found = _Found([], [], _NEVER)
        until = found.until
        for rule in self._rules.matching(caller.value):
            scope = rule.scope_of(caller.value)
            if scope is None:
                continue
            if rule.span.kind == "run":
                found.run_rules.append(rule)
            else:
                account = self.table.find(rule, scope, now)
                found.accounts.append(account)
                until = min(until, account.period.end or until)
        return found._replace(until=until)

    def _run_rule(self, max_usd: Decimal) -> BudgetRule:
        rule = self._run_rules.get(max_usd)
        if rule is None:
            if len(self._run_rules) >= _MAX_RUN_RULES:
                self._run_rules.clear()
            rule = self._run_rules[max_usd] = BudgetRule(name=RUN_LIMIT, limit_usd=max_usd, window="run", warn_at=())
        return rule

    def past_spending(self, caller: Caller, at: datetime, cost_usd: Decimal) -> Iterator[PastSpending]:
        """Yield what a call that began at a time costs in the current period of each of its budgets."""
        now = self._now()
        for rule in self._rules.matching(caller.value):
            scope = rule.scope_of(caller.value)
            period, then = rule.span.period(now), rule.span.period(at)
            if scope is None or rule.span.kind == "run" or then.key != period.key or then.bucket < period.oldest:
                continue
            yield PastSpending(rule, scope, then.bucket, to_nano(cost_usd))

    def restore(self, spent: Iterable[PastSpending]) -> None:
        """Add what was spent in the current periods before this process."""
        now = self._now()
        rules = {}
        for rule, scope, bucket, nano in spent:
            buckets = self._restored.setdefault((rule.name, scope, rule.span.period(now).key), {})
            buckets[bucket] = buckets.get(bucket, 0) + nano
            rules[rule.name] = rule
        for name, scope, _ in list(self._restored):
            # A new account takes it by itself.
            self._on_new(self.table.find(rules[name], scope, now))

    def _on_new(self, account: Account) -> None:
        found = self._restored.pop((account.rule.name, account.scope, account.period.key), None)
        if found is not None and self.leaser is None:
            account.restore(found.items())
        elif found is not None and self.leaser is not None:
            past = tuple(found.items())
            self.leaser.restore(account, lambda: past)
        elif self.history is not None and self.leaser is not None:
            # Read later, on a thread of its own: a store that knows the account needs no query.
            self.leaser.restore(account, partial(self.history.read_account, account.rule, account.scope, self._now()))

    def _on_past(self, account: Account) -> None:
        # The table has it no longer, also where a clock is set back into its period.
        self._known.clear()
        self._announcer.on_past(account)
