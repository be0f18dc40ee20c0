"""Accounts that wait for a slow ledger: all others go on, and nothing that is spent meanwhile is lost."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetRule, Budgets, Eco2CallbackHandler
from eco2_callbacks.budgets import read_states
from eco2_callbacks.budgets.accounts import Account
from eco2_callbacks.budgets.history import LedgerHistory
from eco2_callbacks.budgets.lease_requests import describe
from eco2_callbacks.budgets.rejected_accounts import RejectedAccounts
from eco2_callbacks.budgets.restorer import AccountRestorer
from eco2_callbacks.budgets.stores import open_store
from tests.support.budget_process import MAX_WAIT_SECONDS, MODEL, BudgetProcess, wait_until
from tests.support.record_sink import exposed
from tests.support.redis_process import RedisProcess
from tests.support.spending_worker import CALL_USD, PROMPT

# A call reserves a little more than it costs, so that the last dollars of a limit stay.
LIMIT_USD = 4 * CALL_USD + Decimal("0.0001")
EACH = BudgetRule(name="each", limit_usd=LIMIT_USD, per="user_id", warn_at=())


def spent_of(url: str) -> dict[str, Decimal]:
    return {state.scope: state.spent_usd for state in read_states(Budgets(rules=[EACH], store=url))}


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return a ledger in which ann has made two calls."""
    path = tmp_path / "ledger.db"
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=path, budgets={}) as handler:
        for _ in range(2):
            MODEL.invoke(PROMPT, {"callbacks": handler.callbacks, "metadata": {"user_id": "ann"}})
    return path


@pytest.fixture
def start(store_url: str, ledger: Path) -> Iterator[Callable[..., BudgetProcess]]:
    with ExitStack() as stack:

        def start(**settings: Any) -> BudgetProcess:
            process = BudgetProcess(store_url, EACH, options={"ledger": ledger}, **settings)
            stack.callback(process.handler.close)
            return process

        yield start


class SlowLedger:
    """Lets every query about one scope wait until it may answer; when the test is over it answers nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.is_read, self.may_answer = threading.Event(), threading.Event()
        self.is_over = False
        read = LedgerHistory.read_account

        def read_late(*arguments: Any) -> Any:
            self.is_read.set()
            assert self.may_answer.wait(MAX_WAIT_SECONDS)
            return () if self.is_over else read(*arguments)

        monkeypatch.setattr(LedgerHistory, "read_account", read_late)


@pytest.fixture
def slow_ledger(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], SlowLedger]]:
    made: list[SlowLedger] = []
    yield lambda: made.append(SlowLedger(monkeypatch)) or made[-1]
    for each in made:
        each.is_over = True
        each.may_answer.set()


def test_a_slow_ledger_holds_only_the_accounts_back_that_wait_for_it(start: Any, slow_ledger: Any) -> None:
    """Another user's slices are renewed up to the limit meanwhile; the waiting call goes on when its past is known."""
    process = start(store_unreachable="closed")
    assert process.passes(user_id="bob")
    ledger = slow_ledger()

    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(process.passes, user_id="ann")
        assert ledger.is_read.wait(MAX_WAIT_SECONDS)
        bob = [process.passes(user_id="bob") for _ in range(4)]
        is_waiting = not waiting.done()
        ledger.may_answer.set()
        ann = [waiting.result(), *(process.passes(user_id="ann") for _ in range(2))]

    assert bob == [True, True, True, False]
    assert is_waiting
    assert ann == [True, True, False]  # two calls of the four are in the ledger


def test_what_is_spent_while_a_ledger_does_not_answer_is_reported_at_the_end(
    start: Any, slow_ledger: Any, store_url: str
) -> None:
    """A process that ends does not wait for the ledger for longer than a call does."""
    slow_ledger()
    process = start(wait_seconds=0.05)
    process.ask(user_id="ann")

    process.handler.close()

    # On a busy machine the thread can need longer than close() waits.
    wait_until(lambda: spent_of(store_url) == {"user_id=ann": CALL_USD})


def test_a_past_that_cannot_be_read_holds_no_call_back(
    start: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged and counted, and the window begins with the process."""

    def fail(*_: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(LedgerHistory, "read_account", fail)
    process = start(store_unreachable="closed")

    with caplog.at_level(logging.ERROR, logger="eco2_callbacks"):
        passed = [process.passes(user_id="ann") for _ in range(5)]

    assert passed == [True, True, True, True, False]
    assert "The past of an account of 'each' could not be read" in caplog.text
    assert exposed(process.registry, "eco2_callbacks_errors_total") == 1


def test_a_process_without_threads_reads_the_past_at_its_end(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can start, as when the interpreter ends, the last report reads the ledger itself."""
    redis_server.client.flushall()
    now = datetime(2036, 3, 5, tzinfo=UTC)
    store = open_store(redis_server.url)
    account = Account(EACH, "user_id=ann", EACH.span.period(now), is_shared=True)
    restorer = AccountRestorer(store, on_read=lambda: None, on_failure=lambda: None)
    rejected = RejectedAccounts(lambda: None, "pass")
    restorer.add(account, lambda: [(0, 7)])

    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", fail)

    before = restorer.restore(now, rejected)
    restorer.finish(0.0)
    after = restorer.restore(now, rejected)

    (lease,) = store.lease("one", [describe(account, now)], 60)
    assert (before, after, lease.settled) == ({account.key}, set(), 7)
    store.close()


@pytest.mark.slow
def test_a_forked_child_reads_what_its_parent_was_reading(store_url: str, ledger: Path) -> None:
    """The child's first call has the past of its account, and each call counts once."""
    program = """
import os, sys, threading
from eco2_callbacks.budgets.history import LedgerHistory
from tests.budgets.test_restorer import EACH
from tests.support.budget_process import MAX_WAIT_SECONDS, BudgetProcess
parent, read = os.getpid(), LedgerHistory.read_account
is_read, may_answer = threading.Event(), threading.Event()
def read_late(*arguments):
    if os.getpid() == parent:
        is_read.set()
        assert may_answer.wait(MAX_WAIT_SECONDS)
    return read(*arguments)
LedgerHistory.read_account = read_late
process = BudgetProcess(sys.argv[1], EACH, options={"ledger": sys.argv[2]}, wait_seconds=MAX_WAIT_SECONDS)
passed = []
call = threading.Thread(target=lambda: passed.append(process.passes(user_id="ann")))
call.start()
assert is_read.wait(MAX_WAIT_SECONDS)
pid = os.fork()
if pid == 0:
    status = 1
    try:
        process.ask(user_id="ann")
        process.handler.close()
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(pid, 0)[1] == 0
may_answer.set()
call.join()
assert passed == [True]
process.handler.close()
"""

    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, store_url, ledger],
        check=True,
        cwd=Path(__file__).parents[2],
    )

    assert spent_of(store_url) == {"user_id=ann": 4 * CALL_USD}
