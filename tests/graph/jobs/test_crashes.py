"""Workers that are killed or stopped while they answer, on real RabbitMQ and Redis."""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from graph.cli import QUESTIONS
from graph.jobs import DEAD_QUEUE, JobQueue, RabbitBroker
from graph.streams import JobState, RedisJobStore, StreamEvent, figures_of
from tests.support.cassette_bills import bills_of_cassette
from tests.support.rabbit_process import RabbitProcess
from tests.support.redis_process import RedisProcess
from tests.support.worker_fleet import POISON
from tests.support.worker_runs import (
    GREETING,
    joined_tokens,
    paced_greeting,
    read,
    recorded_answer,
    submit,
    until,
    write_joined_cassette,
)

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[3]
JOBS = 200
NODES = ("intent", "general", "answer")


@dataclass
class Fleet:
    """Running workers, which are replaced when they die."""

    process: subprocess.Popen[bytes]
    folder: Path

    @property
    def pids(self) -> list[int]:
        try:
            return [int(pid) for pid in (self.folder / "pids").read_text().split()]
        except FileNotFoundError:
            return []

    @property
    def records(self) -> list[dict[str, Any]]:
        """The model calls of all workers."""
        return [json.loads(line) for line in (self.folder / "records.jsonl").read_text().splitlines()]

    def stop(self) -> int:
        self.process.terminate()
        return self.process.wait(300)


@contextmanager
def fleet(
    tmp_path: Path, rabbit: RabbitProcess, redis: RedisProcess, *, count: int, answer_seconds: float, **variables: str
) -> Iterator[Fleet]:
    """Run workers during the block, on the greeting with an answer that takes so long."""
    folder = tmp_path / "fleet"
    folder.mkdir()
    cassette = write_joined_cassette(tmp_path, paced_greeting(answer_seconds))
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "ECO2_REDIS_URL": redis.url,
        "ECO2_AMQP_URL": rabbit.url,
        "ECO2_CHECKPOINTS": f"sqlite:///{folder}/checkpoints.db",
        "ECO2_LEDGER": str(folder / "ledger.db"),
        **variables,
    }
    program = [sys.executable, "-m", "tests.support.worker_fleet", str(cassette), str(folder), str(count)]
    with (
        (folder / "fleet.log").open("wb") as log,
        subprocess.Popen(program, env=environment, cwd=ROOT, stdout=log, stderr=log) as process,
    ):
        running = Fleet(process, folder)
        try:
            yield running
        finally:
            process.terminate()
            try:
                process.wait(60)
            except subprocess.TimeoutExpired:
                for pid in running.pids:
                    os.kill(pid, signal.SIGKILL)
                process.kill()


def check_order(events: list[StreamEvent]) -> None:
    """Positions grow, runs follow each other, and one outcome ends the stream."""
    positions = [event.position for event in events]
    assert positions == sorted(set(positions))
    assert all(earlier.is_followed_by(later) for earlier, later in pairwise(positions))
    assert [event.is_last for event in events] == [False] * (len(events) - 1) + [True]


async def test_a_job_of_a_killed_worker_goes_on_elsewhere(
    rabbit: RabbitProcess, redis_server: RedisProcess, store: RedisJobStore, tmp_path: Path
) -> None:
    """The next worker runs the node in which the first one died, and no finished one again; the cost is of both."""
    queue = JobQueue(RabbitBroker(rabbit.url))
    at_once = {"ECO2_LEDGER_AT_ONCE": "1"}
    with fleet(tmp_path, rabbit, redis_server, count=1, answer_seconds=3, **at_once) as workers:
        await queue.startup()
        await submit(store, queue, message=QUESTIONS["greeting"])
        await until(store, "token")
        os.kill(workers.pids[0], signal.SIGKILL)
        events = await read(store)
        await queue.shutdown()
        assert await asyncio.to_thread(workers.stop) == 0

    check_order(events)
    assert joined_tokens(events) == events[-1].data["answer"] == recorded_answer(GREETING)
    state = await store.state("1")
    assert (state.run, state.crashes) == (2, 1)
    assert Counter((call["node"], call["job_run"]) for call in workers.records) == {
        ("intent", 1): 1,
        ("general", 1): 1,
        ("answer", 2): 1,
    }
    usd = sum(bill.usd for bill in bills_of_cassette(GREETING))
    assert Decimal(events[-1].data["usd"]) == ledger_usd(tmp_path / "fleet" / "ledger.db")["1"] == usd
    assert events[-1].data["open_calls"] == 1  # the first worker died in the answer's call


