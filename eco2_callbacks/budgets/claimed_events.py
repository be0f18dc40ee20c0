"""ClaimedEvents: events of shared budgets that wait to be sent, by the one process that claims them in the store."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from datetime import datetime
from typing import NamedTuple
from uuid import uuid4

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.lease_requests import describe
from eco2_callbacks.budgets.rejected_accounts import RejectedAccounts
from eco2_callbacks.budgets.stores import AccountRejectedError, BudgetStore
from eco2_callbacks.log_once import is_first

__all__ = ["ClaimedEvents"]

_logger = logging.getLogger(__name__)
_MAX_WAITING = 10_000


class _Event(NamedTuple):
    token: str
    account: Account
    name: str
    send: Callable[[], None]
    is_due: Callable[[], bool] | None


class ClaimedEvents:
    """The events that wait. Any thread adds them; one thread sends them.

    Args:
        on_failure: Called for each event that is given up.
    """

    def __init__(self, on_failure: Callable[[], None]) -> None:
        self._on_failure = on_failure
        self._waiting: deque[_Event] = deque()

    def __len__(self) -> int:
        return len(self._waiting)

    def add(
        self, account: Account, name: str, send: Callable[[], None], is_due: Callable[[], bool] | None = None
    ) -> None:
        """Add an event.

        Args:
            account: Its account.
            name: As ``BudgetStore.claim`` takes it.
            send: Sends it.
            is_due: Returns whether it is still due, by what the store knows then; None if it is in any case.
        """
        self._waiting.append(_Event(uuid4().hex, account, name, send, is_due))

    def clear(self) -> None:
        """Forget all events, as in a forked child: the parent sends them."""
        self._waiting = deque()

    def checked_accounts(self) -> list[Account]:
        """Return the accounts that decide whether an event is still due."""
        return [event.account for event in self._waiting if event.is_due is not None]

    def limit(self) -> None:
        """Give up the oldest events if too many wait, as while the store is away for long."""
        while len(self._waiting) > _MAX_WAITING:
            self._waiting.popleft()
            self._on_failure()
            if is_first("budgets", "events"):
                _logger.error(
                    "More than %d events wait for the store of the budgets; the oldest are given up. Each is counted "
                    'in eco2_callbacks_errors_total{callback="budget_store"}. Start the store or correct its address.',
                    _MAX_WAITING,
                )

    def send(self, count: int, store: BudgetStore, now: datetime, rejected: RejectedAccounts) -> None:
        """Send the first events, and drop those that another process sends.

        Raises:
            StoreError: If the store cannot be reached; the events then go on waiting.
        """
        for _ in range(count):
            token, account, name, send, is_due = self._waiting[0]
            is_ours = is_due is None or is_due()
            if is_ours:
                try:
                    is_ours = store.claim(describe(account, now)._replace(limit=account.limit), name, token)
                except AccountRejectedError as error:
                    # Then each process sends it: twice is better than never.
                    rejected.add(account, error)
            self._waiting.popleft()
            if is_ours:
                send()
