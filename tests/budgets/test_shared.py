"""Budgets that processes share, on real Redis and PostgreSQL: each handler leases slices as a process does."""

from __future__ import annotations

import asyncio
import gc
import random
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler
from eco2_callbacks.budgets import read_states
from eco2_callbacks.budgets.stores import Raise, open_store
from tests.support.budget_process import MAX_WAIT_SECONDS, MODEL, BudgetProcess, wait_until
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import exposed
from tests.support.redis_process import redis_process
from tests.support.spending_worker import CALL_USD, PROMPT, SLICE_SHARE


@pytest.fixture
def start(store_url: str) -> Iterator[Callable[..., BudgetProcess]]:
    processes: list[BudgetProcess] = []

    def start(limit_usd: Decimal | str, *, url: str = store_url, **options: Any) -> BudgetProcess:
        fields = {name: options.pop(name) for name in ("per", "warn_at", "window", "action") if name in options}
        rule = BudgetRule(**{"name": "shared", "limit_usd": Decimal(limit_usd), "warn_at": (), **fields})
        processes.append(BudgetProcess(url, rule, **options))
        return processes[-1]

    yield start
    for process in processes:
        process.handler.close()


def test_processes_share_one_limit(start: Any) -> None:
    """What one process spends, the other one lacks."""
    one, other = start(10 * CALL_USD + Decimal("0.0001")), start(10 * CALL_USD + Decimal("0.0001"))

    for _ in range(5):
        one.ask()
        other.ask()

    assert not one.passes()
    assert not other.passes()


def test_a_restart_forgets_nothing(start: Any) -> None:
    """A process that ends reports what it spent and gives the rest back; the next one goes on from there."""
    first = start(6 * CALL_USD + Decimal("0.0001"))
    for _ in range(4):
        first.ask()
    first.handler.close()

    second = start(6 * CALL_USD + Decimal("0.0001"))

    assert [second.passes() for _ in range(3)] == [True, True, False]
    assert exposed(second.registry, "budget_spent_dollars") == pytest.approx(float(6 * CALL_USD))


def test_a_hundred_callers_in_four_processes_do_not_exceed_the_limit(start: Any) -> None:
    """With check-then-add they spent four times the limit."""
    limit = 60 * CALL_USD + Decimal("0.0001")
    processes = [start(limit) for _ in range(4)]

    with ThreadPoolExecutor(100) as pool:
        passed = list(pool.map(lambda number: processes[number % 4].passes(), range(200)))

    # Every call could be sent that fits: a process gives back what it does not use.
    assert sum(passed) == 60


async def test_tasks_of_a_loop_wait_for_the_store_without_stopping_it(start: Any) -> None:
    """The first call needs a slice. The loop goes on while it waits for a store that does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        process = start("1", url=f"redis://127.0.0.1:{port}/0", wait_seconds=1.0, store_unreachable="closed")
        ticks = 0

        async def tick() -> None:
            nonlocal ticks
            while True:
                ticks += 1
                await asyncio.sleep(0.01)

        ticking = asyncio.create_task(tick())
        with pytest.raises(BudgetExceeded, match="its store cannot be reached"):
            await MODEL.ainvoke(PROMPT, {"callbacks": process.handler.callbacks})
        ticking.cancel()

    # The call waited for a second. A loop that was stopped would have ticked once or twice.
    assert ticks > 10


async def test_a_call_that_waits_for_room_makes_no_thread(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A call that others leave no room for looks again every tenth of a second, and may be cancelled meanwhile."""
    limit_usd = CALL_USD + Decimal("0.0001")
    holder = start(limit_usd)
    slow = FakeModel(usage=MODEL.usage, pause_seconds=3600)
    held = asyncio.create_task(slow.ainvoke(PROMPT, {"callbacks": holder.handler.callbacks}))
    while not exposed(holder.registry, "eco2_callbacks_open_runs"):
        await asyncio.sleep(0.01)
    other = start(limit_usd, wait_seconds=1, store_unreachable="closed")
    started: list[str] = []
    start_thread = threading.Thread.start
    monkeypatch.setattr(
        threading.Thread, "start", lambda thread: started.append(type(thread).__name__) or start_thread(thread)
    )

    with pytest.raises(BudgetExceeded):
        await MODEL.ainvoke(PROMPT, {"callbacks": other.handler.callbacks})
    with pytest.raises(BudgetExceeded):
        other.ask()
    held.cancel()
    await asyncio.gather(held, return_exceptions=True)

    assert "Timer" not in started


