"""SliceLeaser: leases slices of shared budgets from a store, on a thread of its own.

So no call waits for the network while its slice lasts. The thread reports what was spent and renews the slices; it
gives back what a process does not use, or what another one lacks.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Mapping, Sequence, Set
from concurrent.futures import Future
from datetime import datetime
from uuid import uuid4

from eco2_callbacks import forks
from eco2_callbacks.budgets.accounts import Account, AccountTable
from eco2_callbacks.budgets.claimed_events import ClaimedEvents
from eco2_callbacks.budgets.lease_requests import NEVER, apply_lease, has_lost, make_request
from eco2_callbacks.budgets.rejected_accounts import RejectedAccounts
from eco2_callbacks.budgets.restorer import AccountRestorer
from eco2_callbacks.budgets.settings import Budgets
from eco2_callbacks.budgets.stores import AccountRejectedError, BudgetStore, Lease, LeaseRequest, StoreError
from eco2_callbacks.sinks import BatchWorker

__all__ = ["SliceLeaser"]

_logger = logging.getLogger(__name__)
# A process syncs its slices this often while it uses them.
_SYNC_SECONDS = 0.5
# An account without open calls is watched this long, for a raise of its limit.
_WATCH_SECONDS = 10.0
_QUIET_SECONDS = 60.0
_MAX_BATCH = 200


class SliceLeaser(forks.ForkAware):
    """Keeps the slices of one process.

    Args:
        store: The store.
        table: The process's accounts.
        lock: Held around every use of the table.
        budgets: The settings.
        now: As the handler's.
        on_failure: Called for each attempt in which the store could not be used, or could not keep an account.
        on_synced: Called after each report, without the lock, with the accounts.
    """

    def __init__(
        self,
        store: BudgetStore,
        table: AccountTable,
        lock: threading.RLock,
        *,
        budgets: Budgets,
        now: Callable[[], datetime],
        on_failure: Callable[[], None],
        on_synced: Callable[[Sequence[Account]], None],
    ) -> None:
        self._store = store
        self._table = table
        self._lock = lock
        self._budgets = budgets
        self._now = now
        self._on_failure = on_failure
        self._on_synced = on_synced
        self._quiet_until = 0.0
        self._policy = "pass and are reported later" if budgets.store_unreachable == "open" else "are refused"
        self._events = ClaimedEvents(on_failure)
        self._restorer = AccountRestorer(store, on_read=self._on_past_read, on_failure=on_failure)
        self._worker = BatchWorker(
            "eco2-budgets",
            on_failure=self._on_failure,
            on_dropped=_ignore,
            last=self._end,
            exit_seconds=self._budgets.wait_seconds + 1.0,
            rest_seconds=0.0,
            idle_seconds=_SYNC_SECONDS,
            on_idle=self._sync_if_watched,
        )
        self._reset()
        forks.register(self)

    def _reset(self) -> None:
        self._owner = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:12]}"
        self._is_scheduled = False
        self.is_down = False
        self._waiting: list[tuple[Account, int, Future[None]]] = []
        self._events.clear()
        self._rejected = RejectedAccounts(self._on_failure, self._policy)
        self._synced_at = 0.0

    # --- for callers that hold the lock ---

    def ask(self, account: Account, amount: int) -> Future[None]:
        """Return a future that is done after the next report, which asks for room for this amount."""
        future: Future[None] = Future()
        self._waiting.append((account, amount, future))
        if not self.wake():
            self._waiting.pop()
            future.set_exception(StoreError("this process ends"))
        return future

    def refill(self, accounts: Sequence[Account]) -> None:
        """Have slices renewed that are nearly used up."""
        for account in accounts:
            if account.is_shared and account.is_known and account.free() < account.refill_below:
                account.refill_below = NEVER  # until the store has answered
                self.wake()

    def restore(self, account: Account, spent: Callable[[], Sequence[tuple[int, int]]]) -> None:
        """Have the store take what was spent, by bucket, if it does not know the account; before its next report."""
        self._restorer.add(account, spent)
        self.wake()

    def send_once(
        self, account: Account, event: str, send: Callable[[], None], is_due: Callable[[], bool] | None = None
    ) -> None:
        """Send an event from the thread, unless another process sends it; ``is_due`` as ``ClaimedEvents.add``."""
        self._events.add(account, event, send, is_due)
        self.wake()

    def watch(self) -> None:
        """Have the thread sync soon, also if it has ended: a limit may have been raised meanwhile."""
        if time.monotonic() - self._synced_at >= _SYNC_SECONDS:
            self.wake()

    def wake(self) -> bool:
        """Have the thread sync now, and return whether it will; the first call starts it."""
        if self._is_scheduled:
            return True
        # Set before the thread can reset it, which it may do before this method returns.
        self._is_scheduled = True
        is_accepted = self._worker.submit(self._sync_now)
        if not is_accepted:
            self._is_scheduled = False
        return is_accepted

    # --- for anyone ---

    def close(self) -> None:
        """Report what was spent, give back all slices, and end the thread."""
        self._worker.close(self._budgets.wait_seconds + 1.0)

    def begin_stop(self) -> None:
        """Have the thread end by itself: the budgets are no longer used."""
        self._worker.begin_shutdown()

    def use_lock(self, lock: threading.RLock) -> None:
        """Replace the lock, as in a forked child."""
        self._lock = lock

    def after_fork_in_child(self) -> None:
        """Start without a slice: the parent's stays the parent's."""
        for _, _, future in self._waiting:
            future.cancel()
        self._restorer.after_fork_in_child()
        self._store.after_fork_in_child()
        self._reset()

    def _on_past_read(self) -> None:
        with self._lock:
            self.wake()

    # --- on the thread ---

    def _sync_now(self) -> None:
        self._is_scheduled = False
        self._sync()

    def _sync_if_watched(self) -> bool:
        """Sync while slices are in use or the store is away, and return whether they are."""
        with self._lock:
            is_busy = any(account.is_shared and self._is_watched(account) for account in self._table)
        if is_busy or self.is_down:
            self._sync()
        return is_busy or self.is_down

    def _end(self) -> None:
        self._sync(is_last=True)
        self._restorer.close()
        self._store.close()

    def _is_watched(self, account: Account) -> bool:
        return not account.is_idle() or time.monotonic() - account.touched < _WATCH_SECONDS

    def _sync(self, *, is_last: bool = False) -> None:
        try:
            self._sync_accounts(is_last=is_last)
        except Exception as error:
            self._fail(error)
        else:
            if self.is_down:
                self.is_down = False
                _logger.warning("The store of the budgets can be used again.")

    def _sync_accounts(self, *, is_last: bool) -> None:
        with self._lock:
            now = self._now()
            self._synced_at = time.monotonic()
            self._table.roll(now)
            self._restorer.forget(now)
            self._rejected.begin(self._table)
            self._events.limit()
            waiting, self._waiting = self._waiting, []
            needs: dict[Account, int] = {}
            for account, amount, _ in waiting:
                needs[account] = max(needs.get(account, 0), amount)
            events = len(self._events)
            watched = [account for account in self._table if account.is_shared and self._is_watched(account)]
            watched = [account for account in watched if is_last or not self._rejected.is_waiting(account)]
            # What decides on an event must be as fresh as in the store.
            accounts = list(dict.fromkeys([*needs, *self._events.checked_accounts(), *watched]))
        try:
            unread = self._report(accounts, needs, now, is_last=is_last)
            self._events.send(events, self._store, now, self._rejected)
        except Exception as error:
            for _, _, future in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            raise
        self._answer(waiting, unread)
        self._on_synced([account for account in accounts if account.key not in unread])

    def _answer(self, waiting: Sequence[tuple[Account, int, Future[None]]], unread: Set[str]) -> None:
        """Let the calls go on whose accounts were reported."""
        with self._lock:
            self._waiting[:0] = [each for each in waiting if each[0].key in unread and not each[2].cancelled()]
        for account, _, future in waiting:
            if account.key not in unread and future.set_running_or_notify_cancel():
                if (rejection := self._rejected.error_of(account)) is None:
                    future.set_result(None)
                else:
                    future.set_exception(rejection)

    def _report(
        self, accounts: Sequence[Account], needs: Mapping[Account, int], now: datetime, *, is_last: bool
    ) -> Set[str]:
        """Report accounts; return the keys of those that wait until the ledger was read."""
        unread = self._restorer.restore(now, self._rejected)
        self._report_ready([each for each in accounts if each.key not in unread], needs, now, is_last=is_last)
        if not is_last:
            return unread
        late = [each for each in accounts if each.key in unread and (each.unreported or each.sent)]
        if late:
            self._restorer.finish(self._budgets.wait_seconds)
            self._restorer.restore(now, self._rejected)
            # Whether their past was read or not: what they have spent here must not be lost.
            self._report_ready(late, needs, now, is_last=True)
        return frozenset()

    def _report_ready(
        self, accounts: Sequence[Account], needs: Mapping[Account, int], now: datetime, *, is_last: bool
    ) -> None:
        with self._lock:
            requests = [
                make_request(account, needs.get(account, 0), self._slice(account), now, is_last=is_last)
                for account in accounts
            ]
        for first in range(0, len(accounts), _MAX_BATCH):
            last = first + _MAX_BATCH
            self._sync_batch(accounts[first:last], requests[first:last])

    def _sync_batch(self, accounts: Sequence[Account], requests: Sequence[LeaseRequest]) -> None:
        """Report accounts. Of a batch that the store rejects, all are reported but those that it cannot keep."""
        try:
            leases = self._store.lease(self._owner, requests, self._budgets.lease_seconds)
            leases = [self._restored(*each) for each in zip(accounts, requests, leases, strict=True)]
        except AccountRejectedError as error:
            if len(accounts) == 1:
                self._rejected.add(accounts[0], error)
                return
            # A report that has counted already does not count again.
            middle = len(accounts) // 2
            self._sync_batch(accounts[:middle], requests[:middle])
            self._sync_batch(accounts[middle:], requests[middle:])
            return
        with self._lock:
            for account, lease in zip(accounts, leases, strict=True):
                apply_lease(account, lease, self._slice(account))
                self._rejected.remove(account)

    def _restored(self, account: Account, request: LeaseRequest, lease: Lease) -> Lease:
        """Give the store back what it has lost of an account, and return the lease after that."""
        with self._lock:
            known = {bucket: amount for bucket, amount in account.buckets.items() if bucket >= request.oldest}
        if not has_lost(account.generation, known, request, lease):
            return lease
        if self._store.add_lost(request, account.generation, known):
            _logger.error(
                "The store of the budgets has lost what was spent of %r; this process has restored what it knew.",
                request.rule,
            )
        # The same report again, which counts once: its slice must fit what is restored.
        (restored,) = self._store.lease(self._owner, [request], self._budgets.lease_seconds)
        return restored

    def _slice(self, account: Account) -> int:
        return max(int(account.limit * self._budgets.slice_share), account.latest)

    def _fail(self, error: Exception) -> None:
        self.is_down = True
        self._on_failure()
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _logger.error(
                "The store of the budgets cannot be used (%s); calls beyond the slices that this process holds %s. "
                "Start the store or correct its address. For %.0f seconds further failures are counted only, in "
                'eco2_callbacks_errors_total{callback="budget_store"}.',
                error,
                self._policy,
                _QUIET_SECONDS,
            )


def _ignore() -> None:
    """Do nothing: who asks is answered at once."""
