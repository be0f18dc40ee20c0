"""What the ``eco2 budget`` command does: reads the state of shared budgets, and grants temporary raises."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.events import BudgetState, state_of
from eco2_callbacks.budgets.history import LedgerHistory
from eco2_callbacks.budgets.money import to_nano
from eco2_callbacks.budgets.rules import BudgetRule, read_usd
from eco2_callbacks.budgets.settings import Budgets
from eco2_callbacks.budgets.stores import BudgetStore, Raise, StoreError, open_store
from eco2_callbacks.errors import BudgetStoreError, ConfigError

if TYPE_CHECKING:
    from eco2_callbacks.ledger import Backend

__all__ = ["grant_raise", "read_ledger_states", "read_states"]

_MAX_RAISE = timedelta(days=366)


def read_states(budgets: Budgets, *, now: datetime | None = None) -> list[BudgetState]:
    """Return the state of every shared budget in its current window, in the order of the rules.

    Of a rule with ``per`` every scope is returned that has spent or holds something, the highest spender first. Budgets
    of one run are left out: they live in their process alone. ``spent_usd`` includes what processes hold.

    Raises:
        ConfigError: If the budgets have no store.
        BudgetStoreError: If the store cannot be used.
    """
    now = datetime.now(UTC) if now is None else now
    store = _open(budgets)
    try:
        return [state for rule in budgets.rules if rule.span.kind != "run" for state in _states(store, rule, now)]
    except StoreError as error:
        raise BudgetStoreError(f"The store of the budgets cannot be used: {error}") from error
    finally:
        store.close()


def read_ledger_states(budgets: Budgets, ledger: Backend) -> list[BudgetState]:
    """Return the state of every budget as a ledger has it, in the form and order of ``read_states``.

    Reservations, temporary raises, and what is on its way to the ledger are not in it.

    Raises:
        LedgerError: If there is no ledger, or it cannot be read.
    """
    from eco2_callbacks.ledger import read_spent  # noqa: PLC0415  it brings SQLAlchemy

    now = datetime.now(UTC)
    history = LedgerHistory(partial(read_spent, ledger), budgets.rules, on_failure=_raise)
    accounts: dict[str, dict[str, Account]] = {rule.name: {} for rule in budgets.rules if rule.span.kind != "run"}
    for rule in budgets.rules:
        if rule.name in accounts and not rule.per:
            accounts[rule.name][""] = Account(rule, "", rule.span.period(now), is_shared=False)
    for rule, scope, bucket, nano in history.read(now):
        if scope not in accounts[rule.name]:
            accounts[rule.name][scope] = Account(rule, scope, rule.span.period(now), is_shared=False)
        accounts[rule.name][scope].restore([(bucket, nano)])
    return [
        state_of(account)
        for of_rule in accounts.values()
        for account in sorted(of_rule.values(), key=lambda account: account.settled, reverse=True)
    ]


def grant_raise(
    budgets: Budgets, name: str, usd: Decimal | str, duration: timedelta, *, now: datetime | None = None
) -> datetime:
    """Raise the limit of a rule for a time, for all its scopes; return until when.

    Processes that use the budget, or did ten seconds ago, see it within half a second. One that was idle for longer
    learns of it by its next call, which can still be refused; the calls after that see it.

    Raises:
        ConfigError: If there is no such rule or store, or the raise is none.
        BudgetStoreError: If the store cannot be used.
    """
    rule = next((rule for rule in budgets.rules if rule.name == name), None)
    if rule is None or rule.span.kind == "run":
        names = [rule.name for rule in budgets.rules if rule.span.kind != "run"]
        raise ConfigError(f"No budget that can be raised has the name {name!r}; the file has {names!r}.")
    amount = to_nano(read_usd(usd, "The raise is"))
    if not amount or not timedelta(0) < duration <= _MAX_RAISE:
        raise ConfigError(f"The raise is {usd} USD for {duration}, wanted more than 0 USD and at most 366 days.")
    until = (datetime.now(UTC) if now is None else now) + duration
    store = _open(budgets)
    try:
        store.add_raise(name, Raise(uuid4().hex, amount, int(until.timestamp())))
    except StoreError as error:
        raise BudgetStoreError(f"The store of the budgets cannot be used: {error}") from error
    finally:
        store.close()
    return until


def _raise(error: Exception) -> None:
    raise error


def _open(budgets: Budgets) -> BudgetStore:
    if budgets.store is None:
        raise ConfigError("The budgets have no store, so each process keeps its own; set store = 'redis://...'.")
    return open_store(budgets.store)


def _states(store: BudgetStore, rule: BudgetRule, now: datetime) -> list[BudgetState]:
    limit = rule.limit_nano + sum(granted.amount for granted in store.raises(rule.name))
    period = rule.span.period(now)
    readings = {reading.account: reading for reading in store.read(rule.name, period.oldest)}
    scopes = [""] if not rule.per else sorted({reading.scope for reading in readings.values()})
    accounts = []
    for scope in scopes:
        account = Account(rule, scope, period, is_shared=True)
        account.set_limit(limit)
        reading = readings.get(account.key)
        if reading is not None:
            account.settled, account.reserved = reading.settled, reading.leased
        if account.settled or account.reserved or not rule.per:
            accounts.append(account)
    accounts.sort(key=lambda account: account.settled, reverse=True)
    return [state_of(account) for account in accounts]
