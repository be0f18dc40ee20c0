"""Streams across faults: cut readers, and a Redis that restarts, loses its data, is slow or is full."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractContextManager, aclosing, nullcontext
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from graph.jobs import Delivery, Job
from graph.streams import (
    JobStore,
    MemoryJobStore,
    NewJob,
    Position,
    Publisher,
    RedisJobStore,
    StreamEvent,
    connect_redis,
    follow,
)
from tests.support import fake_runtime
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records
from tests.support.redis_process import RedisProcess, redis_process
from tests.support.worker_runs import joined_tokens, read, running_worker

JOB = NewJob(job_id="j", accepted_at=datetime(2026, 11, 29, tzinfo=UTC))
WORDS = [f"{number} " for number in range(200)]


class Reader:
    """Reads the stream as a browser does: it keeps the last id, and starts again from it after a cut."""

    def __init__(self, store: JobStore, *, cut_after: Callable[[], int]) -> None:
        self._store, self._cut_after = store, cut_after
        self.recoveries: list[tuple[str, str]] = []
        self.positions: list[Position] = []
        self.answer = ""
        self.last: StreamEvent | None = None

    async def read(self) -> None:
        after = None
        while self.last is None:
            left = self._cut_after()
            events = follow(self._store, "j", after=after, on_recovery=lambda *pair: self.recoveries.append(pair))
            async with aclosing(events) as events:  # type: ignore[type-var]
                async for event in events:
                    self._take(event)
                    after = event.position
                    left -= 1
                    if left == 0:
                        break

    def _take(self, event: StreamEvent) -> None:
        if event.kind == "snapshot":
            self.answer = event.data["answer"]
        else:
            self.answer += event.text
            if not self.positions or event.position != self.positions[-1]:
                self.positions.append(event.position)
        if event.is_last:
            self.last = event


def cuts(seed: int) -> Callable[[], int]:
    """Return a function for the number of events until the next cut."""
    chance = random.Random(seed)
    return lambda: chance.randint(1, 40)


async def publish(store: JobStore) -> Publisher:
    """Write all words as one run, and end it."""
    claim = await store.claim(JOB, owner="w", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher = Publisher(store, JOB, claim.run, owner="w", lease_seconds=60)
    for word in WORDS:
        publisher.put("token", node="answer", text=word)
        await asyncio.sleep(0.002)
    assert await publisher.finish("done", "done", answer="".join(WORDS))
    return publisher


def check(reader: Reader) -> None:
    """Nothing is lost, nothing is doubled, everything is in order."""
    assert reader.answer == "".join(WORDS)
    assert reader.last is not None
    assert reader.last.data["answer"] == "".join(WORDS)
    assert reader.positions == sorted(set(reader.positions))
    assert all(status == "success" for _, status in reader.recoveries)


@pytest.fixture
def server(tmp_path: Path) -> Any:
    with redis_process(tmp_path / "redis") as server:
        yield server


@pytest.fixture
async def redis_store(server: RedisProcess) -> AsyncIterator[RedisJobStore]:
    store = RedisJobStore(connect_redis(server.url))
    yield store
    await store.aclose()


@pytest.mark.parametrize("kind", ["memory", "redis"])
@pytest.mark.parametrize("max_events", [10_000, 15])
async def test_readers_that_are_cut_at_random_places(
    request: pytest.FixtureRequest, server: RedisProcess, kind: str, max_events: int
) -> None:
    """Each of ten readers is cut after a random number of events, again and again, and has the whole answer."""
    store: JobStore = (
        MemoryJobStore(max_events=max_events)
        if kind == "memory"
        else RedisJobStore(connect_redis(server.url), max_events=max_events)
    )
    await store.accept(JOB)
    readers = [Reader(store, cut_after=cuts(seed)) for seed in range(10)]

    async with aclosing(store):
        await asyncio.gather(publish(store), *(reader.read() for reader in readers))

    for reader in readers:
        check(reader)
        assert reader.recoveries


@pytest.mark.parametrize("fault", ["restart", "data_loss", "paused", "full"])
async def test_a_stream_survives_a_fault_of_redis(server: RedisProcess, redis_store: RedisJobStore, fault: str) -> None:
    """The publisher never waits, the run ends, and readers from before, cut or not, have the whole answer."""
    await redis_store.accept(JOB)
    steady = Reader(redis_store, cut_after=lambda: -1)
    cut = Reader(redis_store, cut_after=cuts(1))
    reading = [asyncio.create_task(reader.read()) for reader in (steady, cut)]
    publishing = asyncio.create_task(publish(redis_store))
    while len(steady.positions) < 40:
        await asyncio.sleep(0.005)

    during: AbstractContextManager[Any] = {"paused": server.paused, "full": server.full}.get(fault, nullcontext)()
    with during:
        if fault in {"restart", "data_loss"}:
            server.kill()
        await asyncio.sleep(0.3)  # the fault lasts; the words go on meanwhile
    if fault == "data_loss":
        server.lose_data()
    if fault in {"restart", "data_loss"}:
        server.start()
    await asyncio.gather(publishing, *reading)

    check(steady)
    check(cut)
    assert (await redis_store.state("j")).status == "done"


async def test_a_store_behind_its_own_past_gets_the_lost_events_again(
    server: RedisProcess, redis_store: RedisJobStore
) -> None:
    """A restarted server can have lost the last second; the events come again with the same ids."""
    await redis_store.accept(JOB)
    claim = await redis_store.claim(JOB, owner="w", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher = Publisher(redis_store, JOB, claim.run, owner="w", lease_seconds=60)
    for word in WORDS[:50]:
        publisher.put("token", node="answer", text=word)
    while (await redis_store.snapshot("j")).position.seq < 50:
        await asyncio.sleep(0.01)
    before = await redis_store.read("j", Position(1, 0), wait_seconds=0)

    for event in before[30:]:  # what such a restart leaves behind
        server.client.xdel("eco2:job:j:events", str(event.position))
    server.client.hset("eco2:job:j:state", "seq", "30")
    server.client.set("eco2:job:j:answer", "".join(WORDS[:30]))
    server.client.xtrim("eco2:job:j:events", maxlen=1000)
    server.client.execute_command("XSETID", "eco2:job:j:events", "1-30")
    await publisher.finish("done", "done", answer="")

    after = await redis_store.read("j", Position(1, 0), wait_seconds=0)
    assert list(after[:50]) == list(before)
    assert (await redis_store.snapshot("j")).answer == "".join(WORDS[:50])


class SlowStore(MemoryJobStore):
    """A store that takes long for each write, and counts them."""

    def __init__(self) -> None:
        super().__init__()
        self.writes = 0
        self.go = asyncio.Event()

    async def append(self, *args: Any, **options: Any) -> Any:
        self.writes += 1
        await self.go.wait()
        return await super().append(*args, **options)


async def test_writes_are_batched_when_the_store_is_behind() -> None:
    """Putting a token never waits; what has gathered meanwhile is written in a few batches."""
    store, written = SlowStore(), []
    claim = await store.claim(JOB, owner="w", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher = Publisher(
        store, JOB, claim.run, owner="w", lease_seconds=60, on_written=lambda *pair: written.append(pair)
    )

    for number in range(5000):
        publisher.put("token", node="answer", text=f"{number} ")
        await asyncio.sleep(0)
    assert store.writes == 1
    store.go.set()
    await publisher.finish("done", "done", answer="")

    assert store.writes <= 4
    assert (await store.snapshot("j")).answer == "".join(f"{number} " for number in range(5000))
    assert len(written) < 100
    assert {node for node, _ in written} == {"answer"}


@pytest.mark.parametrize(("max_batch", "writes"), [(1, 31), (10, 4), (200, 1)])
async def test_a_write_has_at_most_so_many_events(max_batch: int, writes: int) -> None:
    """The events are the same, whatever fits into one write."""
    store = SlowStore()
    store.go.set()
    claim = await store.claim(JOB, owner="w", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher = Publisher(store, JOB, claim.run, owner="w", lease_seconds=60, max_batch=max_batch)
    for number in range(30):
        publisher.put("token", node="answer", text=f"{number} ")
    await publisher.finish("done", "done", answer="")

    assert store.writes == writes
    assert (await store.snapshot("j")).answer == "".join(f"{number} " for number in range(30))


async def test_nodes_are_never_merged_with_tokens() -> None:
    """When the store is behind, only neighbouring pieces of one node's text are joined."""
    store = SlowStore()
    claim = await store.claim(JOB, owner="w", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher = Publisher(store, JOB, claim.run, owner="w", lease_seconds=60)
    for number in range(200):
        publisher.put("token", node="answer", text=f"a{number} ")
    publisher.put("node", node="answer", status="ended")
    for number in range(200):
        publisher.put("token", node="answer", text=f"b{number} ")
    store.go.set()
    await publisher.finish("done", "done", answer="")

    events = await store.read("j", Position(1, 0), wait_seconds=0)
    texts = "".join(event.text or f"<{event.kind}>" for event in events)
    before, _, after = texts.partition("<node>")
    assert before == "".join(f"a{number} " for number in range(200))
    assert after.removesuffix("<done>") == "".join(f"b{number} " for number in range(200))


async def test_a_run_renews_its_lease_without_events() -> None:
    """A long model call without tokens is no dead run."""
    store = SlowStore()
    store.go.set()
    await store.claim(JOB, owner="w", alone=False, lease_seconds=0, max_shared_crashes=1)
    publisher = Publisher(store, JOB, 1, owner="w", lease_seconds=3)

    while store.writes < 2:
        await asyncio.sleep(0.01)
    other = await store.claim(JOB, owner="v", alone=False, lease_seconds=1, max_shared_crashes=1)
    await publisher.stop()

    assert other.outcome == "held"


async def test_a_fenced_publisher_ends() -> None:
    """Its run is told, and its outcome is not written."""
    store = MemoryJobStore()
    await store.claim(JOB, owner="w", alone=False, lease_seconds=0, max_shared_crashes=1)
    publisher = Publisher(store, JOB, 1, owner="w", lease_seconds=0)
    await store.claim(JOB, owner="v", alone=False, lease_seconds=60, max_shared_crashes=1)
    publisher.put("token", node="answer", text="ghost")

    await asyncio.wait_for(publisher.fenced.wait(), 60)

    assert not await publisher.finish("done", "done", answer="ghost")
    assert (await store.state("j")).status == "running"


async def test_a_reader_gives_up_without_a_store(server: RedisProcess, redis_store: RedisJobStore) -> None:
    """After its time the stream ends, and the recovery counts as an error."""
    counted: list[tuple[str, str]] = []
    await redis_store.accept(JOB)
    server.kill()

    events = follow(redis_store, "j", on_recovery=lambda *pair: counted.append(pair), give_up_seconds=0.3)

    assert [event async for event in events] == []
    assert counted == [("catch_up", "error")]


async def test_half_a_character_ends_no_run(redis_store: RedisJobStore, tmp_path: Path) -> None:
    """A model streams the halves of a surrogate pair apart, and a lone one: the answer has the character."""

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        model = FakeModel(words=["ok ", "\ud83d", "\ude00", " \ud83d!"])
        return {"answer": "".join([chunk.text async for chunk in model.astream("?")])}

    runtime = fake_runtime.runtime(tmp_path, answer=answer)
    async with running_worker(redis_store, runtime=runtime) as (worker, _):
        verdict = await worker.run_job(Job(job_id="j", message="?"), Delivery())
        events = await read(redis_store, "j")

    assert (verdict, events[-1].kind) == ("ack", "done")
    assert events[-1].data["answer"] == "ok \N{GRINNING FACE} \ufffd!"
    assert joined_tokens(events) == "ok \ufffd\ufffd \ufffd!"


@pytest.mark.parametrize("kind", ["token", "done"])
async def test_an_event_that_cannot_be_written_ends_the_job_once(
    redis_store: RedisJobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: Records, kind: str
) -> None:
    """In the midst of the answer or at its end: the reader gets an error and the cost, and no worker repeats it."""
    append = redis_store.append

    async def fail(job: NewJob, run: int, events: Any, **options: Any) -> Any:
        if any(event.kind == kind for event in events):
            raise TypeError("secret")
        return await append(job, run, events, **options)

    monkeypatch.setattr(redis_store, "append", fail)
    async with running_worker(redis_store, runtime=fake_runtime.runtime(tmp_path), records=records) as (worker, _):
        verdict = await worker.run_job(Job(job_id="j", message="?"), Delivery())
        *_, last = await read(redis_store, "j")

    assert (verdict, last.kind, last.data["type"]) == ("ack", "error", "TypeError")
    assert Decimal(last.data["usd"]) == records.request.cost.total_usd > 0
    assert (await redis_store.state("j")).status == "error"
    assert "secret" not in str(last.data)
