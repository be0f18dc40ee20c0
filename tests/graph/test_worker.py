"""The worker, on a real Redis: tokens, metrics, bad jobs, dead workers, and its end."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from eco2_callbacks import GraphRun, Settings
from graph.__main__ import main
from graph.app import make_handler
from graph.cassette import replay
from graph.demo import QUESTIONS
from graph.jobs import GROUP, JOBS, JobQueue, connect
from graph.stage import CASSETTES, Stage
from graph.tokens import stream_name
from graph.work import Worker
from graph.worker_env import WorkerSettings
from tests.support import fake_runtime as rehearsal
from tests.support.cassette_bills import bills
from tests.support.record_sink import Records, exposed
from tests.support.redis_process import RedisProcess, free_port, redis_process

ROOT = Path(__file__).parents[2]
GREETING = CASSETTES / "greeting.yaml"
ANSWERED = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RedisProcess]:
    with redis_process(tmp_path) as server:
        yield server


@asynccontextmanager
async def working(
    server: RedisProcess,
    registry: CollectorRegistry,
    *,
    stage: Stage | None = None,
    records: Records | None = None,
    reclaim_seconds: float = 30.0,
    **settings: Any,
) -> AsyncIterator[Worker]:
    """Run a worker in this process until the block ends."""
    stage = stage or Stage()
    client = connect(server.url)
    with make_handler(Settings(), sinks=[records] if records else [], registry=registry) as handler:
        async with client, stage.graph() as graph:
            worker = Worker(stage, graph, handler, client, WorkerSettings(**settings), reclaim_seconds=reclaim_seconds)
            task = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await task


@contextmanager
def worker_process(
    server: RedisProcess, tmp_path: Path, *, answer_seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the worker as a process on the greeting, and yield it with the address of its port."""
    port = free_port()
    program = [sys.executable, "-W", "error", str(ROOT / "tests" / "support" / "worker_program.py")]
    variables = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "ECO2_REDIS_URL": server.url,
        "ECO2_METRICS_PORT": str(port),
    }
    arguments = [str(together(tmp_path, paced(answer_seconds))), str(tmp_path / "records.json")]
    with (
        (tmp_path / "worker.log").open("a") as log,
        subprocess.Popen([*program, *arguments], env=variables, stderr=log) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


async def fetch(url: str) -> tuple[int, str]:
    """Return status and body; 0 while nobody listens."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=10) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    return await asyncio.to_thread(get)


async def until(url: str, status: int) -> str:
    """Return the body once the address answers with this status."""
    for _ in range(1500):
        found, body = await fetch(url)
        if found == status:
            return body
        await asyncio.sleep(0.02)
    raise AssertionError(f"{url} answers {found}, not {status}: {body}")


def joined(entries: list[dict[str, str]]) -> str:
    return "".join(entry["text"] for entry in entries if entry["type"] == "token")


def recorded_answer(path: Path) -> str:
    """What the provider streamed in a recording, from the wire."""
    *_, last = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    events = [line.removeprefix("data: ") for line in last["response"]["body"]["string"].splitlines() if line]
    choices = [choice for event in events if event != "[DONE]" for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def loaded(intent: str) -> dict[str, Any]:
    return yaml.safe_load((CASSETTES / f"{intent}.yaml").read_text(encoding="utf-8"))


def together(tmp_path: Path, *cassettes: dict[str, Any]) -> Path:
    """Return one cassette of these conversations, since only one is played at a time."""
    interactions = [interaction for cassette in cassettes for interaction in cassette["interactions"]]
    path = tmp_path / "together.yaml"
    path.write_text(yaml.safe_dump({**cassettes[0], "interactions": interactions}, allow_unicode=True, sort_keys=False))
    return path


def paced(seconds: float) -> dict[str, Any]:
    """Return the greeting's cassette, in which all comes at once but what follows the answer's first words."""
    cassette = loaded("greeting")
    for interaction in cassette["interactions"]:
        interaction["timing"] = {"first_byte_seconds": 0.0, "chunk_offsets": []}
    offsets = loaded("greeting")["interactions"][-1]["timing"]["chunk_offsets"]
    last = len(offsets) - 1
    steps = [[seconds * max(0, number - 1) / (last - 1), end] for number, (_, end) in enumerate(offsets)]
    cassette["interactions"][-1]["timing"]["chunk_offsets"] = steps
    return cassette


async def test_a_job_s_tokens_are_the_answer(
    server: RedisProcess, registry: CollectorRegistry, records: Records
) -> None:
    """In order, with what each node does before and after them, and the same numbers in the metrics."""
    with replay(GREETING):
        async with working(server, registry, records=records):
            server.submit(job_id="1", message=QUESTIONS["greeting"], session_id="s", user_id=7, tenant_id="acme")
            entries = await server.read("1")
            await server.empty()

    tokens = [entry for entry in entries if entry["type"] == "token"]
    assert joined(entries) == recorded_answer(GREETING) != ""
    assert len(tokens) > 3
    assert [int(entry["seq"]) for entry in entries] == list(range(len(entries)))
    assert {entry["node"] for entry in tokens} == {"answer"}
    nodes = [(entry["node"], entry["text"]) for entry in entries if entry["type"] == "node"]
    order = ["intent", "router", "general", "aggregator", "answer"]
    assert nodes == [(node, text) for node in order for text in ("started", "ended")]
    assert (entries[-1]["type"], entries[-1]["text"]) == ("done", joined(entries))
    assert 0 < server.client.ttl(stream_name("1")) <= 3600
    assert server.client.xpending(JOBS, GROUP)["pending"] == 0

    assert exposed(registry, "chat_stream_token_latency_seconds_count") == len(tokens)
    assert exposed(registry, "chat_stream_tokens_total") == len(tokens)
    assert registry.get_sample_value("chat_stream_requests_total", {"status": "success"}) == 1
    answered = {"intent": "greeting", "provider": "openai", "status": "success"}
    assert registry.get_sample_value("chat_requests_total", answered) == 1
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(
        float(sum(bill.usd for bill in bills(GREETING)))
    )
    request = records.request
    assert (request.job_id, request.session_id, request.user_id, request.tenant_id) == ("1", "s", "7", "acme")


async def test_gemini_s_tokens_are_the_answer_too(
    server: RedisProcess, registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its chunks have another shape."""
    cassette = CASSETTES / "google" / "greeting.yaml"
    with replay(cassette):
        monkeypatch.setenv("ECO2_PROVIDER", "google")
        async with working(server, registry):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            entries = await server.read("1")

    assert joined(entries) == entries[-1]["text"] != ""
    tokens = sum(entry["type"] == "token" for entry in entries)
    assert exposed(registry, "chat_stream_token_latency_seconds_count") == tokens > 1


@pytest.mark.parametrize("concurrency", [1, 2])
async def test_as_many_jobs_at_once_as_it_is_told(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, concurrency: int
) -> None:
    """Two overlap where two may, and follow each other where one may; each has its own tokens."""
    intents = ("greeting", "general")
    with replay(together(tmp_path, *map(loaded, intents)), speed=8):
        async with working(server, registry, concurrency=concurrency):
            for intent in intents:
                server.submit(job_id=intent, message=QUESTIONS[intent])
            first, second = [await server.read(intent) for intent in intents]

    assert joined(first) == recorded_answer(CASSETTES / "greeting.yaml")
    assert joined(second) == recorded_answer(CASSETTES / "general.yaml")
    overlap = int(second[0]["at"]) < int(first[-1]["at"])
    assert overlap == (concurrency == 2)


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        pytest.param({"job": "{not JSON, and secret"}, "job: Invalid JSON", id="not_json"),
        pytest.param({"job": b"\xff\xfe secret"}, "job: Invalid JSON", id="not_utf_8"),
        pytest.param({"task": "secret"}, "job: Invalid JSON", id="no_job"),
        pytest.param({"job": '["secret"]'}, "job: Input should be an object", id="no_object"),
        pytest.param({"job": '{"message": "secret"}'}, "job_id: Field required", id="no_id"),
        pytest.param({"job": '{"job_id": "0"}'}, "neither message nor image says what is asked", id="no_question"),
        pytest.param(
            {"job": '{"job_id": "0", "image": "file:///secret"}'}, "image: String should match pattern", id="no_image"
        ),
    ],
)
async def test_a_bad_job_costs_nothing_but_itself(
    server: RedisProcess,
    registry: CollectorRegistry,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    fields: dict[Any, Any],
    why: str,
) -> None:
    """It is logged without what it holds, acknowledged and counted as nothing, and the next one is answered."""
    server.client.xadd(JOBS, fields)
    server.submit(job_id="1", message="안녕!")

    async with working(server, registry, stage=rehearsal.stage(tmp_path)):
        entries = await server.read("1")
        await server.empty()

    assert joined(entries) == ANSWERED
    assert exposed(registry, "chat_requests_total") == 1
    (line,) = [record.getMessage() for record in caplog.records if record.levelno >= logging.ERROR]
    assert line.startswith("The job in entry ")
    assert why in line
    assert "secret" not in line


