"""Jobs on the queue and the streams in memory: events, metrics, failures, duplicates, suspects and the end."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import GraphRun
from graph.cli import QUESTIONS
from graph.jobs import Delivery, Job
from graph.replay import replay
from graph.runtime import CASSETTES
from graph.streams import START, Claim, MemoryJobStore, NewJob, StoreUnavailableError, StreamEvent, figures_of
from tests.support import fake_runtime
from tests.support.cassette_bills import bills_of_cassette
from tests.support.fake_model import COST
from tests.support.record_sink import Records, exposed
from tests.support.worker_runs import (
    GREETING,
    joined_tokens,
    load_cassette,
    paced_greeting,
    read,
    recorded_answer,
    running_worker,
    submit,
    until,
    write_joined_cassette,
)

ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."


@pytest.fixture
def store() -> MemoryJobStore:
    return MemoryJobStore()


def kinds(events: list[StreamEvent]) -> list[str]:
    return [event.kind for event in events]


def assert_calls_lie_in_their_nodes(events: list[StreamEvent]) -> None:
    """Assert that each step starts once and ends once, and a call within the time of its node."""
    steps = [event.data for event in events if event.kind in {"node", "call"}]
    begun = [step["id"] for step in steps if step["status"] == "started"]
    ended = {step["id"]: step for step in steps if step["status"] == "ended"}
    assert sorted(begun) == sorted(ended)
    for call in (step for step in ended.values() if "node_id" in step):
        node = ended[call["node_id"]]
        assert (call["node"], call["type"]) == (node["node"], "model")
        assert node["at_seconds"] <= call["at_seconds"] + 0.002  # both are rounded
        assert call["at_seconds"] + call["seconds"] <= node["at_seconds"] + node["seconds"] + 0.004


async def test_the_events_of_a_job(store: MemoryJobStore, registry: CollectorRegistry, records: Records) -> None:
    """Nodes and tokens are in order, each node has its figures, and events, metrics and records have the same ones."""
    with replay(GREETING):
        async with running_worker(store, registry=registry, records=records) as (_, queue):
            await submit(store, queue, message=QUESTIONS["greeting"], session_id="s", user_id=7, tenant_id="acme")
            events = await read(store)

    usd = sum(bill.usd for bill in bills_of_cassette(GREETING))
    assert joined_tokens(events) == recorded_answer(GREETING) != ""
    assert [str(event.position) for event in events[:3]] == ["0-1", "1-0", "1-1"]
    nodes = [(event.data["node"], event.data["status"]) for event in events if event.kind == "node"]
    order = ["intent", "router", "general", "aggregator", "answer"]
    assert nodes == [(node, status) for node in order for status in ("started", "ended")]
    done = events[-1]
    for kind in ("node", "call"):
        ended = [event.data for event in events if event.kind == kind and event.data["status"] == "ended"]
        assert sum(Decimal(data["usd"]) for data in ended) == usd
        assert sum(data["tokens"]["total"] for data in ended) == done.data["tokens"]["total"]
        assert all(data["seconds"] >= 0 and data["outcome"] == "success" for data in ended)
    assert_calls_lie_in_their_nodes(events)
    assert (done.kind, done.data["answer"], done.data["intent"]) == ("done", joined_tokens(events), "greeting")
    assert Decimal(done.data["usd"]) == usd
    tokens = done.data["tokens"]
    assert tokens["input"] + tokens["output"] == tokens["total"] == exposed(registry, "llm_tokens_total")

    published = sum(event.kind == "token" for event in events)
    assert exposed(registry, "chat_stream_token_latency_seconds_count") == published > 3
    answered = {"intent": "greeting", "provider": "openai", "status": "success"}
    assert registry.get_sample_value("chat_requests_total", answered) == 1
    turnaround = {"intent": "greeting", "status": "success"}
    assert registry.get_sample_value("chat_turnaround_seconds_count", turnaround) == 1
    assert registry.get_sample_value("chat_job_wait_seconds_count", {"queue": "chat.process"}) == 1
    assert exposed(registry, "chat_job_redeliveries_total") == exposed(registry, "chat_jobs_dead_total") == 0
    request = records.request
    assert (request.job_id, request.session_id, request.user_id, request.tenant_id) == ("1", "s", "7", "acme")
    assert (await store.state("1")).trace_id == str(request.trace_id)
    assert figures_of((await store.state("1")).runs)["usd"] == done.data["usd"]


async def test_the_tokens_of_gemini_are_the_answer_too(store: MemoryJobStore, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gemini's chunks have another shape."""
    with replay(CASSETTES / "google" / "greeting.yaml"):
        monkeypatch.setenv("ECO2_PROVIDER", "google")
        async with running_worker(store) as (_, queue):
            await submit(store, queue, message=QUESTIONS["greeting"])
            events = await read(store)

    assert joined_tokens(events) == events[-1].data["answer"] != ""


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_the_concurrency_is_a_setting(store: MemoryJobStore, tmp_path: Path, concurrency: int) -> None:
    """Two jobs overlap with a concurrency of two, and do not with one. Each has its own tokens."""
    running: list[int] = []
    active = 0
    together = asyncio.Barrier(concurrency)

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        nonlocal active
        active += 1
        running.append(active)
        await together.wait()
        await asyncio.sleep(0.01)
        active -= 1
        return {}

    runtime = fake_runtime.runtime(tmp_path, router=router)
    async with running_worker(store, runtime=runtime, concurrency=concurrency) as (_, queue):
        for job_id in ("a", "b"):
            await submit(store, queue, job_id=job_id)
        events = [await read(store, job_id) for job_id in ("a", "b")]

    assert [joined_tokens(one) for one in events] == [ANSWER, ANSWER]
    assert max(running) == concurrency


