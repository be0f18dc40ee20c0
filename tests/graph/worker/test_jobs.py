"""Jobs on a real Redis: tokens, metrics, invalid jobs and reassignment."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import GraphRun
from graph.cli import QUESTIONS
from graph.replay import replay
from graph.runtime import CASSETTES
from graph.worker import GROUP, JOBS, JobQueue, connect, stream_name
from tests.support import fake_runtime
from tests.support.cassette_bills import bills_of_cassette
from tests.support.record_sink import Records, exposed
from tests.support.redis_process import RedisProcess
from tests.support.worker_runs import (
    GREETING,
    joined_tokens,
    load_cassette,
    paced_greeting,
    recorded_answer,
    running_worker,
    write_joined_cassette,
)

ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."


async def test_the_tokens_of_a_job_are_the_answer(
    server: RedisProcess, registry: CollectorRegistry, records: Records
) -> None:
    """Tokens and node events are in order, and the metrics have the same numbers."""
    with replay(GREETING):
        async with running_worker(server, registry, records=records):
            server.submit(job_id="1", message=QUESTIONS["greeting"], session_id="s", user_id=7, tenant_id="acme")
            entries = await server.read("1")
            await server.empty()

    tokens = [entry for entry in entries if entry["type"] == "token"]
    assert joined_tokens(entries) == recorded_answer(GREETING) != ""
    assert len(tokens) > 3
    assert [int(entry["seq"]) for entry in entries] == list(range(len(entries)))
    assert {entry["node"] for entry in tokens} == {"answer"}
    nodes = [(entry["node"], entry["text"]) for entry in entries if entry["type"] == "node"]
    order = ["intent", "router", "general", "aggregator", "answer"]
    assert nodes == [(node, text) for node in order for text in ("started", "ended")]
    assert (entries[-1]["type"], entries[-1]["text"]) == ("done", joined_tokens(entries))
    assert 0 < server.client.ttl(stream_name("1")) <= 3600
    assert server.client.xpending(JOBS, GROUP)["pending"] == 0

    assert exposed(registry, "chat_stream_token_latency_seconds_count") == len(tokens)
    assert exposed(registry, "chat_stream_tokens_total") == len(tokens)
    assert registry.get_sample_value("chat_stream_requests_total", {"status": "success"}) == 1
    answered = {"intent": "greeting", "provider": "openai", "status": "success"}
    assert registry.get_sample_value("chat_requests_total", answered) == 1
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(
        float(sum(bill.usd for bill in bills_of_cassette(GREETING)))
    )
    request = records.request
    assert (request.job_id, request.session_id, request.user_id, request.tenant_id) == ("1", "s", "7", "acme")


async def test_the_tokens_of_gemini_are_the_answer_too(
    server: RedisProcess, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gemini's chunks have another shape."""
    cassette = CASSETTES / "google" / "greeting.yaml"
    with replay(cassette):
        monkeypatch.setenv("ECO2_PROVIDER", "google")
        async with running_worker(server, registry):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            entries = await server.read("1")

    assert joined_tokens(entries) == entries[-1]["text"] != ""
    tokens = sum(entry["type"] == "token" for entry in entries)
    assert exposed(registry, "chat_stream_token_latency_seconds_count") == tokens > 1


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_the_concurrency_is_a_setting(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, concurrency: int
) -> None:
    """Two jobs overlap with a concurrency of two, and do not with one. Each has its own tokens."""
    intents = ("greeting", "general")
    with replay(write_joined_cassette(tmp_path, *map(load_cassette, intents)), speed=8):
        async with running_worker(server, registry, concurrency=concurrency):
            for intent in intents:
                server.submit(job_id=intent, message=QUESTIONS[intent])
            first, second = [await server.read(intent) for intent in intents]

    assert joined_tokens(first) == recorded_answer(CASSETTES / "greeting.yaml")
    assert joined_tokens(second) == recorded_answer(CASSETTES / "general.yaml")
    overlap = int(second[0]["at"]) < int(first[-1]["at"])
    assert overlap == (concurrency == 2)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"job": "{not JSON, and secret"}, "job: Invalid JSON", id="not_json"),
        pytest.param({"job": b"\xff\xfe secret"}, "job: Invalid JSON", id="not_utf_8"),
        pytest.param({"task": "secret"}, "job: Invalid JSON", id="no_job"),
        pytest.param({"job": '["secret"]'}, "job: Input should be an object", id="no_object"),
        pytest.param({"job": '{"message": "secret"}'}, "job_id: Field required", id="no_id"),
        pytest.param({"job": '{"job_id": "0"}'}, "message and image are both empty", id="no_content"),
        pytest.param(
            {"job": '{"job_id": "0", "image": "file:///secret"}'}, "image: String should match pattern", id="no_image"
        ),
    ],
)
async def test_an_invalid_job_is_dropped(
    server: RedisProcess,
    registry: CollectorRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fields: dict[Any, Any],
    reason: str,
) -> None:
    """An invalid job is logged without its content and acknowledged, and the next job is answered."""
    server.client.xadd(JOBS, fields)
    server.submit(job_id="1", message="안녕!")

    async with running_worker(server, registry, runtime=fake_runtime.runtime(tmp_path)):
        entries = await server.read("1")
        await server.empty()

    assert joined_tokens(entries) == ANSWER
    assert exposed(registry, "chat_requests_total") == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.startswith("The job in entry ")
    assert reason in line
    assert "secret" not in line


