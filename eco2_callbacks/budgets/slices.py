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
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from datetime import datetime, timedelta
from uuid import uuid4

from eco2_callbacks import forks
from eco2_callbacks.budgets.accounts import Account, AccountTable
from eco2_callbacks.budgets.settings import Budgets
from eco2_callbacks.budgets.stores import BudgetStore, Lease, LeaseRequest, StoreError
from eco2_callbacks.sinks import BatchWorker

__all__ = ["SliceLeaser"]

_logger = logging.getLogger(__name__)
# A process syncs its slices this often while it uses them; a slice not used for so long goes back.
_SYNC_SECONDS = 0.5
_IDLE_SECONDS = 1.0
# An account without open calls is watched this long, for a raise of its limit.
_WATCH_SECONDS = 10.0
_QUIET_SECONDS = 60.0
_MAX_BATCH = 200
_MAX_JOBS = 1000
_NEVER = -(2**63)
# An account is kept beyond its window, for late reports.
_KEEP = timedelta(days=2)


class SliceLeaser(forks.ForkAware):
    """Keeps the slices of one process.

    Args:
        store: The store.
        table: The process's accounts.
        lock: Held around every use of the table.
        budgets: The settings.
        now: As the handler's.
        on_failure: Called for each attempt in which the store could not be used.
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
        self._jobs: list[Callable[[BudgetStore], None]] = []

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
                account.refill_below = _NEVER  # until the store has answered
                self.wake()

    def restore(self, account: Account, spent: Callable[[], Sequence[tuple[int, int]]]) -> None:
        """Have the store take what was spent, by bucket, if it does not know the account; before its next report."""

        def restore(store: BudgetStore) -> None:
            request = self._describe(account)
            if not store.knows(request):
                # Nothing too: no other process shall restore what this one spends from now on.
                store.restore(request, spent())

        self._jobs.append(restore)
        self.wake()

    def send_once(self, account: Account, event: str, send: Callable[[], None]) -> None:
        """Send an event from the thread, unless another process has sent it."""

        def claim_and_send(store: BudgetStore) -> None:
            if store.claim(self._describe(account), event):
                send()

        self._jobs.append(claim_and_send)
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
        self._worker.reset()
        self._reset()

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
            self._table.roll(self._now())
            waiting, self._waiting = self._waiting, []
            jobs, self._jobs = self._jobs, []
            needs: dict[Account, int] = {}
            for account, amount, _ in waiting:
                needs[account] = max(needs.get(account, 0), amount)
            watched = [account for account in self._table if account.is_shared and self._is_watched(account)]
            accounts = list(dict.fromkeys([*needs, *watched]))
            requests = [self._request(account, needs.get(account, 0), is_last=is_last) for account in accounts]
        try:
            while jobs:
                jobs[0](self._store)
                del jobs[0]
            for first in range(0, len(accounts), _MAX_BATCH):
                batch = requests[first : first + _MAX_BATCH]
                leases = self._store.lease(self._owner, batch, self._budgets.lease_seconds)
                leases = [
                    self._restored(account, request, lease)
                    for account, request, lease in zip(accounts[first:], batch, leases, strict=False)
                ]
                with self._lock:
                    for account, lease in zip(accounts[first:], leases, strict=False):
                        _apply(account, lease, self._slice(account))
        except Exception as error:
            for _, _, future in waiting:
                if future.set_running_or_notify_cancel():
                    future.set_exception(error)
            with self._lock:
                self._jobs = [*jobs, *self._jobs][:_MAX_JOBS]
            raise
        for _, _, future in waiting:
            if future.set_running_or_notify_cancel():
                future.set_result(None)
        self._on_synced(accounts)

    def _restored(self, account: Account, request: LeaseRequest, lease: Lease) -> Lease:
        """Give the store back what it has lost of an account, and return the lease after that."""
        with self._lock:
            known = {bucket: amount for bucket, amount in account.buckets.items() if bucket >= request.oldest}
        if not _has_lost(account.generation, known, request, lease):
            return lease
        if self._store.add_lost(request, account.generation, known):
            _logger.error(
                "The store of the budgets has lost what was spent of %r; this process has restored what it knew.",
                request.rule,
            )
        # The same report again, which counts once: its slice must fit what is restored.
        (restored,) = self._store.lease(self._owner, [request], self._budgets.lease_seconds)
        return restored

    def _request(self, account: Account, amount: int, *, is_last: bool = False) -> LeaseRequest:
        """Return the report of an account; what was sent and not acknowledged is sent again as it was."""
        if not account.sent:
            account.sequence += 1
            account.sent, account.unreported = account.unreported, 0
        used, slice_amount = account.reserved, self._slice(account)
        is_used = time.monotonic() - account.touched < _IDLE_SECONDS
        want = used + (max(amount, slice_amount) if amount or (is_used and not account.is_pressed) else 0)
        # No call may reserve what is given back now, or could be. The store may take back all that is not in use from a
        # process whose need it cannot meet.
        account.held = min(account.held, account.sent + (used if amount else want))
        return self._describe(account)._replace(
            spent=account.sent,
            sequence=account.sequence,
            want=0 if is_last else want,
            need=0 if is_last else used + amount,
            keep=0 if is_last else used,
        )

    def _describe(self, account: Account) -> LeaseRequest:
        """Return a request that names an account and asks for nothing."""
        period = account.period
        end = period.end or self._now()
        if account.rule.span.kind == "rolling":
            end += timedelta(seconds=account.rule.span.seconds)
        return LeaseRequest(
            account=account.key,
            rule=account.rule.name,
            scope=account.scope,
            limit=account.rule.limit_nano,
            bucket=period.bucket,
            oldest=period.oldest,
            spent=0,
            sequence=0,
            want=0,
            need=0,
            keep=0,
            keep_until=int((end + _KEEP).timestamp()),
        )

    def _slice(self, account: Account) -> int:
        return max(int(account.limit * self._budgets.slice_share), account.latest)

    def _fail(self, error: Exception) -> None:
        self.is_down = True
        self._on_failure()
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            policy = "pass and are reported later" if self._budgets.store_unreachable == "open" else "are refused"
            _logger.error(
                "The store of the budgets cannot be used (%s); calls beyond the slices that this process holds %s. "
                "Start the store or correct its address. For %.0f seconds further failures are counted only, in "
                'eco2_callbacks_errors_total{callback="budget_store"}.',
                error,
                policy,
                _QUIET_SECONDS,
            )


def _ignore() -> None:
    """Do nothing: who asks is answered at once."""


def _has_lost(generation: str, known: Mapping[int, int], request: LeaseRequest, lease: Lease) -> bool:
    """Return whether a store lacks what it once had: within a bucket nothing is ever taken off."""
    if not generation:
        return False
    if generation != lease.generation:
        return bool(known)
    expected = {**known, request.bucket: known.get(request.bucket, 0) + request.spent}
    return any(lease.buckets.get(bucket, 0) < amount for bucket, amount in expected.items())


def _apply(account: Account, lease: Lease, slice_amount: int) -> None:
    account.sent = 0
    account.held = lease.held
    account.settled = lease.settled + account.unreported
    account.buckets = dict(lease.buckets)
    account.generation = lease.generation
    if lease.limit != account.limit:
        account.set_limit(lease.limit)
    account.is_pressed = lease.is_pressed
    account.is_known = True
    has_room = lease.limit > lease.settled + lease.others + lease.held
    account.refill_below = slice_amount // 4 if has_room else _NEVER