async def test_a_failed_job_ends_its_stream(
    store: MemoryJobStore, registry: CollectorRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last event has the exception's class, no content, and what the job has cost; the job is not retried."""
    runtime = fake_runtime.runtime(tmp_path, router=fake_runtime.raise_timeout)
    async with running_worker(store, registry=registry, runtime=runtime) as (_, queue):
        await submit(store, queue)
        events = await read(store)

    assert events[-1].kind == "error"
    assert events[-1].data["type"] == "TimeoutError"
    assert "too late" not in events[-1].to_json()
    assert events[-1].data["usd"] == figures_of((await store.state("1")).runs)["usd"]
    assert (await store.state("1")).status == "error"
    assert registry.get_sample_value("chat_turnaround_seconds_count", {"intent": "greeting", "status": "error"}) == 1
    assert "Job 1 failed." in caplog.text


async def test_an_answer_without_a_model_is_published_too(store: MemoryJobStore, tmp_path: Path) -> None:
    """The answer is one token, and the last event contains the generated images."""

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        return {"answer": "고양이예요.", "images": ["data:image/png;base64,AAAA"]}

    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path, answer=answer)) as (_, queue):
        await submit(store, queue, message="고양이 그려줘")
        events = await read(store)

    assert joined_tokens(events) == events[-1].data["answer"] == "고양이예요."
    assert events[-1].data["images"] == ["data:image/png;base64,AAAA"]


async def test_a_conversation_belongs_to_its_user(store: MemoryJobStore, tmp_path: Path) -> None:
    """The session continues for its own user; another user with the same session id starts a new one."""
    found: list[Any] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        found.append(state.get("answer"))
        return {"intent": "greeting"}

    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path, intent=intent)) as (_, queue):
        for job_id, user in (("1", "a"), ("2", "a"), ("3", "b")):
            await submit(store, queue, job_id=job_id, session_id="s", user_id=user, tenant_id="acme")
            await read(store, job_id)

    assert found == [None, ANSWER, None]


async def test_a_job_that_comes_twice_runs_once(store: MemoryJobStore, tmp_path: Path, records: Records) -> None:
    """While the first one runs, and after its end: one run, one answer, paid once."""
    go = asyncio.Event()

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        await go.wait()
        return {}

    runtime = fake_runtime.runtime(tmp_path, router=router)
    async with running_worker(store, runtime=runtime, records=records) as (worker, queue):
        job = await submit(store, queue)
        await until(store, "node")
        second = asyncio.create_task(worker.run_job(job, Delivery()))
        await asyncio.sleep(0)
        go.set()
        events = await read(store)
        assert await second == "ack"
        assert await worker.run_job(job, Delivery(count=1)) == "ack"

    assert kinds(events).count("done") == kinds(events).count("started") == 1
    assert records.request.status == "success"


async def test_a_cancelled_job_keeps_what_it_cost(store: MemoryJobStore, tmp_path: Path, records: Records) -> None:
    """The run ends at once, the reader is told, and the cost so far is in state, event and record."""
    with replay(write_joined_cassette(tmp_path, paced_greeting(600)), speed=1):
        async with running_worker(store, records=records, lease_seconds=1) as (_, queue):
            await submit(store, queue, message=QUESTIONS["greeting"])
            await until(store, "token")
            await store.cancel("1", StreamEvent(START, "error", {"type": "cancelled"}))
            events = await read(store)

    state = await store.state("1")
    assert (events[-1].kind, events[-1].data["type"], state.status) == ("error", "cancelled", "cancelled")
    assert figures_of(state.runs)["usd"] == events[-1].data["usd"]
    assert Decimal(events[-1].data["usd"]) == records.request.cost.total_usd > 0
    assert recorded_answer(GREETING).startswith(joined_tokens(events))