async def test_a_failed_job_ends_its_stream(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The last entry has the exception's class only, and the job is not retried."""
    async with running_worker(
        server, registry, runtime=fake_runtime.runtime(tmp_path, router=fake_runtime.raise_timeout)
    ):
        server.submit(job_id="1", message="안녕!")
        entries = await server.read("1")
        await server.empty()

    assert (entries[-1]["type"], entries[-1]["text"]) == ("error", "TimeoutError")
    failed = {"intent": "greeting", "provider": "openai", "status": "error"}
    assert registry.get_sample_value("chat_requests_total", failed) == 1
    assert "Job 1 failed." in caplog.text


async def test_an_answer_without_a_model_is_published_too(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """The answer is one token, and the last entry contains the generated images."""

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        return {"answer": "고양이예요.", "images": ["data:image/png;base64,AAAA"]}

    async with running_worker(server, registry, runtime=fake_runtime.runtime(tmp_path, answer=answer)):
        server.submit(job_id="1", message="고양이 그려줘")
        entries = await server.read("1")

    assert joined_tokens(entries) == entries[-1]["text"] == "고양이예요."
    assert json.loads(entries[-1]["images"]) == ["data:image/png;base64,AAAA"]


async def test_a_job_continues_its_session(server: RedisProcess, registry: CollectorRegistry, tmp_path: Path) -> None:
    """The session is the graph's thread, and the image is part of the turn."""
    found: list[Any] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        found.append((state.get("answer"), state["image"]))
        return {"intent": "greeting"}

    async with running_worker(server, registry, runtime=fake_runtime.runtime(tmp_path, intent=intent)):
        for number, session in enumerate(("s", None, "s")):
            server.submit(job_id=number, message="", image="data:image/png;base64,AA==", session_id=session)
            await server.read(str(number))

    assert found == [(answer, "data:image/png;base64,AA==") for answer in (None, None, ANSWER)]


async def test_jobs_are_cancelled_after_the_grace_period(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """The reader gets the reason, the handler counts a cancelled request, and the job is not retried."""
    with replay(write_joined_cassette(tmp_path, paced_greeting(30)), speed=1):
        async with running_worker(server, registry, records=records, grace_seconds=0):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            await server.read("1", until="token")
        entries = server.entries("1")

    assert (entries[-1]["type"], entries[-1]["text"]) == ("error", "cancelled")
    assert recorded_answer(GREETING).startswith(joined_tokens(entries))
    assert records.request.status == "cancelled"
    assert registry.get_sample_value("chat_stream_requests_total", {"status": "cancelled"}) == 1
    assert server.client.xlen(JOBS) == 0
    assert server.client.xinfo_consumers(JOBS, GROUP) == []


async def test_a_long_job_is_not_reassigned(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """Heartbeats prevent reassignment: two workers run one request."""
    answering = asyncio.Event()

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        await answering.wait()
        return {}

    runtime = fake_runtime.runtime(tmp_path, router=router)
    async with (
        running_worker(server, registry, runtime=runtime, records=records, reclaim_seconds=0.4),
        running_worker(server, CollectorRegistry(), runtime=runtime, records=records, reclaim_seconds=0.4),
    ):
        server.submit(job_id="1", message="안녕!")
        await asyncio.sleep(1.5)
        answering.set()
        entries = await server.read("1")
        await server.empty()

    assert joined_tokens(entries) == ANSWER
    assert records.request.status == "success"


async def test_a_job_that_crashes_its_workers_is_dropped(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """A fourth worker does not run the job, and the reader gets the reason."""
    server.submit(job_id="1", message="안녕!")
    server.client.xgroup_create(JOBS, GROUP, id="0")
    ((_, ((entry_id, _),)),) = server.client.xreadgroup(GROUP, "dead", {JOBS: ">"})
    server.client.xclaim(JOBS, GROUP, "dead", 0, [entry_id], idle=60_000, retrycount=3)

    async with running_worker(server, registry, runtime=fake_runtime.runtime(tmp_path)):
        entries = await server.read("1")
        await server.empty()

    assert [(entry["type"], entry["text"]) for entry in entries] == [("error", "abandoned")]
    assert exposed(registry, "chat_requests_total") == 0


async def test_a_job_that_arrives_while_stopping_is_handed_back(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Another worker gets the job at once, as its first delivery."""
    async with running_worker(server, registry, runtime=fake_runtime.runtime(tmp_path)) as worker:
        await asyncio.sleep(0.1)  # the worker waits for a job by then

        worker.stop()
        server.submit(job_id="1", message="안녕!")

    assert server.entries("1") == []
    async with connect(server.url) as client:
        queue = JobQueue(client, consumer="other", reclaim_seconds=30)
        entry = await queue.next_job()
        await queue.leave()  # no effect: a job is pending
    assert entry is not None
    assert entry.deliveries == 1
    assert server.client.xpending(JOBS, GROUP)["consumers"] == [{"name": "other", "pending": 1}]


async def test_a_job_survives_an_outage_of_redis(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """The job is cancelled while Redis is down, and runs again afterwards."""
    with replay(write_joined_cassette(tmp_path, paced_greeting(1), paced_greeting(1)), speed=1):
        async with running_worker(server, registry, records=records, reclaim_seconds=0.5):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            await server.read("1", until="token")
            server.kill()
            while not records.of(GraphRun):
                await asyncio.sleep(0.02)
            server.start()
            entries = await server.read("1")
            await server.empty()

    assert joined_tokens(entries) == recorded_answer(GREETING)
    assert [run.status for run in records.of(GraphRun)] == ["cancelled", "success"]
