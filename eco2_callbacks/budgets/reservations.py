"""Reservations: what each open call has reserved, and in which accounts."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

from eco2_callbacks.budgets.accounts import Account

__all__ = ["Reservation", "Reservations"]

# A call that is open for longer has lost its end.
_MAX_AGE_SECONDS = 900.0
# A call is between its end and its record, or between the gate and its start, for less than this.
_LOST_AFTER_SECONDS = 5.0
_SWEEP_SECONDS = 1.0


class Reservation(NamedTuple):
    """What one call has reserved.

    Attributes:
        accounts: Where.
        amount: Nanodollars in each of them; 0 for a call whose price is unknown.
        expires: Seconds of the monotonic clock.
    """

    accounts: Sequence[Account]
    amount: int
    expires: float


class Reservations:
    """The reservations of one process. Its owner holds the lock of the accounts around every call that changes them.

    The entries decide: an exception between two steps, such as an interrupt, makes the accounts' sums follow them.

    Args:
        open_run: Returns the open run with the integer of a run id; None if there is none.
    """

    def __init__(self, open_run: Callable[[int], object | None]) -> None:
        self._open_run = open_run
        self._entries: dict[int, Reservation] = {}
        # Not open when looked at, since when in seconds of the monotonic clock.
        self._missing: dict[int, float] = {}
        self._swept_at = 0.0
        # Returns the reservation of a call by the integer of its run id; bound once, since every call needs it.
        self.get = self._entries.get

    def take(self, run_id: int, accounts: Sequence[Account], amount: int, now: float) -> None:
        """Reserve an amount in each account.

        Args:
            run_id: The call's, as an integer.
            accounts: The accounts.
            amount: Nanodollars.
            now: Seconds of the monotonic clock.
        """
        try:
            self._entries[run_id] = Reservation(accounts, amount, now + _MAX_AGE_SECONDS)
            for account in accounts:
                account.reserved += amount
                account.open_calls += 1
        except BaseException:
            self._entries.pop(run_id, None)
            self._add_up(accounts)
            raise

    def release(self, run_id: int) -> None:
        """Release what a call has reserved, if anything."""
        entry = self._entries.get(run_id)
        if entry is None:
            return
        accounts, amount, _ = entry
        try:
            for account in accounts:
                account.reserved -= amount
                account.open_calls -= 1
            del self._entries[run_id]
        except BaseException:
            self._entries.pop(run_id, None)
            self._add_up(accounts)
            raise

    def release_lost(self) -> None:
        """Release what calls reserved that were never sent, or whose end was lost; at most once a second.

        Called when all calls that have ended are settled. Still, a run that has just ended or is about to start is not
        open, so a call is lost only when its run was not open for some seconds.
        """
        now = time.monotonic()
        if now < self._swept_at + _SWEEP_SECONDS:
            return
        self._swept_at = now
        missing: dict[int, float] = {}
        for run_id, entry in list(self._entries.items()):  # a copy: a garbage collection can settle a call meanwhile
            is_lost = now >= entry.expires
            if self._open_run(run_id) is None:
                missing[run_id] = since = self._missing.get(run_id, now)
                is_lost = is_lost or now - since >= _LOST_AFTER_SECONDS
            if is_lost:
                self.release(run_id)
        self._missing = missing

    def clear(self) -> None:
        """Forget all calls, as in a forked child: they stay the parent's."""
        for entry in self._entries.values():
            for account in entry.accounts:
                account.reserved = account.open_calls = 0
        self._entries.clear()
        self._missing.clear()

    def _add_up(self, accounts: Sequence[Account]) -> None:
        """Work out the sums of these accounts from the entries."""
        for account in accounts:
            account.reserved = account.open_calls = 0
        for entry in self._entries.values():
            for account in entry.accounts:
                if account in accounts:
                    account.reserved += entry.amount
                    account.open_calls += 1