async def test_a_worker_that_wakes_up_after_a_takeover_writes_nothing(
    rabbit: RabbitProcess, redis_server: RedisProcess, store: RedisJobStore, tmp_path: Path
) -> None:
    """One stream, one outcome; the stopped worker ends its old run and answers the next job."""
    queue = JobQueue(RabbitBroker(rabbit.url))
    with fleet(tmp_path, rabbit, redis_server, count=2, answer_seconds=4) as workers:
        await queue.startup()
        await submit(store, queue, message=QUESTIONS["greeting"])
        await until(store, "token")
        owner = redis_server.client.hget("eco2:job:1:state", "owner")
        stopped = workers.pids[0]
        for pid in workers.pids:  # one of them runs the job; only that one's lease ends
            os.kill(pid, signal.SIGSTOP)
            await asyncio.sleep(1)
            if _lease_ms(redis_server) - _now_ms(redis_server) < 2500:
                stopped = pid
                break
            os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(rabbit.close_connections)
        while (await store.state("1")).run < 2:
            await asyncio.sleep(0.1)
        os.kill(stopped, signal.SIGCONT)
        events = await read(store)
        for number in range(4):
            await submit(store, queue, job_id=f"next-{number}", message=QUESTIONS["greeting"])
        later = [await read(store, f"next-{number}") for number in range(4)]
        await queue.shutdown()
        assert await asyncio.to_thread(workers.stop) == 0

    check_order(events)
    assert joined_tokens(events) == recorded_answer(GREETING)
    assert redis_server.client.hget("eco2:job:1:state", "owner") != owner
    assert [joined_tokens(one) for one in later] == [recorded_answer(GREETING)] * 4


async def test_a_poison_job_takes_no_other_job_with_it(
    rabbit: RabbitProcess, redis_server: RedisProcess, store: RedisJobStore, tmp_path: Path
) -> None:
    """Eight jobs run on one worker, and one kills it each time: it is a dead letter, the seven others are answered."""
    queue = JobQueue(RabbitBroker(rabbit.url))
    at_once = {"ECO2_LEDGER_AT_ONCE": "1"}
    with fleet(tmp_path, rabbit, redis_server, count=1, answer_seconds=2, **at_once) as workers:
        await queue.startup()
        for number in range(8):
            message = QUESTIONS["greeting"] + (POISON if number == 3 else "")
            await submit(store, queue, job_id=str(number), message=message)
        answers = [await read(store, str(number)) for number in range(8)]
        await rabbit.until_length(1)
        await queue.shutdown()
        assert await asyncio.to_thread(workers.stop) == 0

    for events in answers:
        check_order(events)
    poison = answers.pop(3)
    assert (poison[-1].kind, poison[-1].data["type"]) == ("error", "poison")
    assert [joined_tokens(events) for events in answers] == [recorded_answer(GREETING)] * 7
    states = [await store.state(str(number)) for number in range(8)]
    assert [state.status for state in states] == ["done"] * 3 + ["dead"] + ["done"] * 4
    assert states[3].crashes >= 4
    check_costs(tmp_path / "fleet" / "ledger.db", states)


def _lease_ms(redis: RedisProcess) -> int:
    return int(redis.client.hget("eco2:job:1:state", "lease_ms"))


def _now_ms(redis: RedisProcess) -> int:
    seconds, microseconds = redis.client.time()
    return seconds * 1000 + microseconds // 1000


