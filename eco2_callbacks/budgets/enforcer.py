"""BudgetEnforcer: reserves the worst case of each call before it is sent, and settles its cost afterwards."""

from __future__ import annotations

import asyncio
import threading
import time
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from functools import partial
from typing import Any, NoReturn
from uuid import UUID

from eco2_callbacks import forks
from eco2_callbacks.budgets.accounts import Account, first_blocked
from eco2_callbacks.budgets.announcer import BudgetAnnouncer
from eco2_callbacks.budgets.callers import Caller
from eco2_callbacks.budgets.events import BudgetEvent, BudgetState, state_of
from eco2_callbacks.budgets.finder import AccountFinder
from eco2_callbacks.budgets.history import LedgerHistory
from eco2_callbacks.budgets.money import from_nano, to_nano
from eco2_callbacks.budgets.request_table import RequestTable
from eco2_callbacks.budgets.reservations import Reservations
from eco2_callbacks.budgets.rules import BudgetRule
from eco2_callbacks.budgets.settings import Budgets
from eco2_callbacks.budgets.slices import SliceLeaser
from eco2_callbacks.budgets.stores import BudgetStore
from eco2_callbacks.budgets.worst_case import PlannedCall, WorstCase
from eco2_callbacks.errors import BudgetExceeded, RefusalReason

__all__ = ["BudgetEnforcer"]

_POLL_SECONDS = 0.1
_MAX_REFUSED_RUNS = 10_000