async def test_async_calls_share_the_limit_too(start: Any) -> None:
    """Tasks that wait for slices are refused and admitted like threads."""
    processes = [start(20 * CALL_USD + Decimal("0.0001")) for _ in range(2)]

    answers = await asyncio.gather(
        *(MODEL.ainvoke(PROMPT, {"callbacks": processes[n % 2].handler.callbacks}) for n in range(50)),
        return_exceptions=True,
    )

    assert sum(not isinstance(answer, BaseException) for answer in answers) == 20
    assert {type(answer) for answer in answers if isinstance(answer, BaseException)} == {BudgetExceeded}


async def test_a_sync_call_on_a_loop_is_refused_too(start: Any) -> None:
    """LangChain drops what a coroutine raises for a synchronous call on a loop; the handler refuses in its place."""
    process = start("0")
    sent = []

    class Sent(FakeModel):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            sent.append(1)
            return super()._generate(*arguments, **options)

    with pytest.raises(BudgetExceeded):
        Sent().invoke(PROMPT, {"callbacks": process.handler.callbacks})

    assert sent == []
    assert exposed(process.registry, "budget_refused_calls_total") == 1


@pytest.mark.parametrize("policy", ["open", "closed"])
def test_the_policy_decides_while_the_store_is_away(policy: str, tmp_path: Path) -> None:
    """``open`` lets calls pass and reports them later; ``closed`` refuses what the slice does not cover."""
    with redis_process(tmp_path) as server:
        rule = BudgetRule(name="shared", limit_usd=Decimal(1), warn_at=())
        process = BudgetProcess(server.url, rule, store_unreachable=policy, wait_seconds=2)
        process.ask()  # has a slice of 2 cents
        server.kill()

        passed = [process.passes() for _ in range(30)]
        server.start()

        if policy == "open":
            assert all(passed)
        else:
            # The slice holds, and nothing beyond it.
            assert 0 < sum(passed) < 30
            assert passed == sorted(passed, reverse=True)
        assert exposed(process.registry, "eco2_callbacks_errors_total") >= 1
        sent = float((1 + sum(passed)) * CALL_USD)
        wait_until(lambda: process.handler.flush(5))
        store = open_store(server.url)
        wait_until(lambda: sum(reading.settled for reading in store.read("shared", 0)) / 1e9 == pytest.approx(sent))
        process.handler.close()
        store.close()


def test_events_come_once_from_all_processes(start: Any) -> None:
    """Every process sees that a level was reached, and one of them tells."""
    levels = (Decimal("0.5"), Decimal("0.9"))
    processes = [start(10 * CALL_USD + Decimal("0.0001"), warn_at=levels) for _ in range(3)]

    for _ in range(5):
        for process in processes:
            process.passes()
    for process in processes:
        wait_until(lambda process=process: process.handler.flush(5))
    wait_until(lambda: sum(len(process.events) for process in processes) >= 3)
    for process in processes:
        process.handler.close()

    events = sorted(event for process in processes for event in process.events)
    assert events == ["exceeded", "warn", "warn"]


def test_a_raise_lets_calls_pass_again(start: Any, store_url: str) -> None:
    """A raise that is granted elsewhere reaches a process that refuses, and it tells that the budget is free again."""
    process = start(2 * CALL_USD + Decimal("0.0001"))
    assert [process.passes() for _ in range(3)] == [True, True, False]

    store = open_store(store_url)
    store.add_raise("shared", Raise("one", 1_000_000_000, int(time.time()) + 600))

    wait_until(process.passes)
    assert exposed(process.registry, "budget_limit_dollars") == pytest.approx(1 + float(2 * CALL_USD) + 0.0001)
    wait_until(lambda: process.events == ["exceeded", "reset"])
    store.close()