async def test_a_job_that_waited_too_long_is_not_run(
    store: MemoryJobStore, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Its reader is gone; it becomes a dead letter and costs nothing. A younger one is answered."""
    runtime = fake_runtime.runtime(tmp_path)
    now = datetime.now(UTC)
    async with running_worker(store, registry=registry, runtime=runtime, max_wait_seconds=300) as (worker, _):
        old = Job(job_id="old", message="안녕!", accepted_at=now - timedelta(seconds=301))
        young = Job(job_id="young", message="안녕!", accepted_at=now - timedelta(seconds=200))
        verdicts = [await worker.run_job(job, Delivery()) for job in (old, young)]

    assert verdicts == ["dead", "ack"]
    assert (await read(store, "old"))[-1].data["type"] == "expired"
    assert (await store.state("young")).status == "done"
    dead = {"queue": "chat.process", "reason": "expired"}
    assert registry.get_sample_value("chat_jobs_dead_total", dead) == 1
    assert registry.get_sample_value("chat_job_wait_seconds_bucket", {"queue": "chat.process", "le": "60.0"}) == 0


class _HeldClaims(MemoryJobStore):
    """Answers no claim of job 1 while ``goes_on`` is clear."""

    def __init__(self) -> None:
        super().__init__()
        self.goes_on = asyncio.Event()
        self.goes_on.set()

    async def claim(self, job: NewJob, **options: Any) -> Claim:
        if job.job_id == "1":
            await self.goes_on.wait()
        return await super().claim(job, **options)


async def test_an_idle_worker_shows_no_busy_slot(registry: CollectorRegistry, tmp_path: Path) -> None:
    """A job that is sent twice holds a slot while that is found out. Afterwards the slot is not shown as busy."""
    store, runtime = _HeldClaims(), fake_runtime.runtime(tmp_path)
    job, other = (Job(job_id=name, message="안녕!", accepted_at=datetime.now(UTC)) for name in ("1", "2"))

    def busy() -> float | None:
        return registry.get_sample_value("chat_worker_slots_busy")

    async with running_worker(store, registry=registry, runtime=runtime) as (worker, _):
        await worker.run_job(job, Delivery())
        store.goes_on.clear()
        again = asyncio.create_task(worker.run_job(job, Delivery()))
        await worker.run_job(other, Delivery())
        while_claiming = busy()
        store.goes_on.set()
        await again

        assert (while_claiming, busy()) == (1, 0)


async def crash(store: MemoryJobStore, job: Job, *, alone: bool) -> None:
    """Leave what a worker leaves that dies while it runs the job."""
    await store.claim(job.described(), owner=uuid4().hex, alone=alone, lease_seconds=0, max_shared_crashes=1)


async def test_only_the_poison_job_becomes_a_dead_letter(
    store: MemoryJobStore, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Of eight jobs that were running in two crashes, the seven others are answered, each alone."""
    running, most = 0, 0

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return {}

    jobs = [Job(job_id=str(number), message="안녕!") for number in range(8)]
    for _ in range(2):
        for job in jobs:
            await crash(store, job, alone=False)
    for _ in range(3):
        await crash(store, jobs[3], alone=True)  # the poison takes its worker with it again

    runtime = fake_runtime.runtime(tmp_path, router=router)
    async with running_worker(store, registry=registry, runtime=runtime) as (worker, _):
        verdicts = await asyncio.gather(*(worker.run_job(job, Delivery(count=2)) for job in jobs))

    assert verdicts == ["ack"] * 3 + ["dead"] + ["ack"] * 4
    assert most == 1
    states = [await store.state(job.job_id) for job in jobs]
    assert [state.status for state in states] == ["done"] * 3 + ["dead"] + ["done"] * 4
    assert states[3].result["type"] == "poison"
    assert registry.get_sample_value("chat_jobs_dead_total", {"queue": "chat.process", "reason": "poison"}) == 1
    assert exposed(registry, "chat_job_redeliveries_total") == 8


@pytest.mark.parametrize(("alone", "verdict"), [(0, "ack"), (2, "ack"), (3, "dead")])
async def test_a_job_is_poison_after_three_crashes_alone(
    store: MemoryJobStore, tmp_path: Path, alone: int, verdict: str
) -> None:
    """Crashes beside others, or two alone, can have another reason."""
    job = Job(job_id="1", message="안녕!")
    for _ in range(2):
        await crash(store, job, alone=False)
    for _ in range(alone):
        await crash(store, job, alone=True)

    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path)) as (worker, _):
        assert await worker.run_job(job, Delivery(count=1)) == verdict