async def test_a_failed_job_ends_its_stream(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """With the exception's class and no more; it is not tried again."""
    async with working(server, registry, stage=rehearsal.stage(tmp_path, router=rehearsal.fails)):
        server.submit(job_id="1", message="안녕!")
        entries = await server.read("1")
        await server.empty()

    assert (entries[-1]["type"], entries[-1]["text"]) == ("error", "TimeoutError")
    failed = {"intent": "greeting", "provider": "openai", "status": "error"}
    assert registry.get_sample_value("chat_requests_total", failed) == 1
    assert "Job 1 failed." in caplog.text


async def test_an_answer_that_no_model_wrote_is_published_too(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """As one token; the pictures that were made come with the end."""

    async def answer(state: rehearsal.State) -> rehearsal.State:
        return {"answer": "고양이예요.", "images": ["data:image/png;base64,AAAA"]}

    async with working(server, registry, stage=rehearsal.stage(tmp_path, answer=answer)):
        server.submit(job_id="1", message="고양이 그려줘")
        entries = await server.read("1")

    assert joined(entries) == entries[-1]["text"] == "고양이예요."
    assert json.loads(entries[-1]["images"]) == ["data:image/png;base64,AAAA"]


async def test_a_session_goes_on_and_a_job_without_one_begins_its_own(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """The session is the graph's thread; a picture goes along."""
    found: list[Any] = []

    async def intent(state: rehearsal.State) -> rehearsal.State:
        found.append((state.get("answer"), state["image"]))
        return {"intent": "greeting"}

    async with working(server, registry, stage=rehearsal.stage(tmp_path, intent=intent)):
        for number, session in enumerate(("s", None, "s")):
            server.submit(job_id=number, message="", image="data:image/png;base64,AA==", session_id=session)
            await server.read(str(number))

    assert found == [(answer, "data:image/png;base64,AA==") for answer in (None, None, ANSWERED)]


async def test_jobs_whose_grace_is_over_are_cancelled(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """Their readers are told, the handler counts them as cancelled, and nobody runs them again."""
    with replay(together(tmp_path, paced(30)), speed=1):
        async with working(server, registry, records=records, grace_seconds=0):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            await server.read("1", until="token")
        entries = server.entries("1")

    assert (entries[-1]["type"], entries[-1]["text"]) == ("error", "cancelled")
    assert recorded_answer(GREETING).startswith(joined(entries))
    assert records.request.status == "cancelled"
    assert registry.get_sample_value("chat_stream_requests_total", {"status": "cancelled"}) == 1
    assert server.client.xlen(JOBS) == 0
    assert server.client.xinfo_consumers(JOBS, GROUP) == []


async def test_a_job_of_a_dead_worker_is_taken_over(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Killed in mid-answer, without a chance to say so; the stream begins anew and ends with the whole answer."""
    server.submit(job_id="1", message=QUESTIONS["greeting"])
    with worker_process(server, tmp_path, answer_seconds=30) as (process, _):
        await server.read("1", until="token")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert server.entries("1")[-1]["type"] == "token"
    assert server.client.xpending(JOBS, GROUP)["pending"] == 1

    with replay(GREETING):
        async with working(server, registry, reclaim_seconds=0.3):
            entries = await server.read("1")
            await server.empty()

    assert joined(entries) == recorded_answer(GREETING)
    assert [int(entry["seq"]) for entry in entries] == list(range(len(entries)))


async def test_a_long_job_is_not_taken_from_a_living_worker(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """It says that it is still at it: two workers, one request."""
    answering = asyncio.Event()

    async def router(state: rehearsal.State) -> rehearsal.State:
        await answering.wait()
        return {}

    stage = rehearsal.stage(tmp_path, router=router)
    async with (
        working(server, registry, stage=stage, records=records, reclaim_seconds=0.4),
        working(server, CollectorRegistry(), stage=stage, records=records, reclaim_seconds=0.4),
    ):
        server.submit(job_id="1", message="안녕!")
        await asyncio.sleep(1.5)
        answering.set()
        entries = await server.read("1")
        await server.empty()

    assert joined(entries) == ANSWERED
    assert records.request.status == "success"


async def test_a_job_that_kills_its_workers_is_given_up(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """The fourth worker does not begin it, and its reader is told."""
    server.submit(job_id="1", message="안녕!")
    server.client.xgroup_create(JOBS, GROUP, id="0")
    ((_, ((entry_id, _),)),) = server.client.xreadgroup(GROUP, "dead", {JOBS: ">"})
    server.client.xclaim(JOBS, GROUP, "dead", 0, [entry_id], idle=60_000, retrycount=3)

    async with working(server, registry, stage=rehearsal.stage(tmp_path)):
        entries = await server.read("1")
        await server.empty()

    assert [(entry["type"], entry["text"]) for entry in entries] == [("error", "abandoned")]
    assert exposed(registry, "chat_requests_total") == 0


async def test_a_job_that_comes_while_stopping_is_handed_back(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """Another worker gets it at once, and as if for the first time."""
    async with working(server, registry, stage=rehearsal.stage(tmp_path)) as worker:
        await asyncio.sleep(0.1)  # by now it waits for a job

        worker.stop()
        server.submit(job_id="1", message="안녕!")

    assert server.entries("1") == []
    async with connect(server.url) as client:
        queue = JobQueue(client, consumer="other", reclaim_seconds=30)
        taken = await queue.take()
        await queue.leave()  # but not with a job under its name
    assert taken is not None
    assert taken.deliveries == 1
    assert server.client.xpending(JOBS, GROUP)["consumers"] == [{"name": "other", "pending": 1}]


async def test_a_job_outlives_redis(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path, records: Records
) -> None:
    """While Redis is gone its job is broken off, since nobody reads it; it is run again once Redis is back."""
    with replay(together(tmp_path, paced(1), paced(1)), speed=1):
        async with working(server, registry, records=records, reclaim_seconds=0.5):
            server.submit(job_id="1", message=QUESTIONS["greeting"])
            await server.read("1", until="token")
            server.kill()
            while not records.of(GraphRun):
                await asyncio.sleep(0.02)
            server.start()
            entries = await server.read("1")
            await server.empty()

    assert joined(entries) == recorded_answer(GREETING)
    assert [run.status for run in records.of(GraphRun)] == ["cancelled", "success"]


async def test_sigterm_finishes_the_job_under_way_and_flushes(server: RedisProcess, tmp_path: Path) -> None:
    """A real process: no new job, the answer to its end, the sinks closed, status 0."""
    with worker_process(server, tmp_path, answer_seconds=1.5) as (process, url):
        assert await until(f"{url}/readyz", 200) == "ok\n"
        server.submit(job_id="1", message=QUESTIONS["greeting"])
        await server.read("1", until="token")

        process.send_signal(signal.SIGTERM)
        assert await until(f"{url}/readyz", 503) == "stopping\n"
        server.submit(job_id="2", message=QUESTIONS["greeting"])
        assert await fetch(f"{url}/healthz") == (200, "ok\n")
        _, metrics = await fetch(f"{url}/metrics")
        assert await asyncio.to_thread(process.wait, 20) == 0

    assert "chat_stream_active 1.0" in metrics
    assert joined(server.entries("1")) == recorded_answer(GREETING)
    assert server.entries("2") == []
    assert server.client.xlen(JOBS) == 1
    usd = str(sum(bill.usd for bill in bills(GREETING)))
    (flushed,) = json.loads((tmp_path / "records.json").read_text())
    assert (flushed["job_id"], flushed["status"], float(flushed["usd"])) == ("1", "success", pytest.approx(float(usd)))
    log = (tmp_path / "worker.log").read_text()
    assert "Stopping, with 1 under way." in log
    assert "ECO2_CHECKPOINTS is unset" in log
    assert "Traceback" not in log


async def test_it_is_not_ready_without_redis_and_works_again_with_it(server: RedisProcess, tmp_path: Path) -> None:
    """The port says what is missing, the process lives, and a Redis that lost its data is one that has none yet."""
    with worker_process(server, tmp_path, answer_seconds=0) as (process, url):
        await until(f"{url}/readyz", 200)
        server.kill()

        assert await until(f"{url}/readyz", 503) == "Redis does not answer: ConnectionError\n"
        assert await fetch(f"{url}/healthz") == (200, "ok\n")
        assert (await fetch(f"{url}/elsewhere"))[0] == 404
        for path in server.folder.glob("appendonlydir/*"):
            path.unlink()
        server.start()
        server.submit(job_id="1", message=QUESTIONS["greeting"])

        assert joined(await server.read("1")) == recorded_answer(GREETING)
        await until(f"{url}/readyz", 200)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0

    log = (tmp_path / "worker.log").read_text()
    assert log.count("No jobs can be taken") <= 1
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        pytest.param({}, "OPENAI_API_KEY is unset, wanted a key for provider 'openai'; set it.", id="key"),
        pytest.param(
            {"OPENAI_API_KEY": "k", "ECO2_WORKER_CONCURRENCY": "none"},
            "ECO2_WORKER_CONCURRENCY is 'none', wanted a whole number from 1 to 1000; correct it or unset it.",
            id="setting",
        ),
        pytest.param(
            {"ECO2_SECRETS_DIR": "/nowhere"},
            "ECO2_SECRETS_DIR is '/nowhere', wanted an existing directory; correct it or unset it.",
            id="secrets",
        ),
        pytest.param(
            {"ECO2_PRICES": "/nowhere"},
            "ECO2_PRICES is '/nowhere', wanted an existing file; correct it or unset it.",
            id="prices",
        ),
    ],
)
def test_a_wrong_setting_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    said: str,
) -> None:
    """Before anything is opened, with status 2."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["worker"], stage=rehearsal.stage(tmp_path)) == 2

    assert capsys.readouterr() == ("", f"{said}\n")


def test_a_port_in_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before any job is taken, with status 1."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        monkeypatch.setenv("ECO2_METRICS_PORT", str(taken.getsockname()[1]))

        status = main(["worker"], stage=rehearsal.stage(tmp_path))

    port = os.environ["ECO2_METRICS_PORT"]
    assert (status, capsys.readouterr().err) == (1, f"Port {port} cannot be served: Address already in use.\n")


def test_unknown_checkpoints_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """They are opened by the real graph, with status 2 if they cannot be."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ECO2_CHECKPOINTS", "mysql://hunter2")

    assert main(["worker"]) == 2

    assert capsys.readouterr().err.startswith("ECO2_CHECKPOINTS begins with 'mysql', wanted ")