def test_each_user_has_an_account_of_their_own(start: Any) -> None:
    """A rule per user keeps one account for each in the store."""
    one, other = (start(2 * CALL_USD + Decimal("0.0001"), per=("user_id",)) for _ in range(2))

    for user in ("ann", "bob"):
        one.ask(user_id=user)
        other.ask(user_id=user)
        with pytest.raises(BudgetExceeded, match=f"user_id={user}"):
            one.ask(user_id=user)


def test_a_rolling_window_is_shared_too(start: Any) -> None:
    """Buckets of a rolling window lie in the store."""
    one, other = (start(2 * CALL_USD + Decimal("0.0001"), window="rolling 1h") for _ in range(2))

    one.ask()
    other.ask()

    assert not one.passes()


def test_what_a_process_does_not_use_goes_to_one_that_needs_it(start: Any) -> None:
    """A slice that lies idle does not make another process refuse."""
    idle = start(10 * CALL_USD + Decimal("0.0001"), slice_share=Decimal("0.5"))
    idle.ask()
    busy = start(10 * CALL_USD + Decimal("0.0001"))

    assert [busy.passes() for _ in range(10)] == [True] * 9 + [False]


@pytest.mark.slow
def test_killed_processes_exceed_the_limit_by_their_slices_at_most(store_url: str, tmp_path: Path) -> None:
    """The largest overshoot is what killed processes held: their spending since the last report is not known.

    Three workers spend from one budget. Six times one of them is killed and replaced. The provider's own count of
    calls may exceed the limit by the slices of the killed ones, and not by more.
    """
    limit_usd = Decimal(60)
    calls = tmp_path / "calls"
    calls.touch()
    command = [sys.executable, "-m", "tests.support.spending_worker", store_url, str(limit_usd), "1", str(calls)]
    dice = random.Random(17)

    with ExitStack() as stack:

        def start_worker() -> subprocess.Popen[str]:
            worker = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
            stack.callback(worker.kill)
            return worker

        workers = [start_worker() for _ in range(3)]
        kills = 0
        for _ in range(6):
            wanted = calls.stat().st_size + dice.randrange(50, 1500)
            while calls.stat().st_size < wanted and any(worker.poll() is None for worker in workers):
                time.sleep(0.001)
            victim = workers.pop(dice.randrange(len(workers)))
            kills += victim.poll() is None
            victim.kill()
            workers.append(start_worker())
        reasons = {worker.communicate()[0].strip() for worker in workers}

    spent = calls.stat().st_size * CALL_USD
    slice_usd = max(limit_usd * SLICE_SHARE, CALL_USD)
    assert kills == 6
    assert reasons == {"limit"}
    assert spent <= limit_usd + kills * slice_usd
    # And nearly all of it could be spent.
    assert spent >= limit_usd - 4 * slice_usd
    store = open_store(store_url)
    reported = sum(reading.settled for reading in store.read("shared", 0))
    assert reported <= limit_usd * 10**9
    store.close()


def test_a_handler_that_is_dropped_without_close_ends_its_thread(start: Any, store_url: str) -> None:
    """The thread that leases slices does not keep the handler of an application that forgot it."""
    rule = BudgetRule(name="shared", limit_usd=Decimal(1))
    process = BudgetProcess(store_url, rule)
    process.ask()
    forgotten = weakref.ref(process.handler)
    assert any(thread.name == "eco2-budgets" for thread in threading.enumerate())

    del process

    wait_until(lambda: gc.collect() >= 0 and forgotten() is None)
    wait_until(lambda: not any(thread.name == "eco2-budgets" for thread in threading.enumerate()))


