"""BudgetAnnouncer: sends the events of budgets, each once until the budget is free again."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from functools import partial

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.events import BudgetEvent, BudgetState, EventKind, state_of
from eco2_callbacks.budgets.slices import SliceLeaser

__all__ = ["BudgetAnnouncer"]


class BudgetAnnouncer:
    """Sends the events of one handler's budgets.

    Args:
        lock: The lock of the accounts. Methods other than ``check`` and ``send_waiting`` are called with it.
        now: As the handler's.
        on_event: Takes the events.

    Attributes:
        leaser: Sends the events of shared budgets, so that only one process does; None without a store.
    """

    def __init__(
        self, lock: threading.RLock, *, now: Callable[[], datetime], on_event: Callable[[BudgetEvent], None]
    ) -> None:
        self.lock = lock
        self.leaser: SliceLeaser | None = None
        self._now = now
        self._on_event = on_event
        self._events: deque[Callable[[], None]] = deque()

    def check(self, accounts: Iterable[Account]) -> None:
        """Send the events of warning levels that were reached, and those that wait."""
        for account in accounts:
            settled = account.settled
            if settled < account.lowest and not account.announced:
                continue
            with self.lock:
                self.on_moved(account)
                for level, amount in account.levels:
                    if settled >= amount:
                        self._announce(account, "warn", level)
                if settled > account.limit:
                    self.exceeded(account)
        self.send_waiting()

    def on_moved(self, account: Account) -> None:
        """Tell that a budget is free again: its limit was raised, or its rolling window moved on."""
        limit, bucket = account.announced_at
        has_moved = account.limit > limit or account.period.bucket > bucket
        if account.announced and has_moved and account.settled < account.lowest:
            account.announced.clear()
            self._send(account, "reset", None, state_of(account), is_due=lambda: account.settled < account.lowest)

    def exceeded(self, account: Account) -> None:
        """Tell that a budget refused a call, or that more than its limit is spent."""
        self._announce(account, "exceeded")

    def _announce(self, account: Account, event: EventKind, level: Decimal | None = None) -> None:
        name = event if level is None else f"{event} {level}"
        if name not in account.announced:
            if not account.announced:
                account.announced_at = account.limit, account.period.bucket
            account.announced.add(name)
            self._send(account, event, level, state_of(account))

    def _send(
        self,
        account: Account,
        kind: EventKind,
        level: Decimal | None,
        state: BudgetState,
        *,
        claim: str = "",
        is_due: Callable[[], bool] | None = None,
    ) -> None:
        """Send an event; of several processes that share a budget only the one that claims it does, if still due."""
        event = BudgetEvent(
            event=kind,
            budget=state.budget,
            scope=state.scope,
            window=state.window,
            level=level,
            spent_usd=state.spent_usd,
            limit_usd=state.limit_usd,
            at=self._now(),
            until=state.until,
        )
        send = partial(self._on_event, event)
        if self.leaser is None or not account.is_shared:
            self._events.append(send)
        else:
            claim = claim or (kind if level is None else f"{kind} {level}")
            self.leaser.send_once(account, claim, send, is_due)

    def send_waiting(self) -> None:
        """Send the events that wait. The caller must not hold the lock: a sink may use a model itself."""
        while self._events:
            try:
                send = self._events.popleft()
            except IndexError:
                return  # another thread took it
            send()

    def on_past(self, account: Account) -> None:
        """Tell that a new window begins after one in which a level was reached."""
        if account.announced:
            fresh = Account(account.rule, account.scope, account.rule.span.period(self._now()), is_shared=False)
            # Not as a reset of the past account: what it announced holds for late calls too.
            self._send(account, "reset", None, state_of(fresh), claim="end")
