"""What goes wrong between a process and its store: ids, outages, forks, idle threads and windows that come again."""

from __future__ import annotations

import logging
import random
import string
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import psycopg
import pytest
import redis
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetRule, Budgets, Eco2CallbackHandler
from eco2_callbacks.budgets import grant_raise, read_states
from eco2_callbacks.budgets.accounts import AccountTable
from eco2_callbacks.budgets.rules import account_key
from eco2_callbacks.budgets.stores import StoreError
from tests.support.budget_process import MAX_WAIT_SECONDS, BudgetProcess, wait_until
from tests.support.fake_model import COST, FakeModel
from tests.support.programs import free_port
from tests.support.record_sink import exposed
from tests.support.redis_process import RedisProcess
from tests.support.spending_worker import CALL_USD

# A call reserves a little more than it costs, so that the last dollars of a limit stay.
MARGIN = Decimal("0.0001")
EACH = BudgetRule(name="each", limit_usd=Decimal(1), per="user_id", warn_at=())
LONG = "".join(random.Random(5).choices(string.ascii_letters, k=9000))


def spent_of(rule: BudgetRule, url: str) -> dict[str, Decimal]:
    """Return what a store has of each scope, once no process holds a slice."""
    return {state.scope: state.spent_usd for state in read_states(Budgets(rules=[rule], store=url))}


@pytest.fixture
def start() -> Iterator[Callable[..., BudgetProcess]]:
    with ExitStack() as stack:

        def start(*arguments: Any, **settings: Any) -> BudgetProcess:
            process = BudgetProcess(*arguments, **settings)
            stack.callback(process.handler.close)
            return process

        yield start


@pytest.mark.parametrize("policy", ["open", "closed"])
@pytest.mark.parametrize("user", ["a\ud800b", "a\0b", LONG], ids=["surrogate", "NUL", "long"])
def test_an_id_that_a_store_cannot_keep_is_no_outage(user: str, policy: str, store_url: str, start: Any) -> None:
    """Whatever a user is called, the call counts, and all limits go on to hold."""
    everyone = BudgetRule(name="all", limit_usd=4 * CALL_USD + MARGIN, warn_at=())
    process = start(store_url, everyone, EACH, store_unreachable=policy)

    passed = [process.passes(user_id=user), *(process.passes(user_id="ann") for _ in range(4))]

    assert passed == [True, True, True, True, False]
    assert process.handler.flush(MAX_WAIT_SECONDS)
    assert exposed(process.registry, "eco2_callbacks_errors_total") == (user == LONG)  # the id is no identifier
    process.handler.close()
    assert spent_of(everyone, store_url) == {"": 4 * CALL_USD}


class Broken:
    """Has a store reject the account of the user bob, until it is repaired."""

    def __init__(self, url: str) -> None:
        self._url = url
        key = account_key(EACH, "user_id=bob", EACH.span.period(datetime.now(UTC)))
        self._key = f"eco2:budget:{{each}}:account:{key}"
        if url.startswith("redis"):
            self._client = redis.Redis.from_url(url, protocol=2)
            self._client.set(self._key, "no account")
        else:
            self._run("ALTER TABLE eco2_budget_accounts ADD CONSTRAINT no_bob CHECK (scope <> 'user_id=bob')")

    def repair(self) -> None:
        if self._url.startswith("redis"):
            self._client.delete(self._key)
        else:
            self._run("ALTER TABLE eco2_budget_accounts DROP CONSTRAINT no_bob")

    def _run(self, statement: Any) -> None:
        with psycopg.connect(self._url) as connection:
            connection.execute(statement)