@pytest.mark.slow
@pytest.mark.parametrize("ending", ["the interpreter", "a child of multiprocessing"])
def test_the_end_of_a_process_reports_what_it_spent(ending: str, store_url: str) -> None:
    """A process that ends without close() reports its spending and gives back its slices."""
    program = (
        "import multiprocessing, sys\n"
        "from decimal import Decimal\n"
        "from eco2_callbacks import BudgetRule, Budgets, Eco2CallbackHandler\n"
        "from tests.support.fake_model import FakeModel\n"
        "def spend():\n"
        "    global handler\n"
        "    rules = [BudgetRule(name='all', limit_usd=Decimal(1))]\n"
        "    handler = Eco2CallbackHandler(budgets=Budgets(rules=rules, store=sys.argv[1], wait_seconds=20))\n"
        "    FakeModel().invoke('x', {'callbacks': handler.callbacks})\n"
        "if sys.argv[2] == 'the interpreter':\n"
        "    spend()\n"
        "else:\n"
        "    child = multiprocessing.get_context('fork').Process(target=spend)\n"
        "    child.start(); child.join()\n"
        "    assert child.exitcode == 0\n"
    )

    subprocess.run([sys.executable, "-c", program, store_url, ending], check=True, cwd=Path(__file__).parents[2])

    (state,) = read_states(Budgets(rules=[BudgetRule(name="all", limit_usd=Decimal(1))], store=store_url))
    assert state.spent_usd == COST


@pytest.mark.parametrize("window", ["month", "rolling 7d"])
def test_a_store_that_loses_its_data_gets_it_back(redis_server: Any, window: str) -> None:
    """Processes that run on give an emptied store back what they knew was spent, once."""
    redis_server.client.flushall()
    rules = [BudgetRule(name="all", limit_usd=Decimal(1), window=window)]
    budgets = Budgets(rules=rules, store=redis_server.url, wait_seconds=20)
    handlers = [Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets) for _ in range(2)]
    for handler in handlers:
        FakeModel().invoke("x", {"callbacks": handler.callbacks})
    for handler in (*handlers, *handlers):  # the second time, each has the other's spending
        assert handler.flush(MAX_WAIT_SECONDS)

    redis_server.client.flushall()
    for handler in handlers:
        assert handler.flush(MAX_WAIT_SECONDS)
    FakeModel().invoke("x", {"callbacks": handlers[0].callbacks})

    wait_until(lambda: read_states(budgets)[0].spent_usd >= 3 * COST)
    for handler in handlers:
        handler.close()
    assert read_states(budgets)[0].spent_usd == 3 * COST


def test_a_rolling_window_that_was_lost_goes_on_at_its_own_time(redis_server: Any) -> None:
    """What comes back lies in the buckets in which it was spent, refuses calls, and leaves the window in time."""
    redis_server.client.flushall()
    start = datetime(2036, 3, 5, 12, tzinfo=UTC)
    now = start
    rule = BudgetRule(name="all", limit_usd=2 * COST, window="rolling 3h", warn_at=())
    budgets = Budgets(rules=[rule], store=redis_server.url, wait_seconds=20, assumed_output_tokens=5)

    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets, now=lambda: now) as handler:

        def ask() -> None:
            FakeModel().invoke("x", {"callbacks": handler.callbacks})
            assert handler.flush(MAX_WAIT_SECONDS)

        ask()
        now = start + timedelta(hours=2)
        ask()
        redis_server.client.flushall()
        with pytest.raises(BudgetExceeded) as raised:
            ask()
        now = start + timedelta(hours=4)
        ask()
        (state,) = read_states(budgets, now=now)

    assert raised.value.spent_usd == 2 * COST
    assert state.spent_usd == 2 * COST


def test_a_sync_that_begins_at_once_is_no_refused_one(start: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The thread can finish a sync before the caller goes on: the call waits for its slice all the same."""
    process = start(Decimal(1))
    leaser = process.handler._budgets._enforcer._leaser
    monkeypatch.setattr(leaser._worker, "submit", lambda job: job() is None)

    assert leaser.wake()
    assert leaser.wake()
