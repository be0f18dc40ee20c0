"""Jobs on a real RabbitMQ and Redis: duplicates, dead letters, lost connections, outages, hand-back and bounds."""

from __future__ import annotations

import asyncio
import json
import logging
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import GraphRun
from graph.cli import main
from graph.jobs import (
    DEAD_QUEUE,
    QUEUE,
    Job,
    JobQueue,
    QueueUnavailableError,
    RabbitBroker,
    replay_dead_letters,
)
from graph.streams import JobNotFoundError, RedisJobStore, figures_of
from tests.support import fake_runtime
from tests.support.rabbit_process import RabbitProcess
from tests.support.record_sink import Records, exposed
from tests.support.redis_process import RedisProcess
from tests.support.worker_runs import joined_tokens, read, running_worker, submit, until

# Normally within a second.
_RECOVERY_SECONDS = 60.0
ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."


def queue_of(rabbit: RabbitProcess, **options: Any) -> JobQueue:
    return JobQueue(RabbitBroker(rabbit.url, **{"prefetch": 8} | options))


class Gate:
    """A node that waits until it is opened, and counts who came."""

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.came = 0

    async def __call__(self, state: fake_runtime.State) -> fake_runtime.State:
        self.came += 1
        await self.open.wait()
        return {}


async def test_a_job_of_another_program(rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path) -> None:
    """A message on the exchange is enough: the job is answered, and its message is gone."""
    async with running_worker(store, queue_of(rabbit), runtime=fake_runtime.runtime(tmp_path)):
        await rabbit.send({"job_id": 7, "message": "안녕!", "tenant_id": "acme"})
        events = await read(store, "7")

    assert joined_tokens(events) == events[-1].data["answer"] == ANSWER
    assert (await store.state("7")).tenant_id == "acme"
    assert (await rabbit.length(QUEUE), await rabbit.length(DEAD_QUEUE)) == (0, 0)
    queues = rabbit.ctl("-q", "list_queues", "name", "type", "arguments").splitlines()
    for name, limit in ((QUEUE, 25), (DEAD_QUEUE, 1_000_000)):
        (queue,) = [line for line in queues if line.startswith(f"{name}\t")]
        assert queue.startswith(f"{name}\tquorum\t")
        assert f'"x-delivery-limit",{limit}' in queue.replace(" ", "")


@pytest.mark.parametrize(
    ("body", "job_id", "reason"),
    [
        pytest.param(b"{not JSON, and secret", None, "it is no JSON", id="no_json"),
        pytest.param(b"\xff\xfe secret", None, "it is no JSON", id="no_utf_8"),
        pytest.param(b"[" * 100_000, None, "it is no JSON", id="deep"),
        pytest.param(b'["secret"]', None, "it is no TaskIQ message", id="no_object"),
        pytest.param(b'{"task_name": "secret"}', None, "it is no TaskIQ message for", id="no_job"),
        pytest.param({"message": "secret"}, None, "job_id: Field required", id="no_id"),
        pytest.param({"job_id": "a\nFAKE LOG secret"}, None, "job_id: Value error, wanted 1 to 128", id="newline"),
        pytest.param({"job_id": "x" * 129}, None, "job_id: Value error, wanted 1 to 128", id="long_id"),
        pytest.param({"job_id": "m1"}, "m1", "message and image are both empty", id="no_content"),
        pytest.param(
            {"job_id": "m2", "image": "https://secret.example/x.png"}, "m2", "addresses are not fetched", id="address"
        ),
        pytest.param({"job_id": "m3", "message": "x" * 8001}, "m3", "at most 8000 characters", id="long_message"),
        pytest.param(
            {"job_id": "m4", "message": "x", "tenant_id": "t" * 1_000_000}, "m4", "tenant_id", id="long_tenant"
        ),
        pytest.param(
            {"job_id": "m5", "image": "data:image/png;base64," + "A" * 7_000_000}, "m5", "too large", id="large_image"
        ),
        pytest.param(
            {"job_id": "m6", "image": "data:image/png;base64,c2VjcmV0"}, "m6", "of an unknown type", id="no_image"
        ),
    ],
)
async def test_a_malformed_job_becomes_a_dead_letter(
    rabbit: RabbitProcess,
    store: RedisJobStore,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    body: bytes | dict[str, Any],
    job_id: str | None,
    reason: str,
) -> None:
    """Its reader gets an error if the id can be read, it is counted and logged without content, the next job runs."""
    registry = CollectorRegistry()
    async with running_worker(store, queue_of(rabbit), registry=registry, runtime=fake_runtime.runtime(tmp_path)) as (
        _,
        queue,
    ):
        await rabbit.send(body)
        await submit(store, queue)
        assert joined_tokens(await read(store)) == ANSWER
        await rabbit.until_length(1)

    assert registry.get_sample_value("chat_jobs_dead_total", {"queue": QUEUE, "reason": "malformed"}) == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert reason in line
    assert "secret" not in line
    assert len(line.splitlines()) == 1
    if job_id is not None:
        (event,) = await read(store, job_id)
        assert (event.kind, event.data["type"]) == ("error", "malformed")
        assert reason in event.data["detail"]