async def test_200_jobs_survive_random_kills(
    rabbit: RabbitProcess, redis_server: RedisProcess, store: RedisJobStore, tmp_path: Path
) -> None:
    """200 answers, each whole and in order; the ledger has every call of every attempt once, with its dollars."""
    chance = random.Random(18)
    queue = JobQueue(RabbitBroker(rabbit.url))
    kills = 0
    options = {"ECO2_WORKER_CONCURRENCY": "4", "ECO2_LEDGER_AT_ONCE": "1"}
    with fleet(tmp_path, rabbit, redis_server, count=3, answer_seconds=0.5, **options) as workers:
        await queue.startup()
        for number in range(JOBS):
            await submit(store, queue, job_id=str(number), message=QUESTIONS["greeting"])
        reading = [asyncio.create_task(read(store, str(number))) for number in range(JOBS)]
        next_kill = 5
        while (answered := sum(task.done() for task in reading)) < JOBS * 3 // 4:
            if answered >= next_kill and workers.pids:  # by progress: a slow machine has no more kills per job
                os.kill(chance.choice(workers.pids), signal.SIGKILL)
                kills, next_kill = kills + 1, answered + chance.randint(3, 12)
            await asyncio.sleep(chance.uniform(0.01, 0.2))
        answers = await asyncio.gather(*reading)
        await queue.shutdown()
        assert await asyncio.to_thread(workers.stop) == 0

    for events in answers:
        check_order(events)
        assert joined_tokens(events) == events[-1].data["answer"] == recorded_answer(GREETING)
    assert kills > 0
    assert await rabbit.length(DEAD_QUEUE) == 0
    states = [await store.state(str(number)) for number in range(JOBS)]
    assert sum(state.crashes for state in states) > 0

    calls = workers.records
    assert len({call["run_id"] for call in calls}) == len(calls)
    by_job = Counter((call["job_id"], call["node"]) for call in calls if call["status"] == "success")
    assert all(by_job[str(number), node] >= 1 for number in range(JOBS) for node in NODES)
    bills = [bill.usd for bill in bills_of_cassette(GREETING)]
    usd = sum(Decimal(call["usd"]) for call in calls if call["status"] == "success")
    counted = [sum(call["node"] == node and call["status"] == "success" for call in calls) for node in NODES]
    assert usd == sum(count * bill for count, bill in zip(counted, bills, strict=True))

    check_ledger(tmp_path / "fleet" / "ledger.db", calls, dict(zip(NODES, bills, strict=True)), kills)
    check_costs(tmp_path / "fleet" / "ledger.db", states)


def ledger_usd(path: Path) -> dict[str, Decimal]:
    """Return what the ledger says of each job's cost."""
    with closing(sqlite3.connect(path)) as ledger:
        rows = ledger.execute(
            "SELECT c.job_id, r.contracted_cost FROM calls c JOIN newest_ratings r USING (started_at, run_id)"
        ).fetchall()
    usd: dict[str, Decimal] = {}
    for job_id, cost in rows:
        usd[job_id] = usd.get(job_id, Decimal(0)) + Decimal(cost or 0).scaleb(-12)
    return usd


def check_costs(path: Path, states: list[JobState]) -> None:
    """Each job costs what the ledger says. A worker that dies as a call ends writes it there first: it is open."""
    usd = ledger_usd(path)
    for state in states:
        figures = figures_of(state.runs)
        cost, in_ledger = Decimal(figures["usd"] or 0), usd.get(state.job_id, Decimal(0))
        assert cost == in_ledger or (cost < in_ledger and figures["open_calls"]), state.job_id


def check_ledger(path: Path, calls: list[dict[str, Any]], bills: dict[str, Decimal], kills: int) -> None:
    """The ledger has every call of every attempt once, with its dollars; a request of a dead worker is marked."""
    with closing(sqlite3.connect(path)) as ledger:
        rows = ledger.execute(
            "SELECT c.run_id, c.node, c.status, r.contracted_cost FROM calls c "
            "LEFT JOIN newest_ratings r USING (started_at, run_id)"
        ).fetchall()
        (died,) = ledger.execute("SELECT count(*) FROM requests WHERE error_type = 'WorkerDied'").fetchone()
    in_ledger = {run_id: Decimal(cost or 0).scaleb(-12) for run_id, _, _, cost in rows}
    assert len(in_ledger) == len(rows)
    in_journal = {call["run_id"]: Decimal(call["usd"] or 0) for call in calls}
    assert in_journal.items() <= in_ledger.items()
    # A worker that dies between the two has written to the ledger, which comes first.
    assert len(in_ledger) - len(in_journal) <= kills * 4
    succeeded = Counter(node for _, node, status, _ in rows if status == "success")
    assert succeeded.keys() == bills.keys()
    usd = sum(in_ledger[run_id] for run_id, _, status, _ in rows if status == "success")
    assert usd == sum(number * bills[node] for node, number in succeeded.items())
    assert died > 0
