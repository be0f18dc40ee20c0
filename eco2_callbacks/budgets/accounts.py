"""Account and AccountTable: what one process knows of each budget, and its reservations.

All amounts are nanodollars. With a store that processes share, a process holds a slice of each budget and reserves from
it in memory; without one it reserves from the whole budget.

========================  ==============================================================
An amount is              in
========================  ==============================================================
spent                     ``settled``; with a store also in ``unreported``, later ``sent``
reserved by open calls    ``reserved``; their number is ``open_calls``
free for the next call    ``free()``
========================  ==============================================================
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from uuid import UUID

from eco2_callbacks.budgets.request_table import RequestTable
from eco2_callbacks.budgets.rules import BudgetRule, account_key
from eco2_callbacks.budgets.windows import Period
from eco2_callbacks.pricing import EXACT

__all__ = ["Account", "AccountTable", "first_blocked"]

_MAX_RUNS = 10_000
_FIRST_SWEEP = 1_000


class Account:
    """One budget of one scope in one period.

    Attributes:
        rule: Its rule.
        scope: As ``BudgetRule.scope_of`` returns it; a run's id for a budget of one run.
        key: Names the account in a store.
        period: The period; moved on in place for a rolling window.
        is_shared: Whether the budget lies in a store, of which this process holds a slice.
        limit: The limit in force, with temporary raises.
        levels: The warning levels and the amounts at which they are reached; ``lowest`` is the first amount.
        settled: What was spent, by all processes as far as known.
        reserved: What the open calls of this process have reserved.
        open_calls: Their number: a call whose price is unknown reserves nothing, and can cost something.
        waiting_calls: Number of the calls that wait for the store, and will then reserve.
        held: The slice, less what was reported from it.
        unreported: What was spent here and not yet sent to the store.
        sent: What was sent and is not yet acknowledged, under ``sequence``.
        sequence: Number of the last report; later reports of this process have higher ones, of any account.
        is_known: Whether ``settled`` and ``limit`` come from the store.
        is_pressed: Whether another process lacks what this one holds.
        touched: Seconds of the monotonic clock at which a call last used it; 0.0 is never.
        latest: What the latest call needed; a slice holds at least as much.
        refill_below: The free amount below which the slice is renewed at once.
        buckets: What was spent, by bucket: of a rolling window, and of a shared one as the store last had it.
        generation: As the store last named the account; ``""`` before its first answer.
        announced: The events that were sent in this period, the first one at ``announced_at``: limit and bucket.
    """

    __slots__ = (
        "announced",
        "announced_at",
        "buckets",
        "generation",
        "held",
        "is_known",
        "is_pressed",
        "is_shared",
        "key",
        "latest",
        "levels",
        "limit",
        "lowest",
        "open_calls",
        "period",
        "refill_below",
        "reserved",
        "rule",
        "scope",
        "sent",
        "sequence",
        "settled",
        "touched",
        "unreported",
        "waiting_calls",
    )

    limit: int
    levels: tuple[tuple[Decimal, int], ...]
    lowest: int

    def __init__(self, rule: BudgetRule, scope: str, period: Period, *, is_shared: bool) -> None:
        self.rule = rule
        self.scope = scope
        self.period = period
        self.key = account_key(rule, scope, period)
        self.is_shared = is_shared
        self.set_limit(rule.limit_nano)
        self.settled = 0
        self.reserved = 0
        self.open_calls = 0
        self.waiting_calls = 0
        self.held = 0
        self.unreported = 0
        self.sent = 0
        self.sequence = 0
        self.is_known = not is_shared
        self.is_pressed = False
        self.touched = 0.0
        self.latest = 0
        self.refill_below = 0
        self.announced: set[str] = set()
        self.announced_at = (0, 0)
        self.buckets: dict[int, int] = {}
        self.generation = ""

    def free(self) -> int:
        """Return what the next call may reserve at once; below 0 where calls cost more than estimated."""
        if self.is_shared:
            return self.held - self.sent - self.unreported - self.reserved
        return self.free_limit()

    def set_limit(self, limit: int) -> None:
        """Set the limit in force."""
        self.limit = limit
        self.levels = tuple((level, int(EXACT.multiply(limit, level))) for level in self.rule.warn_at)
        self.lowest = self.levels[0][1] if self.levels else limit

    def free_limit(self) -> int:
        """Return what of the limit is neither spent nor reserved here."""
        return self.limit - self.settled - self.reserved

    def spend(self, cost: int) -> None:
        """Add what a call cost."""
        self.settled += cost
        if self.is_shared:
            self.unreported += cost
        elif self.rule.span.kind == "rolling":
            self.buckets[self.period.bucket] = self.buckets.get(self.period.bucket, 0) + cost

    def move_to(self, period: Period) -> None:
        """Move a rolling window on; what is older than its oldest bucket no longer counts."""
        self.period = period
        for bucket in [bucket for bucket in self.buckets if bucket < period.oldest]:
            self.settled -= self.buckets.pop(bucket)

    def until(self) -> datetime | None:
        """Return when the window ends; of a rolling one, when the oldest dollars no longer count."""
        window = self.rule.span
        if window.kind == "rolling" and self.buckets:
            return window.end_of(min(self.buckets))
        return self.period.end

    def restore(self, spent: Iterable[tuple[int, int]]) -> None:
        """Add what a ledger says was spent before, by bucket; 0 is the bucket of a calendar window."""
        for bucket, cost in spent:
            self.settled += cost
            if self.rule.span.kind == "rolling":
                self.buckets[bucket] = self.buckets.get(bucket, 0) + cost

    def is_idle(self) -> bool:
        """Return whether nothing of it is open, held or unreported, and no call waits for it."""
        return not (self.open_calls or self.waiting_calls or self.held or self.unreported or self.sent)


class AccountTable:
    """The accounts of one process. Its owner holds a lock around every call.

    Args:
        is_shared: Whether budgets lie in a store. A budget of one run never does.
        on_new: Called with each new account.
        on_past: Called with each account whose period is over.
        on_moved: Called with each account of a rolling window that has moved on.

    Attributes:
        open_run: Returns the open run with the integer of a run id; None if there is none.
    """

    def __init__(
        self,
        *,
        is_shared: bool,
        on_new: Callable[[Account], None],
        on_past: Callable[[Account], None],
        on_moved: Callable[[Account], None],
    ) -> None:
        self._is_shared = is_shared
        self._on_new = on_new
        self._on_past = on_past
        self._on_moved = on_moved
        self._current: dict[tuple[str, str], Account] = {}
        self.open_run: Callable[[int], object | None] = _no_run
        # A request inside a request can have a limit of its own.
        self._runs: RequestTable[tuple[str, str, int], Account] = RequestTable(_MAX_RUNS, self._is_run_in_use)
        # By their keys: past accounts that still have open calls, or something to report.
        self._past: dict[str, Account] = {}
        self._sweep_at = _FIRST_SWEEP

    def __iter__(self) -> Iterator[Account]:
        yield from list(self._current.values())
        yield from list(self._past.values())

    def current(self) -> list[Account]:
        """Return the accounts whose period holds now, those of single runs excepted."""
        return list(self._current.values())

    def find(self, rule: BudgetRule, scope: str, now: datetime) -> Account:
        """Return the account of a rule and scope in the period that holds now."""
        if rule.span.kind == "run":
            return self._find_run(rule, scope, now)
        key = rule.name, scope
        account = self._current.get(key)
        if account is not None:
            end = account.period.end
            if end is None or now < end:
                return account
            if rule.span.kind == "rolling":
                account.move_to(rule.span.period(now))
                self._on_moved(account)
                return account
            self._retire(account)
        elif len(self._current) >= self._sweep_at:
            self.roll(now)
            self._sweep_at = max(_FIRST_SWEEP, 2 * len(self._current))
        account = Account(rule, scope, rule.span.period(now), is_shared=self._is_shared)
        past = self._past.pop(account.key, None)
        if past is not None:  # its period holds again: the clock was set back
            self._current[key] = past
            return past
        self._current[key] = account
        self._on_new(account)
        return account

    def roll(self, now: datetime) -> None:
        """Move every account whose period is over on.

        One of a calendar window leaves the table, and so does one of a rolling window in which nothing counts and that
        no open call uses.
        """
        for key, account in list(self._current.items()):
            end = account.period.end
            if end is None or now < end:
                continue
            if account.rule.span.kind == "rolling":
                account.move_to(account.rule.span.period(now))
                self._on_moved(account)
                if account.settled or not account.is_idle():
                    continue
            self._retire(account)
            del self._current[key]
        self._past = {key: account for key, account in self._past.items() if not account.is_idle()}

    def _find_run(self, rule: BudgetRule, run_id: str, now: datetime) -> Account:
        key = rule.name, run_id, rule.limit_nano
        account = self._runs.get(key)
        if account is None:
            account = Account(rule, run_id, rule.span.period(now), is_shared=False)
            self._runs.add(key, account)
        return account

    def _is_run_in_use(self, account: Account) -> bool:
        return not account.is_idle() or self.open_run(UUID(account.scope).int) is not None

    def _retire(self, account: Account) -> None:
        self._on_past(account)
        if not account.is_idle():
            self._past[account.key] = account


def first_blocked(accounts: Sequence[Account], amount: int) -> Account | None:
    """Return the first account that refuses a reservation of this amount; None if all have room."""
    for account in accounts:
        if account.rule.action == "refuse" and amount > account.free():
            return account
    return None


def _no_run(_: int) -> None:
    """Return None: nothing knows the runs."""