@pytest.mark.parametrize(
    "envelope",
    [
        pytest.param({"labels": {"ack_type": "x"}}, id="ack_type"),
        pytest.param({"labels": {"timeout": 0.001}}, id="timeout"),
        pytest.param({"labels_types": "x"}, id="types"),
    ],
)
async def test_a_producer_s_labels_say_nothing_to_taskiq(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, envelope: dict[str, Any]
) -> None:
    """Valid jobs are answered whatever stands beside them, and the worker goes on with the next one."""
    runtime = fake_runtime.runtime(tmp_path)
    async with running_worker(store, queue_of(rabbit, prefetch=2), runtime=runtime, concurrency=2) as (_, queue):
        for job_id in ("a", "b"):
            message = {"task_id": job_id, "task_name": QUEUE, "labels": {}, "args": []}
            kwargs = {"job": {"job_id": job_id, "message": "안녕!"}}
            await rabbit.send(json.dumps({**message, "kwargs": kwargs, **envelope}).encode())
        await submit(store, queue, job_id="good")
        async with asyncio.timeout(_RECOVERY_SECONDS):
            answers = [joined_tokens(await read(store, job_id)) for job_id in ("a", "b", "good")]

    assert answers == [ANSWER] * 3
    assert await rabbit.length(DEAD_QUEUE) == 0


