"""What a job has cost: the last event and the state say what all its runs have paid, whatever became of them."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig

from graph.jobs import Delivery, Job
from graph.streams import CANCELLED, MemoryJobStore, figures_of
from graph.worker.run_events import RunEvents
from tests.support import fake_runtime
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records
from tests.support.spending import StoreOfOneWorker, spending
from tests.support.worker_runs import read, running_worker


@pytest.fixture
def job() -> Job:
    """A job that is accepted as its test begins: one of the module would expire in a slow suite."""
    return Job(job_id="1", message="안녕!")


async def paid(store: MemoryJobStore, records: Records) -> dict[str, Any]:
    """Return the job's figures when they have every call of the records."""
    while (figures := figures_of((await store.state("1")).runs))["open_calls"]:
        await asyncio.sleep(0.01)
    assert Decimal(figures["usd"]) == sum(call.cost.total_usd for call in records.calls)
    return figures


async def test_a_worker_that_lost_its_job_adds_its_last_call(job: Job, tmp_path: Path, records: Records) -> None:
    """A paused worker is taken over in the midst of a call: the call is marked, and counts as soon as it has ended."""
    answering, runs = asyncio.Event(), 0

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        nonlocal runs
        runs += 1
        slow = FakeModel(pause_seconds=3600 if runs == 1 else 0, on_pause=answering.set)
        return {"answer": (await slow.ainvoke("x")).text}

    store, runtime = MemoryJobStore(), fake_runtime.runtime(tmp_path, answer=answer)
    of_first: Any = StoreOfOneWorker(store)
    first = running_worker(of_first, runtime=runtime, records=records, lease_seconds=1)
    second = running_worker(store, runtime=runtime, records=records)
    async with first as (paused, _), second as (worker, _):
        lost = asyncio.create_task(paused.run_job(job, Delivery()))
        await answering.wait()
        while not figures_of((await store.state("1")).runs)["open_calls"]:
            await asyncio.sleep(0.01)
        of_first.goes_on.clear()
        assert await worker.run_job(job, Delivery(count=1)) == "ack"
        *_, last = await read(store)
        of_first.goes_on.set()
        await lost
        figures = await paid(store, records)

    # Four calls before the answer, whose nodes are not run again, and the second worker's answer.
    assert (last.kind, Decimal(last.data["usd"]), last.data["open_calls"]) == ("done", 5 * COST, 1)
    assert (last.data["tokens"]["total"], last.data["estimated"]) == (5 * 1100, False)
    assert Decimal(figures["usd"]) > 5 * COST
    assert figures["estimated"]


async def test_a_run_that_only_writes_the_outcome_shows_the_cost_before(
    job: Job, tmp_path: Path, records: Records
) -> None:
    """A worker that died after the graph's end: the answer costs what its calls have cost, not nothing."""
    store, runtime = MemoryJobStore(), fake_runtime.runtime(tmp_path)
    dying: Any = StoreOfOneWorker(store, loses_outcomes=True)
    async with running_worker(dying, runtime=runtime, records=records, lease_seconds=1) as (worker, _):
        died = asyncio.create_task(worker.run_job(job, Delivery()))
        await dying.outcome_lost.wait()
        died.cancel()
        await asyncio.gather(died, return_exceptions=True)
    async with running_worker(store, runtime=runtime, records=records) as (worker, _):
        assert await worker.run_job(job, Delivery(count=1)) == "ack"
    *_, last = await read(store)
    figures = await paid(store, records)

    assert (last.kind, last.position.run) == ("done", 2)
    assert {name: last.data[name] for name in figures} == figures
    assert Decimal(figures["usd"]) == 5 * COST


async def test_a_call_without_a_record_is_not_open_for_ever(job: Job, tmp_path: Path) -> None:
    """When the request has its record, no record follows: a call that began for the worker's own callback is over."""

    async def answer(state: fake_runtime.State, config: RunnableConfig) -> fake_runtime.State:
        (events,) = [one for one in config["callbacks"].handlers if isinstance(one, RunEvents)]
        events.on_chat_model_start({}, [[]], run_id=uuid4())
        return {"answer": "안녕!"}

    store = MemoryJobStore()
    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path, answer=answer)) as (worker, _):
        await worker.run_job(job, Delivery())
    *_, last = await read(store)

    assert (last.data["answer"], last.data["open_calls"]) == ("안녕!", 0)


async def test_a_job_cancelled_in_a_dead_run_is_not_paid_again(job: Job, tmp_path: Path, records: Records) -> None:
    """The next worker starts no model call for it."""
    store, described = MemoryJobStore(), job.described()
    await store.accept(described)
    await store.claim(described, owner="dead", alone=False, lease_seconds=1, max_shared_crashes=1)
    await store.cancel("1", CANCELLED)

    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path), records=records) as (worker, _):
        verdict = await worker.run_job(job, Delivery(count=1))
    *_, last = await read(store)

    assert (verdict, last.data["type"], records.all) == ("ack", "cancelled", [])
    assert (await store.state("1")).status == "cancelled"


@pytest.mark.parametrize("crashes_alone", [0, 3], ids=["answered", "poison"])
async def test_dead_runs_are_in_the_cost(job: Job, tmp_path: Path, records: Records, crashes_alone: int) -> None:
    """What killed workers had paid counts in the answer and in the dead letter; their open calls are marked."""
    store, runs = MemoryJobStore(), 2 + crashes_alone
    for run in range(1, runs + 1):
        described, owner = job.described(), f"dead-{run}"
        await store.claim(described, owner=owner, alone=run > 2, lease_seconds=0, max_shared_crashes=1)
        cost = spending(run, "0.5", open_calls=1)
        await store.append(described, run, (), owner=owner, lease_seconds=0, spending=cost)

    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path), records=records) as (worker, _):
        verdict = await worker.run_job(job, Delivery(count=1))
    *_, last = await read(store)

    own = sum(call.cost.total_usd for call in records.calls)
    assert (verdict, own) == (("dead", 0) if crashes_alone else ("ack", 5 * COST))
    assert Decimal(last.data["usd"]) == runs * Decimal("0.5") + own
    assert last.data["open_calls"] == runs
