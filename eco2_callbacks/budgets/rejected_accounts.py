"""RejectedAccounts: accounts that the store cannot keep, set aside so that they hold no other account back."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.stores import AccountRejectedError
from eco2_callbacks.log_once import is_first

__all__ = ["RejectedAccounts"]

_logger = logging.getLogger(__name__)
# Without a call that needs it, such an account is tried again after this time.
_RETRY_SECONDS = 60.0


class RejectedAccounts:
    """The accounts that are set aside.

    Args:
        on_failure: Called for each rejection.
        policy: What becomes of their calls, for the log.
    """

    def __init__(self, on_failure: Callable[[], None], policy: str) -> None:
        self._on_failure = on_failure
        self._policy = policy
        self._retry_at: dict[str, float] = {}
        self._errors: dict[str, AccountRejectedError] = {}

    def begin(self, accounts: Iterable[Account]) -> None:
        """Begin a sync: forget its predecessor's errors, and accounts that are no longer in use."""
        self._errors = {}
        if self._retry_at:
            keys = {account.key for account in accounts}
            self._retry_at = {key: at for key, at in self._retry_at.items() if key in keys}

    def add(self, account: Account, error: AccountRejectedError) -> None:
        """Set an account aside; it is counted, and logged once for each budget."""
        self._errors[account.key] = error
        self._retry_at[account.key] = time.monotonic() + _RETRY_SECONDS
        self._on_failure()
        if is_first("budgets", "rejected", account.rule.name):
            _logger.error(
                "The store of the budgets cannot keep an account of %r (%s); its calls beyond what this process holds "
                "%s. All other accounts go on. Look at what the store has under its name. Further ones of this "
                'budget are only counted, in eco2_callbacks_errors_total{callback="budget_store"}.',
                account.rule.name,
                error,
                self._policy,
            )

    def remove(self, account: Account) -> None:
        """Treat an account like any other: the store has it."""
        if self._retry_at:
            self._retry_at.pop(account.key, None)

    def is_waiting(self, account: Account) -> bool:
        """Return whether an account is not to be tried yet."""
        return bool(self._retry_at) and self._retry_at.get(account.key, 0.0) > time.monotonic()

    def error_of(self, account: Account) -> AccountRejectedError | None:
        """Return why this sync could not report an account; None if it could."""
        return self._errors.get(account.key)