def test_an_account_that_a_store_rejects_holds_no_other_back(
    store_url: str, start: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Its calls follow the policy, all others go on; it is counted, named in the log, and reported once it can be."""
    everyone = BudgetRule(name="all", limit_usd=6 * CALL_USD + MARGIN, warn_at=())
    process = start(store_url, everyone, EACH)
    assert process.passes(user_id="ann")
    broken = Broken(store_url)

    with caplog.at_level(logging.ERROR, logger="eco2_callbacks"):
        passed = [process.passes(user_id=user) for user in ("bob", "cy", "bob", "ann", "cy", "ann")]

    assert passed == [True, True, True, True, True, False]
    assert exposed(process.registry, "eco2_callbacks_errors_total") > 0
    assert "cannot keep an account of 'each'" in caplog.text
    assert "store of the budgets cannot be used" not in caplog.text
    broken.repair()
    wait_until(lambda: process.handler.flush(5))
    process.handler.close()
    assert spent_of(EACH, store_url) == dict.fromkeys(("user_id=ann", "user_id=bob", "user_id=cy"), 2 * CALL_USD)


def test_a_closed_store_refuses_only_the_calls_of_a_rejected_account(store_url: str, start: Any) -> None:
    """With ``closed`` the calls of this account are refused, and no others."""
    process = start(store_url, EACH, store_unreachable="closed")
    assert process.passes(user_id="ann")
    Broken(store_url)

    passed = [process.passes(user_id=user) for user in ("bob", "cy", "ann", "bob")]

    assert passed == [False, True, True, False]


@pytest.mark.slow
def test_what_was_spent_while_a_store_was_away_counts_once(tmp_path: Path) -> None:
    """The ledger has these calls too; it restores what was spent before, of every account, however many there are."""
    users = [f"u{number}" for number in range(1100)]
    ledger = tmp_path / "ledger.db"
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets={}) as handler:
        for user in users:
            FakeModel().invoke("x", {"callbacks": [handler], "metadata": {"user_id": user}})
    server = RedisProcess(free_port(), tmp_path)
    budgets = Budgets(rules=[EACH], store=server.url, wait_seconds=0.05)

    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=budgets) as handler:
        for user in users:
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})
        handler.flush(MAX_WAIT_SECONDS)  # the ledger has all; the store is not there
        server.start()
        try:
            wait_until(lambda: handler.flush(5))
            handler.close()
            spent = spent_of(EACH, server.url)
        finally:
            server.kill()

    assert spent == {f"user_id={user}": 2 * COST for user in users}


def test_a_restart_after_an_outage_counts_calls_once(tmp_path: Path) -> None:
    """A process that begins without its store brings in what the ledger had before, and then its own calls."""
    ledger = tmp_path / "ledger.db"
    server = RedisProcess(free_port(), tmp_path)
    rule = BudgetRule(name="all", limit_usd=Decimal(1), window="rolling 24h", warn_at=())
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets={}) as handler:
        FakeModel().invoke("x", {"callbacks": [handler]})
    budgets = Budgets(rules=[rule], store=server.url, wait_seconds=0.1)

    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=budgets) as handler:
        for _ in range(3):
            FakeModel().invoke("x", {"callbacks": handler.callbacks})
        handler.flush(MAX_WAIT_SECONDS)
        server.start()
        try:
            wait_until(lambda: handler.flush(5))
            handler.close()
            spent = spent_of(rule, server.url)
        finally:
            server.kill()

    assert spent == {"": 4 * COST}


@pytest.mark.slow
def test_a_forked_child_has_a_connection_of_its_own(store_url: str) -> None:
    """Parent and children spend at the same time, and every call counts once."""
    program = """
import os, sys
from eco2_callbacks import BudgetRule
from tests.support.budget_process import MAX_WAIT_SECONDS, BudgetProcess
rule = BudgetRule(name="all", limit_usd="1", warn_at=())
process = BudgetProcess(sys.argv[1], rule)
process.ask()
assert process.handler.flush(MAX_WAIT_SECONDS)
def spend():
    for _ in range(20):
        process.ask()
        assert process.handler.flush(MAX_WAIT_SECONDS)
children = []
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            spend()
            process.handler.close()
            status = 0
        finally:
            os._exit(status)
    children.append(pid)
spend()
assert [os.waitpid(child, 0)[1] for child in children] == [0, 0]
process.handler.close()
"""

    subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", program, store_url],
        check=True,
        cwd=Path(__file__).parents[2],
    )

    rule = BudgetRule(name="all", limit_usd=Decimal(1))
    assert spent_of(rule, store_url) == {"": 61 * CALL_USD}


def test_an_idle_process_sees_a_raise(redis_server: RedisProcess, start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process whose thread has ended since its budget was used up learns of a raise by its next calls."""
    monkeypatch.setattr("eco2_callbacks.budgets.slices._WATCH_SECONDS", 1.0)
    rule = BudgetRule(name="idle", limit_usd=2 * CALL_USD + MARGIN, warn_at=())
    process = start(redis_server.url, rule)
    assert [process.passes() for _ in range(3)] == [True, True, False]
    wait_until(lambda: not any(thread.name == "eco2-budgets" for thread in threading.enumerate()))

    grant_raise(Budgets(rules=[rule], store=redis_server.url), "idle", "1", timedelta(hours=1))

    wait_until(process.passes)


@pytest.mark.parametrize(
    ("window", "away", "back", "expected"),
    [
        ("rolling 1h", timedelta(hours=2), timedelta(0), CALL_USD),
        ("day", timedelta(days=1), timedelta(days=-1), 4 * CALL_USD),
    ],
    ids=["idle for a window", "a clock that jumps"],
)
def test_an_account_that_a_process_has_forgotten_goes_on_counting(
    store_url: str,
    start: Any,
    monkeypatch: pytest.MonkeyPatch,
    window: str,
    away: timedelta,
    back: timedelta,
    expected: Decimal,
) -> None:
    """A user who returns after an idle window, or whose window holds again, is counted from the first call on."""
    monkeypatch.setattr("eco2_callbacks.budgets.lease_requests._IDLE_SECONDS", 0.0)
    now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    rule = BudgetRule(name="each", limit_usd=Decimal(1), per="user_id", window=window, warn_at=())
    process = start(store_url, rule, options={"now": lambda: now})
    for _ in range(3):
        process.ask(user_id="ann")
        assert process.handler.flush(MAX_WAIT_SECONDS)
    now += away
    wait_until(lambda: process.handler.flush(5) and not list(process.handler._budgets._enforcer._table))
    now += back

    process.ask(user_id="ann")
    assert process.handler.flush(MAX_WAIT_SECONDS)

    assert [state.spent_usd for state in process.handler._budgets._enforcer.all_states()] == [expected]


@pytest.mark.parametrize("window", ["rolling 1h", "day"])
def test_a_window_that_ends_while_a_call_waits_loses_nothing(
    redis_server: RedisProcess, start: Any, monkeypatch: pytest.MonkeyPatch, window: str
) -> None:
    """The call counts where it began, although nothing else uses that account any longer."""
    redis_server.client.flushall()
    began = now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    rule = BudgetRule(name="each", limit_usd=Decimal(1), per="user_id", window=window, warn_at=())
    process = start(redis_server.url, rule, options={"now": lambda: now})
    leaser = process.handler._budgets._enforcer._leaser
    ask = leaser.ask

    def ask_late(account: Any, amount: int) -> Any:
        nonlocal now
        now = began + timedelta(days=1)
        return ask(account, amount)

    monkeypatch.setattr(leaser, "ask", ask_late)

    process.ask(user_id="ann")

    process.handler.close()
    at = began if window == "day" else now
    (state,) = read_states(Budgets(rules=[rule], store=redis_server.url), now=at)
    assert state.spent_usd == CALL_USD


def test_an_account_whose_window_holds_again_keeps_what_is_not_reported() -> None:
    """A clock that jumps to the next day and back leaves one account of the day, not two with half of it each."""
    now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    table = AccountTable(is_shared=True, on_new=lambda _: None, on_past=lambda _: None, on_moved=lambda _: None)
    rule = BudgetRule(name="each", limit_usd=Decimal(1), per="user_id", window="day")
    account = table.find(rule, "user_id=ann", now)
    account.spend(7)
    table.roll(now + timedelta(days=1))

    again = table.find(rule, "user_id=ann", now)

    assert again is account
    assert list(table) == [account]


def test_refused_calls_do_not_flood_the_store(
    redis_server: RedisProcess, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A budget that is used up is looked at twice a second at most, however many calls it refuses."""
    process = start(redis_server.url, BudgetRule(name="none", limit_usd=Decimal(0), warn_at=()))
    assert not process.passes()
    leaser = process.handler._budgets._enforcer._leaser
    wakes: list[int] = []
    monkeypatch.setattr(leaser, "wake", lambda: wakes.append(1))
    counts = []

    for seconds in (3600.0, 0.0):
        monkeypatch.setattr("eco2_callbacks.budgets.slices._SYNC_SECONDS", seconds)
        for _ in range(20):
            assert not process.passes()
        counts.append(len(wakes))

    assert counts == [0, 20]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["a rolling window moves on", "the limit is raised"])
def test_a_budget_that_is_free_again_warns_again(change: str, store_url: str, start: Any) -> None:
    """Of several processes one sends each event, in every window again, and again after a raise."""
    now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    limit = 3 * CALL_USD + MARGIN
    rule = BudgetRule(name="all", limit_usd=limit, window="rolling 24h", warn_at=(Decimal("0.5"),))
    processes = [start(store_url, rule, options={"now": lambda: now}) for _ in range(2)]

    def events() -> list[str]:
        return sorted(event for process in processes for event in process.events)

    def spend(calls: int) -> None:
        for number in range(calls):
            processes[number % 2].passes()
        for process in processes:
            wait_until(lambda process=process: process.handler.flush(5))

    spend(4)
    wait_until(lambda: events() == ["exceeded", "warn"])
    for cycle in (1, 2):
        if change == "the limit is raised":
            usd = limit * 3**cycle - limit * 3 ** (cycle - 1)
            grant_raise(Budgets(rules=[rule], store=store_url), "all", usd, timedelta(days=300))
            spend(2)
        else:
            now += timedelta(hours=25)
        wait_until(lambda cycle=cycle: (spend(1), events().count("reset") == cycle)[1])
        wait_until(lambda cycle=cycle: (spend(1), events().count("exceeded") == cycle + 1)[1])
        wait_until(lambda cycle=cycle: events().count("warn") == cycle + 1)

    assert events() == ["exceeded"] * 3 + ["reset"] * 2 + ["warn"] * 3


def test_an_event_whose_claim_got_no_answer_is_sent(
    store_url: str, start: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The store has the claim, the process learns nothing of it: it sends the event once it can ask again."""
    rule = BudgetRule(name="all", limit_usd=Decimal(1), warn_at=(Decimal("0.001"),))
    process, other = start(store_url, rule), start(store_url, rule)
    store = process.handler._budgets._enforcer._leaser._store
    claim, claimed = store.claim, []

    def claim_without_answer(*arguments: Any) -> bool:
        claimed.append(claim(*arguments))
        if len(claimed) == 1:
            raise StoreError("the answer was lost")
        return claimed[-1]

    monkeypatch.setattr(store, "claim", claim_without_answer)

    process.ask()
    wait_until(lambda: process.handler.flush(5) and len(claimed) == 2)
    other.ask()
    for each in (other, other, process):  # the first report brings what is spent, the second one claims events
        wait_until(lambda each=each: each.handler.flush(5))

    assert claimed == [True, True]
    assert process.events + other.events == ["warn"]


@pytest.mark.parametrize("user", ["an\x07n", "tab\tid"])
def test_an_id_that_a_ledger_cleans_keeps_its_window(user: str, tmp_path: Path) -> None:
    """After a restart the window goes on from what the ledger holds under the cleaned id."""
    rule = BudgetRule(name="each", limit_usd=Decimal(1), per="user_id", warn_at=())
    scopes = []
    for _ in range(2):
        with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=tmp_path / "l.db", budgets=[rule]) as handler:
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})
            assert handler.flush(MAX_WAIT_SECONDS)
            control = handler._budgets
            assert control is not None
            scopes.append([state.spent_usd for state in control._enforcer.all_states()])

    assert scopes == [[COST], [2 * COST]]


def test_a_late_call_of_a_window_that_is_over_announces_nothing_again(store_url: str, start: Any) -> None:
    """The reset at the end of a calendar window does not free the events of that window."""
    now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    rule = BudgetRule(name="all", limit_usd=Decimal(1), window="day", warn_at=(Decimal("0.001"),))
    early, late = (start(store_url, rule, options={"now": lambda: now}) for _ in range(2))

    class Late(FakeModel):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            nonlocal now
            early.ask()
            wait_until(lambda: early.handler.flush(5) and early.events == ["warn"])
            now += timedelta(days=1)
            early.ask()
            wait_until(lambda: early.handler.flush(5) and early.events[:2] == ["warn", "reset"])
            return super()._generate(*arguments, **options)

    late.ask(Late())
    for _ in range(2):  # the first report brings what is spent, the second one claims events
        wait_until(lambda: late.handler.flush(5))

    assert late.events == []
