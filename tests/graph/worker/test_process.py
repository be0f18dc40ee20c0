"""The worker as a process: crash, shutdown, health checks and invalid settings."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from graph.cli import QUESTIONS, main
from graph.replay import replay
from graph.worker import GROUP, JOBS
from tests.support import fake_runtime
from tests.support.cassette_bills import bills_of_cassette
from tests.support.redis_process import RedisProcess, free_port
from tests.support.worker_runs import (
    GREETING,
    joined_tokens,
    paced_greeting,
    recorded_answer,
    running_worker,
    write_joined_cassette,
)

ROOT = Path(__file__).parents[3]


@contextmanager
def worker_process(
    server: RedisProcess, tmp_path: Path, *, answer_seconds: float
) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Run the worker as a process on the greeting, and yield it with the URL of its port."""
    port = free_port()
    program = [sys.executable, "-W", "error", str(ROOT / "tests" / "support" / "worker_program.py")]
    variables = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(ROOT),
        "PYTHONUTF8": "1",
        "ECO2_REDIS_URL": server.url,
        "ECO2_METRICS_PORT": str(port),
    }
    arguments = [str(write_joined_cassette(tmp_path, paced_greeting(answer_seconds))), str(tmp_path / "records.json")]
    with (
        (tmp_path / "worker.log").open("a") as log,
        subprocess.Popen([*program, *arguments], env=variables, stderr=log) as process,
    ):
        try:
            yield process, f"http://127.0.0.1:{port}"
        finally:
            process.kill()


async def fetch(url: str) -> tuple[int, str]:
    """Return status and body; 0 if the connection fails."""

    def get() -> tuple[int, str]:
        try:
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=300) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read().decode()
        except urllib.error.URLError:
            return 0, ""

    return await asyncio.to_thread(get)


async def until(url: str, status: int) -> str:
    """Return the body as soon as the URL answers with this status."""
    for _ in range(1500):
        found, body = await fetch(url)
        if found == status:
            return body
        await asyncio.sleep(0.02)
    raise AssertionError(f"{url} answers {found}, not {status}: {body}")


async def test_a_job_of_a_crashed_worker_is_reassigned(
    server: RedisProcess, registry: CollectorRegistry, tmp_path: Path
) -> None:
    """After a SIGKILL, another worker starts the stream again and completes it."""
    server.submit(job_id="1", message=QUESTIONS["greeting"])
    with worker_process(server, tmp_path, answer_seconds=30) as (process, _):
        await server.read("1", until="token")
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert server.entries("1")[-1]["type"] == "token"
    assert server.client.xpending(JOBS, GROUP)["pending"] == 1

    with replay(GREETING):
        async with running_worker(server, registry, reclaim_seconds=0.3):
            entries = await server.read("1")
            await server.empty()

    assert joined_tokens(entries) == recorded_answer(GREETING)
    assert [int(entry["seq"]) for entry in entries] == list(range(len(entries)))


async def test_sigterm_completes_the_running_job_and_flushes(server: RedisProcess, tmp_path: Path) -> None:
    """The process takes no new job, completes the running one, closes the sinks and exits with 0."""
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
    assert joined_tokens(server.entries("1")) == recorded_answer(GREETING)
    assert server.entries("2") == []
    assert server.client.xlen(JOBS) == 1
    usd = str(sum(bill.usd for bill in bills_of_cassette(GREETING)))
    (flushed,) = json.loads((tmp_path / "records.json").read_text())
    assert (flushed["job_id"], flushed["status"], float(flushed["usd"])) == ("1", "success", pytest.approx(float(usd)))
    log = (tmp_path / "worker.log").read_text()
    assert "Stopping; running jobs: 1." in log
    assert "ECO2_CHECKPOINTS is unset" in log
    assert "Traceback" not in log


async def test_readiness_follows_redis(server: RedisProcess, tmp_path: Path) -> None:
    """The process stays alive without Redis, names the problem, and accepts a Redis that lost its data."""
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

        assert joined_tokens(await server.read("1")) == recorded_answer(GREETING)
        await until(f"{url}/readyz", 200)
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(process.wait, 20) == 0

    log = (tmp_path / "worker.log").read_text()
    assert log.count("Cannot take jobs") <= 1
    assert "Traceback" not in log


@pytest.mark.parametrize(
    ("variables", "message"),
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
def test_an_invalid_setting_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    variables: dict[str, str],
    message: str,
) -> None:
    """The process opens nothing and exits with 2."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(["worker"], runtime=fake_runtime.runtime(tmp_path)) == 2

    assert capsys.readouterr() == ("", f"{message}\n")


def test_a_port_in_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process takes no job and exits with 1."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    with socket.socket() as taken:
        taken.bind(("0.0.0.0", 0))
        taken.listen()
        monkeypatch.setenv("ECO2_METRICS_PORT", str(taken.getsockname()[1]))

        status = main(["worker"], runtime=fake_runtime.runtime(tmp_path))

    port = os.environ["ECO2_METRICS_PORT"]
    assert (status, capsys.readouterr().err) == (1, f"Port {port} cannot be served: Address already in use.\n")


def test_unknown_checkpoints_are_one_sentence(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph refuses the setting when it opens, and the process exits with 2."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ECO2_CHECKPOINTS", "mysql://hunter2")

    assert main(["worker"]) == 2

    assert capsys.readouterr().err.startswith("ECO2_CHECKPOINTS begins with 'mysql', wanted ")