class BudgetEnforcer(forks.ForkAware):
    """The budgets of one handler.

    Args:
        budgets: The settings.
        store: The store that processes share; None keeps budgets in this process.
        worst_case: Works out what a call can cost.
        now: As the handler's.
        on_event: Takes budget events.
        on_refused: Called with the rule's name for each refused call.
        on_failure: Called with the part of the package that failed.
        settle_waiting: Has calls recorded that have ended and wait for their record.
        open_run: Returns the open run with the integer of a run id; None if there is none.
    """

    def __init__(
        self,
        budgets: Budgets,
        *,
        store: BudgetStore | None,
        worst_case: WorstCase,
        now: Callable[[], datetime],
        on_event: Callable[[BudgetEvent], None],
        on_refused: Callable[[str], None],
        on_failure: Callable[[str], None],
        settle_waiting: Callable[[], None],
        open_run: Callable[[int], object | None],
    ) -> None:
        self._settle_waiting = settle_waiting
        self._budgets = budgets
        self._worst_case = worst_case
        self._now = now
        self._on_refused = on_refused
        self._max_reservation = None if budgets.max_reservation_usd is None else to_nano(budgets.max_reservation_usd)
        # Reentrant: a garbage collection can end an abandoned call while this thread holds the lock.
        self._lock = threading.RLock()
        self._announcer = BudgetAnnouncer(self._lock, now=now, on_event=on_event)
        self._finder = AccountFinder(budgets.rules, is_shared=store is not None, announcer=self._announcer, now=now)
        self._table = self._finder.table
        self._table.open_run = open_run
        self._reservations = Reservations(open_run)
        # Returns the reservation of a call that was let pass; bound once, since the gate asks twice for every call.
        self.reservation_of = self._reservations.get
        self._stops_after_refusal = budgets.after_refusal == "refuse"
        # Account and request, where nothing more may be sent after a refusal.
        self._refused_runs: RequestTable[tuple[str, UUID], UUID] = RequestTable(
            _MAX_REFUSED_RUNS, lambda trace_id: open_run(trace_id.int) is not None
        )
        self._leaser: SliceLeaser | None = None
        if store is not None:
            self._leaser = SliceLeaser(
                store,
                self._table,
                self._lock,
                budgets=budgets,
                now=now,
                on_failure=partial(on_failure, "budget_store"),
                on_synced=self._announcer.check,
            )
            self._announcer.leaser = self._finder.leaser = self._leaser
            weakref.finalize(self, self._leaser.begin_stop).atexit = False
        forks.register(self)

    @property
    def rules(self) -> Sequence[BudgetRule]:
        """The rules of the settings."""
        return self._budgets.rules

    def needs_settling(self, run_id: UUID, call: PlannedCall, usage: Mapping[str, Any]) -> bool:
        """Return whether a call that ended must be settled at once.

        It must if it counts in a shared budget, or in one that has reached half of its first level, or if its tokens
        may cost more than is reserved for it: until then the next call would not know.

        Args:
            run_id: The call's.
            call: The call as it was sent, with the model that answered.
            usage: LangChain's usage of its answer.
        """
        reservation = self._reservations.get(run_id.int)
        if reservation is None or not reservation.accounts:
            return False
        for account in reservation.accounts:
            if account.is_shared or 2 * (account.settled + account.reserved) >= account.lowest:
                return True
        return not self._worst_case.covers(reservation.amount, call, usage)

    # --- before a call ---

    def admit(self, run_id: UUID, caller: Caller, call: PlannedCall) -> None:
        """Reserve what a call can cost; a call that needs the store waits for it, with a time limit.

        Raises:
            BudgetExceeded: If a budget refuses the call.
        """
        try:
            if self._admit_at_once(run_id, caller, call):
                return
            for waiting in self._attempts(run_id, caller, call):
                if isinstance(waiting, float):
                    time.sleep(waiting)
                else:
                    with suppress(Exception):
                        waiting.result(self._budgets.wait_seconds)
        except BudgetExceeded as error:
            self._report_refusal(error)
            raise

    async def admit_off_loop(self, run_id: UUID, caller: Caller, call: PlannedCall) -> None:
        """Do the same on an event loop, which goes on while the call waits.

        Raises:
            BudgetExceeded: If a budget refuses the call.
        """
        try:
            if self._admit_at_once(run_id, caller, call):
                return
            for waiting in self._attempts(run_id, caller, call):
                if isinstance(waiting, float):
                    await asyncio.sleep(waiting)
                else:
                    with suppress(Exception):
                        await asyncio.wait_for(asyncio.wrap_future(waiting), self._budgets.wait_seconds)
        except BudgetExceeded as error:
            self._report_refusal(error)
            raise

    def _admit_at_once(self, run_id: UUID, caller: Caller, call: PlannedCall) -> bool:
        """Return whether the call could be decided on without the store, as nearly every call can."""
        accounts = self._accounts_of(caller)
        amount = self._amount(accounts, caller, call) if accounts else 0
        with self._lock:
            if self._try(run_id, caller, accounts, amount) is None:
                return True
        # Calls that have ended may wait for their record. Without the lock: whoever records them needs it.
        self._settle_waiting()
        return False

    def _attempts(self, run_id: UUID, caller: Caller, call: PlannedCall) -> Iterator[Future[None] | float]:
        """Reserve, or yield a future or seconds to wait for and try again; raise where the call is refused."""
        with self._lock:
            accounts = self._accounts_of(caller)
            # Until the call has reserved, its accounts stay in the table, whose accounts are reported.
            for account in accounts:
                account.waiting_calls += 1
        try:
            yield from self._waits(run_id, caller, call, accounts)
        finally:
            with self._lock:
                for account in accounts:
                    account.waiting_calls -= 1

    def _waits(
        self, run_id: UUID, caller: Caller, call: PlannedCall, accounts: Sequence[Account]
    ) -> Iterator[Future[None] | float]:
        if not accounts:
            return
        amount = self._amount(accounts, caller, call)
        give_up_at: float | None = None
        while (future := self._reserve_or_ask(run_id, caller, accounts, amount, give_up_at)) is not None:
            if give_up_at is None:
                give_up_at = time.monotonic() + self._budgets.wait_seconds
            yield future
            if not future.done() or future.cancelled() or future.exception() is not None:
                future.cancel()  # nobody waits for it any longer
                self._without_store(run_id, caller, accounts, amount)
                return
            if first_blocked(accounts, amount) is not None:
                # Others hold the rest. They give back what they do not use within half a second.
                yield min(_POLL_SECONDS, max(0.0, give_up_at - time.monotonic()))

    def _reserve_or_ask(
        self, run_id: UUID, caller: Caller, accounts: Sequence[Account], amount: int, give_up_at: float | None
    ) -> Future[None] | None:
        """Reserve and return None, or return what to wait for; raise where the call is refused."""
        with self._lock:
            blocked = self._reserve(run_id, caller, accounts, amount)
            if blocked is None:
                return None
            leaser = self._leaser
            if (
                leaser is None
                or not blocked.is_shared
                or _is_used_up(blocked, amount)
                or (give_up_at is not None and time.monotonic() >= give_up_at)
            ):
                if leaser is not None and blocked.is_shared:
                    leaser.watch()
                self._refuse(blocked, caller, amount)
            elif leaser.is_down:
                self._without_store(run_id, caller, accounts, amount)
            else:
                return leaser.ask(blocked, amount)
        return None

    def _amount(self, accounts: Sequence[Account], caller: Caller, call: PlannedCall) -> int:
        worst = self._worst_case.nano(call)
        if worst is None:
            strict = next((account for account in accounts if account.rule.action == "refuse"), None)
            if strict is not None and self._budgets.unpriced_model == "refuse":
                self._refuse(strict, caller, None, "unpriced_model")
            return 0
        return worst if self._max_reservation is None else min(worst, self._max_reservation)

    def _try(self, run_id: UUID, caller: Caller, accounts: Sequence[Account], amount: int) -> Account | None:
        """Reserve in all accounts, or in none and return the one without room."""
        now = time.monotonic()
        if self._stops_after_refusal:
            for account in accounts:
                if (account.key, caller.trace_id) in self._refused_runs:
                    self._refuse(account, caller, amount, "after_refusal")
        if self._leaser is not None:
            for account in accounts:
                account.touched = now
                account.latest = amount
        blocked = first_blocked(accounts, amount)
        if blocked is None:
            self._reservations.take(run_id.int, accounts, amount, now)
            if self._leaser is not None:
                self._leaser.refill(accounts)
        return blocked

    def _reserve(self, run_id: UUID, caller: Caller, accounts: Sequence[Account], amount: int) -> Account | None:
        """Do the same, and before it gives up release what lost calls have reserved."""
        blocked = self._try(run_id, caller, accounts, amount)
        if blocked is not None:
            self._reservations.release_lost()
            blocked = self._try(run_id, caller, accounts, amount)
        return blocked

    def _without_store(self, run_id: UUID, caller: Caller, accounts: Sequence[Account], amount: int) -> None:
        """Decide by the policy while the store cannot be reached. What is known to be used up stays so."""
        with self._lock:
            blocked = self._reserve(run_id, caller, accounts, amount)
            if blocked is None:
                return
            for account in accounts:
                if account.rule.action == "refuse" and amount > account.free():
                    if not account.is_shared or _is_used_up(account, amount):
                        self._refuse(account, caller, amount)
                    if self._budgets.store_unreachable == "closed":
                        self._refuse(account, caller, amount, "store_unreachable")
            self._reservations.take(run_id.int, accounts, amount, time.monotonic())

    def _refuse(
        self, account: Account, caller: Caller, amount: int | None, reason: RefusalReason = "limit"
    ) -> NoReturn:
        with self._lock:
            if self._stops_after_refusal:
                self._refused_runs.add((account.key, caller.trace_id), caller.trace_id)
            if reason == "limit":
                self._announcer.exceeded(account)
            state = state_of(account)
        raise BudgetExceeded(
            state.budget,
            scope=state.scope,
            spent_usd=state.spent_usd,
            limit_usd=state.limit_usd,
            call_usd=None if amount is None else from_nano(amount),
            until=state.until,
            reason=reason,
        )

    def _report_refusal(self, error: BudgetExceeded) -> None:
        """Count a refusal and send its event. Without the lock: a sink may use a model, and a count records calls."""
        self._on_refused(error.budget)
        self._announcer.send_waiting()

    # --- after a call ---

    def settle(self, run_id: UUID, caller: Callable[[], Caller], cost_usd: Decimal | None) -> None:
        """Replace a call's reservation by its cost; None is an unknown cost and counts nothing.

        A call that no gate has seen, or that no budget matched, counts in the budgets of its caller.
        """
        with self._lock:
            reservation = self._reservations.get(run_id.int)
            accounts = reservation.accounts if reservation is not None else ()
            if not accounts:
                accounts = self._accounts_of(caller())
            if cost_usd:
                # Before the release: an interrupt between them loses no cost.
                cost = to_nano(cost_usd)
                for account in accounts:
                    account.spend(cost)
            if reservation is not None:
                self._reservations.release(run_id.int)
            if not accounts:
                return
            if self._leaser is not None:
                self._leaser.refill(accounts)
        self._announcer.check(accounts)

    def release(self, run_id: UUID) -> None:
        """Release the reservation of a call that was not sent."""
        with self._lock:
            self._reservations.release(run_id.int)

    def _accounts_of(self, caller: Caller) -> list[Account]:
        with self._lock:
            return self._finder.accounts_of(caller)

    # --- for reports ---

    def states(self, caller: Caller) -> list[BudgetState]:
        """Return the budgets in which a caller's calls count."""
        self._settle_waiting()
        with self._lock:
            return [state_of(account) for account in self._accounts_of(caller)]

    def all_states(self) -> list[BudgetState]:
        """Return every budget in use, those of single runs excepted."""
        self._settle_waiting()
        with self._lock:
            now = self._now()
            self._reservations.release_lost()
            self._table.roll(now)
            for rule in self._budgets.rules:
                if not rule.per and rule.span.kind != "run":
                    account = self._table.find(rule, "", now)
                    if not account.is_known and self._leaser is not None:
                        account.touched = time.monotonic()
                        self._leaser.wake()
            states = [state_of(account) for account in self._table.current() if account.is_known]
        self._announcer.send_waiting()
        return states

    def prepare(self, caller: Caller) -> None:
        """Fetch the slices of a request's budgets in the background, so that its first call need not wait."""
        if self._leaser is None:
            return
        with self._lock:
            accounts = [account for account in self._accounts_of(caller) if account.is_shared]
            for account in accounts:
                account.touched = time.monotonic()
            if any(not account.held for account in accounts):
                self._leaser.wake()

    def since(self) -> datetime | None:
        """Return the earliest time whose calls still count in a budget."""
        return self._finder.since()

    def restore(self, spent: Iterable[tuple[Caller, datetime, Decimal]]) -> None:
        """Add what was spent before this process: who made each call, when it began, and its cost."""
        with self._lock:
            self._finder.restore(
                past for caller, at, cost_usd in spent for past in self._finder.past_spending(caller, at, cost_usd)
            )

    def restore_from(self, history: LedgerHistory) -> None:
        """Add what a ledger knows: at once, or to a shared account when it is first used and its store has lost it."""
        with self._lock:
            if self._leaser is None:
                self._finder.restore(history.read(self._now()))
            else:
                self._finder.history = history

    def close(self) -> None:
        """Report what was spent and give back all slices."""
        if self._leaser is not None:
            self._leaser.close()

    def flush(self, timeout_seconds: float) -> bool:
        """Report what was spent so far; return whether the store has it."""
        if self._leaser is None:
            return True
        with self._lock:
            futures = [self._leaser.ask(account, 0) for account in self._table if account.is_shared]
        until = time.monotonic() + timeout_seconds
        try:
            for future in futures:
                future.result(max(0.0, until - time.monotonic()))
        except Exception:
            for future in futures:
                future.cancel()
            return False
        return True

    def before_fork(self) -> None:
        """Wait until no other thread changes an account."""
        self._lock.acquire()

    def after_fork_in_parent(self) -> None:
        """Let other threads in again."""
        self._lock.release()

    def after_fork_in_child(self) -> None:
        """Start without open calls; what was spent stays known, and slices stay the parent's."""
        self._lock = self._announcer.lock = threading.RLock()
        self._reservations.clear()
        for account in self._table:
            # The parent reports it.
            account.settled -= account.unreported + account.sent
            account.held = account.unreported = account.sent = account.waiting_calls = 0
        if self._leaser is not None:
            self._leaser.use_lock(self._lock)


def _is_used_up(account: Account, amount: int) -> bool:
    """Return whether not even the slices of all processes would leave room."""
    return account.is_known and account.settled + account.reserved + amount > account.limit