async def test_a_job_sent_twice_runs_once(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """The second message is dropped while the first one runs, and after its end: one answer, paid once."""
    caplog.set_level(logging.INFO, "graph.worker")
    gate = Gate()
    job = {"job_id": "1", "message": "안녕!"}
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    async with running_worker(store, queue_of(rabbit), runtime=runtime, records=records):
        await rabbit.send(job)
        await until(store, "node")
        await rabbit.send(job)
        while "was sent twice" not in caplog.text:
            await asyncio.sleep(0.02)
        gate.open.set()
        events = await read(store)
        await rabbit.send(job)
        await rabbit.until_length(0, QUEUE)

    assert [event.kind for event in events].count("done") == 1
    assert records.request.status == "success"
    assert gate.came == 1


async def test_a_poison_job_can_be_run_again(
    rabbit: RabbitProcess,
    store: RedisJobStore,
    redis_server: RedisProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It lies in the dead-letter queue; the command lists it and puts it back, and it is answered."""
    job = Job(job_id="p", message="안녕!")
    for alone in (False, False, True, True, True):
        await store.claim(job.described(), owner=uuid4().hex, alone=alone, lease_seconds=0, max_shared_crashes=1)
    runtime = fake_runtime.runtime(tmp_path)
    async with running_worker(store, queue_of(rabbit), runtime=runtime) as (_, queue):
        await queue.publish(job)
        await rabbit.until_length(1)
        dead = await store.state("p")
    monkeypatch.setenv("ECO2_AMQP_URL", rabbit.url)
    monkeypatch.setenv("ECO2_REDIS_URL", redis_server.url)

    assert await asyncio.to_thread(main, ["dead-letters"]) == 0
    listed = capsys.readouterr().out
    assert await asyncio.to_thread(main, ["dead-letters", "--replay", "--job", "other"]) == 1
    assert await asyncio.to_thread(main, ["dead-letters", "--replay", "--job", "p"]) == 0
    async with running_worker(store, queue_of(rabbit), runtime=runtime):
        events = await read(store, "p")

    assert (dead.status, dead.result["type"]) == ("dead", "poison")
    assert "p " in listed
    assert "rejected" in listed
    assert joined_tokens(events) == ANSWER
    assert await rabbit.length(DEAD_QUEUE) == 0


@pytest.mark.parametrize("is_kept", [True, False], ids=["kept", "expired"])
async def test_an_old_dead_letter_is_answered(
    rabbit: RabbitProcess, store: RedisJobStore, redis_server: RedisProcess, tmp_path: Path, is_kept: bool
) -> None:
    """The cause may take hours to correct: a job that was put back has waited from then on, known or not."""
    job = Job(job_id="old", message="안녕!", accepted_at=datetime.now(UTC) - timedelta(hours=2))
    async with running_worker(store, queue_of(rabbit), runtime=fake_runtime.runtime(tmp_path)) as (_, queue):
        await queue.publish(job)
        (*_, expired) = await read(store, "old")
        await rabbit.until_length(1)
        if not is_kept:
            redis_server.client.flushall()
        before = datetime.now(UTC)
        replayed = await replay_dead_letters(rabbit.url, store)
        while not (await store_has(store, "old")):
            await asyncio.sleep(0.01)
        events = await read(store, "old")
        state = await store.state("old")

    assert (expired.data["type"], replayed) == ("expired", ["old"])
    assert joined_tokens(events) == ANSWER
    assert state.accepted_at is not None
    assert state.accepted_at >= before
    assert (state.run, state.crashes) == (2, 0)  # so that it goes on at its checkpoint
    assert await rabbit.length(DEAD_QUEUE) == 0


async def store_has(store: RedisJobStore, job_id: str) -> bool:
    """Return whether a worker has created the job's state."""
    try:
        return (await store.state(job_id)).status != "dead"
    except JobNotFoundError:
        return False


@pytest.mark.slow
async def test_a_lost_connection_repeats_no_job(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, records: Records
) -> None:
    """The broker delivers the job again, to the same worker or another; the run goes on, paid once."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    async with (
        running_worker(store, queue_of(rabbit), runtime=runtime, records=records) as (_, queue),
        running_worker(store, queue_of(rabbit), runtime=runtime, records=records),
    ):
        await submit(store, queue)
        await until(store, "node")
        await asyncio.to_thread(rabbit.close_connections)
        await asyncio.sleep(2)  # both are connected again, and one has the job a second time
        gate.open.set()
        events = await read(store)
        await rabbit.until_length(0, QUEUE)

    assert joined_tokens(events) == ANSWER
    assert [event.kind for event in events].count("started") == 1
    assert records.request.status == "success"


async def test_a_restart_of_redis_repeats_no_job(
    rabbit: RabbitProcess, store: RedisJobStore, redis_server: RedisProcess, tmp_path: Path, records: Records
) -> None:
    """While Redis is away the graph goes on; afterwards everything is written at once, paid once."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    async with running_worker(store, queue_of(rabbit), runtime=runtime, records=records) as (_, queue):
        await submit(store, queue)
        await until(store, "node")
        redis_server.kill()
        gate.open.set()
        while not records.of(GraphRun):
            await asyncio.sleep(0.02)
        redis_server.start()
        events = await read(store)

    assert joined_tokens(events) == events[-1].data["answer"] == ANSWER
    assert [run.status for run in records.of(GraphRun)] == ["success"]


async def test_a_full_redis_loses_no_job(
    rabbit: RabbitProcess, store: RedisJobStore, redis_server: RedisProcess, tmp_path: Path, records: Records
) -> None:
    """Eight jobs run while nothing can be written, and eight more arrive; all are answered soon after there is room."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    async with running_worker(store, queue_of(rabbit), runtime=runtime, records=records) as (_, queue):
        for number in range(8):
            await submit(store, queue, job_id=str(number))
        while gate.came < 8:
            await asyncio.sleep(0.01)
        with redis_server.full():
            for number in range(8, 16):
                await rabbit.send({"job_id": str(number), "message": "안녕!"})
            gate.open.set()
            while len(records.of(GraphRun)) < 8:
                await asyncio.sleep(0.02)
            await asyncio.sleep(1)
        async with asyncio.timeout(_RECOVERY_SECONDS):
            answers = [joined_tokens(await read(store, str(number))) for number in range(16)]

    assert answers == [ANSWER] * 16
    assert [run.status for run in records.of(GraphRun)] == ["success"] * 16
    assert await rabbit.length(DEAD_QUEUE) == 0


async def test_a_job_longer_than_the_grace_is_handed_back(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, records: Records
) -> None:
    """Another worker goes on at once, after the finished nodes; it is no crash, and the cost of both runs is shown."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    async with running_worker(store, queue_of(rabbit), runtime=runtime, records=records, grace_seconds=0) as (_, queue):
        await submit(store, queue)
        while not gate.came:
            await asyncio.sleep(0.01)
    handed_back = await store.state("1")
    gate.open.set()
    registry = CollectorRegistry()
    async with running_worker(store, queue_of(rabbit), registry=registry, runtime=runtime, records=records):
        events = await read(store)

    assert (handed_back.status, handed_back.crashes) == ("queued", 0)
    assert joined_tokens(events) == ANSWER
    first, second = records.of(GraphRun)
    assert (first.status, second.status) == ("cancelled", "success")
    assert [call.node for call in records.calls].count("intent") == 1
    state = await store.state("1")
    assert (state.run, state.crashes) == (2, 0)
    usd = first.cost.total_usd + second.cost.total_usd
    assert Decimal(events[-1].data["usd"]) == Decimal(figures_of(state.runs)["usd"]) == usd
    assert exposed(registry, "chat_job_redeliveries_total") == 1


async def test_jobs_wait_for_a_free_worker(rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path) -> None:
    """A worker takes as many jobs as it has slots; the queue says how many wait, and two workers share them."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    slots = {"concurrency": 2}
    async with running_worker(store, queue_of(rabbit, prefetch=2), runtime=runtime, **slots) as (_, queue):
        for number in range(7):
            await submit(store, queue, job_id=str(number))
        while gate.came < 2:
            await asyncio.sleep(0.01)
        waiting = await queue.waiting()
        async with running_worker(store, queue_of(rabbit, prefetch=2), runtime=runtime, **slots):
            while gate.came < 4:
                await asyncio.sleep(0.01)
            fewer = await queue.waiting()
            gate.open.set()
            for number in range(7):
                await read(store, str(number))

    assert (waiting, fewer) == (5, 3)


async def test_a_full_queue_refuses_jobs(rabbit: RabbitProcess, store: RedisJobStore) -> None:
    """The producer gets an error, so that the API can answer 503; nothing is dropped in silence."""
    queue = queue_of(rabbit)
    await queue.startup()
    try:
        policy = ["set_policy", "full", "^chat.process$", json.dumps({"max-length": 2}), "--apply-to", "queues"]
        await asyncio.to_thread(rabbit.ctl, *policy)
        refused: list[bool] = []
        for number in range(50):
            try:
                await queue.publish(Job(job_id=str(number), message="안녕!"))
            except QueueUnavailableError as error:
                refused.append(error.is_refused)
    finally:
        await asyncio.to_thread(rabbit.ctl, "clear_policy", "full")
        await queue.shutdown()

    assert refused
    assert all(refused)
    assert await rabbit.length(QUEUE) == 50 - len(refused) >= 2


async def test_a_queue_of_another_length_is_used_as_it_is(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """One error names the setting and the queue's own length, and jobs are answered."""
    first = queue_of(rabbit)
    await first.startup()
    await first.shutdown()
    other = queue_of(rabbit, max_waiting=20_000)
    async with running_worker(store, other, runtime=fake_runtime.runtime(tmp_path)) as (_, queue):
        await submit(store, queue)
        answer = joined_tokens(await read(store))

    assert (first.has_other_length, other.has_other_length, answer) == (False, True, ANSWER)
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.startswith("The queue 'chat.process' keeps the maximum length that it was made with")
    assert "ECO2_MAX_WAITING_JOBS" in line
    assert "10000" in line


async def test_a_connection_that_was_there_for_a_moment_may_have_taken_the_job(monkeypatch: pytest.MonkeyPatch) -> None:
    """So the job is not refused: its state stays, and a worker that gets it is paid once."""
    broker, connected = RabbitBroker("amqp://127.0.0.1:1/"), asyncio.Event()
    monkeypatch.setattr(broker, "write_conn", SimpleNamespace(connected=connected))

    async def kick(message: Any) -> None:
        await asyncio.sleep(0)
        connected.set()
        connected.clear()
        await asyncio.sleep(0)
        raise ConnectionResetError

    monkeypatch.setattr(broker, "kick", kick)

    with pytest.raises(QueueUnavailableError) as error:
        await JobQueue(broker).publish(Job(job_id="1", message="안녕!"))

    assert not error.value.is_refused


async def test_without_rabbitmq_a_producer_gets_an_error() -> None:
    """Neither start nor publishing hangs."""
    queue = JobQueue(RabbitBroker("amqp://127.0.0.1:1/"))

    with pytest.raises(QueueUnavailableError):
        await queue.startup()
    with pytest.raises(QueueUnavailableError) as error:
        await queue.publish(Job(job_id="1", message="안녕!"))

    assert error.value.is_refused


@pytest.mark.slow
async def test_a_rabbitmq_that_pauses_may_have_the_job(rabbit: RabbitProcess) -> None:
    """No answer is no refusal: the message that got none is in the queue afterwards."""
    queue = JobQueue(RabbitBroker(rabbit.url.partition("?")[0]))  # the connection outlasts the pause
    await queue.startup()
    try:
        with rabbit.paused(), pytest.raises(QueueUnavailableError) as error:
            await queue.publish(Job(job_id="1", message="안녕!"))
        await rabbit.until_length(1, QUEUE)
    finally:
        await queue.shutdown()

    assert not error.value.is_refused
