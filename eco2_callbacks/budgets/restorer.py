"""AccountRestorer: gives the store what a ledger holds of accounts that it does not know."""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Sequence
from datetime import datetime

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.lease_requests import describe
from eco2_callbacks.budgets.rejected_accounts import RejectedAccounts
from eco2_callbacks.budgets.stores import AccountRejectedError, BudgetStore
from eco2_callbacks.log_once import is_first
from eco2_callbacks.sinks import BatchWorker

__all__ = ["AccountRestorer"]

_logger = logging.getLogger(__name__)
_IDLE_SECONDS = 1.0


class _Restore:
    """One account that the store may not know.

    Attributes:
        account: The account.
        read: Returns what was spent, by bucket.
        past: What it returned; None before.
        is_queued: Whether ``past`` is being read, or will be.
    """

    __slots__ = ("account", "is_queued", "past", "read")

    def __init__(self, account: Account, read: Callable[[], Sequence[tuple[int, int]]]) -> None:
        self.account = account
        self.read = read
        self.past: Sequence[tuple[int, int]] | None = None
        self.is_queued = False


class AccountRestorer:
    """Restores accounts. A thread of its own reads the ledger: however slow it is, all other accounts go on.

    Args:
        store: The store.
        on_read: Called on that thread each time something was read.
        on_failure: Called for each account whose past could not be read.
    """

    def __init__(self, store: BudgetStore, *, on_read: Callable[[], None], on_failure: Callable[[], None]) -> None:
        self._store = store
        self._on_read = on_read
        self._on_failure = on_failure
        # By the account's key. A forked child has them too: it may be the first to report the account.
        self._restores: dict[str, _Restore] = {}
        self._reader = BatchWorker(
            "eco2-budgets-past",
            on_failure=on_failure,
            on_dropped=_ignore,
            exit_seconds=0.0,  # the leaser waits for what it needs
            rest_seconds=0.0,
            idle_seconds=_IDLE_SECONDS,
        )
        self._reset()

    def _reset(self) -> None:
        self._changed = threading.Condition()
        self._queue: deque[_Restore] = deque()
        self._is_reading = False

    def add(self, account: Account, read: Callable[[], Sequence[tuple[int, int]]]) -> None:
        """Have the store take what was spent, by bucket, if it does not know the account; before its next report."""
        self._restores[account.key] = _Restore(account, read)

    def forget(self, now: datetime) -> None:
        """Forget accounts that are over and have spent nothing here."""
        for key, restore in list(self._restores.items()):
            account, end = restore.account, restore.account.period.end
            if account.rule.span.kind != "rolling" and account.is_idle() and end is not None and end <= now:
                del self._restores[key]

    def restore(self, now: datetime, rejected: RejectedAccounts) -> set[str]:
        """Restore the accounts whose past was read; return the keys of those that still wait for theirs.

        Raises:
            StoreError: If the store cannot be reached.
        """
        unread = set()
        for key, restore in list(self._restores.items()):
            if restore.past is None and restore.is_queued:
                unread.add(key)
                continue
            request = describe(restore.account, now)
            try:
                if restore.past is not None:
                    # Nothing too: no other process shall restore what this one spends from now on.
                    self._store.restore(request, restore.past)
                elif not self._store.knows(request):
                    restore.is_queued = True
                    with self._changed:
                        self._queue.append(restore)
                    unread.add(key)
                    continue
            except AccountRejectedError as error:
                rejected.add(restore.account, error)
            if self._restores.get(key) is restore:
                del self._restores[key]
        with self._changed:
            if self._queue and not self._is_reading:
                # If no thread can start now, the next report tries again.
                self._is_reading = self._reader.submit(self._read)
        return unread

    def finish(self, timeout_seconds: float) -> None:
        """Wait until everything was read, or the time is over."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_reading, timeout_seconds)
            is_unread = bool(self._queue) and not self._is_reading
        if is_unread:  # no thread can start any longer: the process ends
            self._read()

    def close(self) -> None:
        """End the thread; what it reads at this moment is no longer needed."""
        with self._changed:
            self._queue.clear()
        self._reader.close(0.0)

    def after_fork_in_child(self) -> None:
        """Read anew what the parent's thread was reading."""
        for restore in self._restores.values():
            restore.is_queued = False
        self._reset()

    def _read(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._is_reading = False
                    self._changed.notify_all()
                    return
                restore = self._queue.popleft()
            try:
                restore.past = restore.read()
            except Exception:
                restore.past = ()
                self._on_failure()
                if is_first("budgets", "past"):
                    _logger.exception(
                        "The past of an account of %r could not be read; its window begins with this process. "
                        'Further failures are only counted, in eco2_callbacks_errors_total{callback="budget_store"}.',
                        restore.account.rule.name,
                    )
            self._on_read()


def _ignore() -> None:
    """Do nothing: what is dropped is submitted again."""