async def test_a_dead_letter_that_comes_back_goes_there_again(store: MemoryJobStore, tmp_path: Path) -> None:
    """Its verdict did not reach the queue. A second message of the job is none: it was answered with the first."""
    job = Job(job_id="1", message="안녕!", accepted_at=datetime.now(UTC) - timedelta(hours=2))
    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path)) as (worker, _):
        deliveries = [Delivery(), Delivery(count=1), Delivery()]
        verdicts = [await worker.run_job(job, delivery) for delivery in deliveries]

    assert verdicts == ["dead", "dead", "ack"]


async def test_a_job_delivered_too_often_is_poison(store: MemoryJobStore, tmp_path: Path) -> None:
    """The last resort, before the queue would drop the job without a word to its reader."""
    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path)) as (worker, _):
        assert await worker.run_job(Job(job_id="a", message="안녕!"), Delivery(count=19)) == "ack"
        assert await worker.run_job(Job(job_id="b", message="안녕!"), Delivery(count=20)) == "dead"


class LosingStore(MemoryJobStore):
    """A store whose first claims take effect, but whose replies are lost."""

    def __init__(self, *, lost_replies: int) -> None:
        super().__init__()
        self.lost_replies = lost_replies

    async def claim(self, *args: Any, **options: Any) -> Claim:
        claim = await super().claim(*args, **options)
        self.lost_replies -= 1
        if self.lost_replies >= 0:
            raise StoreUnavailableError("The connection was reset")
        return claim


async def test_a_claim_without_a_reply_is_no_duplicate(tmp_path: Path, registry: CollectorRegistry) -> None:
    """The worker claims again and gets its own run, so that the job is answered once, in its first run."""
    store = LosingStore(lost_replies=2)
    async with running_worker(store, registry=registry, runtime=fake_runtime.runtime(tmp_path)) as (worker, _):
        verdict = await worker.run_job(Job(job_id="1", message="안녕!"), Delivery())

    state = await store.state("1")
    assert (verdict, state.status, state.run, state.crashes) == ("ack", "done", 1, 0)
    assert exposed(registry, "chat_job_redeliveries_total") == 0


async def test_while_stopping_no_job_starts(store: MemoryJobStore, tmp_path: Path, records: Records) -> None:
    """A job that arrives is handed back, without a run."""
    async with running_worker(store, runtime=fake_runtime.runtime(tmp_path), records=records) as (worker, _):
        worker.stop()
        verdict = await worker.run_job(Job(job_id="1", message="안녕!"), Delivery())

    assert verdict == "requeue"
    assert records.of(GraphRun) == []


async def test_an_answer_that_outlasts_the_grace_shows_its_cost(
    store: MemoryJobStore, tmp_path: Path, records: Records
) -> None:
    """Without a durable queue the job ends with the worker: the reader's last event has what it cost."""
    hanging = asyncio.Event()

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        hanging.set()
        await asyncio.Event().wait()
        return {}

    runtime = fake_runtime.runtime(tmp_path, answer=answer)
    async with running_worker(store, runtime=runtime, records=records, grace_seconds=0) as (_, queue):
        await submit(store, queue)
        await hanging.wait()
    *_, last = await read(store)

    assert (last.kind, last.data["type"]) == ("error", "stopped")
    # the intent's call, two of the location, one of the search
    assert Decimal(last.data["usd"]) == records.request.cost.total_usd == 4 * COST


async def test_the_conversations_of_two_questions_are_apart(store: MemoryJobStore, tmp_path: Path) -> None:
    """Two jobs at once have their own tokens."""
    intents = ("greeting", "general")
    with replay(write_joined_cassette(tmp_path, *map(load_cassette, intents)), speed=20):
        async with running_worker(store) as (_, queue):
            for intent in intents:
                await submit(store, queue, job_id=intent, message=QUESTIONS[intent])
            first, second = [await read(store, intent) for intent in intents]

    assert joined_tokens(first) == recorded_answer(CASSETTES / "greeting.yaml")
    assert joined_tokens(second) == recorded_answer(CASSETTES / "general.yaml")
