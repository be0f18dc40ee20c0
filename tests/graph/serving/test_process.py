"""The servers as processes: one process for everything, shutdown, health checks, bounds and invalid settings."""

from __future__ import annotations

import json
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import pytest

from graph.cli import main
from tests.support import fake_runtime
from tests.support.cassette_bills import bills_of_cassette
from tests.support.server_process import server_process
from tests.support.worker_runs import GREETING, paced_greeting, recorded_answer, write_joined_cassette


@pytest.mark.slow
def test_one_process_answers_without_other_servers(tmp_path: Path) -> None:
    """A question gets its job, its events as they happen, and its answer with the cost; SIGTERM ends the process."""
    with server_process(tmp_path, GREETING) as server:
        assert server.until_ready() == "ok\n"
        job_id = server.ask()
        events = list(server.events(job_id))
        result = server.result(job_id)
        metrics = server.metrics()
        status = server.stop()

    assert [event["event"] for event in events][:2] == ["queued", "started"]
    assert events[-1]["event"] == "done"
    tokens = "".join(json.loads(event["data"])["text"] for event in events if event["event"] == "token")
    usd = str(sum(bill.usd for bill in bills_of_cassette(GREETING)))
    assert tokens == result["answer"] == recorded_answer(GREETING)
    assert (result["status"], float(result["usd"])) == ("done", pytest.approx(float(usd)))
    assert 'chat_turnaround_seconds_count{intent="greeting",status="success"} 1.0' in metrics
    assert "chat_worker_slots 8.0" in metrics
    assert (status, "Traceback" in server.log()) == (0, False)
    (flushed,) = json.loads((tmp_path / "records.json").read_text())
    assert (flushed["job_id"], flushed["status"], float(flushed["usd"])) == (
        job_id,
        "success",
        pytest.approx(float(usd)),
    )


@pytest.mark.slow
def test_sigterm_lets_running_answers_end(tmp_path: Path) -> None:
    """The process takes no new question, is not ready, stays alive, and its reader gets the whole answer."""
    cassette = write_joined_cassette(tmp_path, paced_greeting(2))
    with server_process(tmp_path / "server", cassette) as server:
        server.until_ready()
        events = server.events(server.ask())
        seen = [next(event for event in events if event["event"] == "token")]

        server.process.send_signal(signal.SIGTERM)
        assert server.until_ready(503) == "stopping\n"
        refused = server.client.post(f"{server.url}/api/v1/chat", json={"message": "안녕!"})
        alive = server.client.get(f"{server.ops_url}/healthz").status_code
        seen += list(events)
        status = server.process.wait(60)

    assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
    assert alive == 200
    assert seen[-1]["event"] == "done"
    assert json.loads(seen[-1]["data"])["answer"] == recorded_answer(GREETING)
    assert status == 0
    assert "Stopping; running jobs: 1." in server.log()


@pytest.mark.slow
def test_answers_that_outlast_the_grace_are_ended(tmp_path: Path) -> None:
    """In one process nobody runs the job again: its reader gets an error, and the handler's record is flushed."""
    cassette = write_joined_cassette(tmp_path, paced_greeting(600))
    with server_process(tmp_path / "server", cassette, ECO2_GRACE_SECONDS="0") as server:
        server.until_ready()
        events = server.events(server.ask())
        next(event for event in events if event["event"] == "token")
        server.process.send_signal(signal.SIGTERM)
        *_, last = events
        status = server.process.wait(60)

    assert (last["event"], json.loads(last["data"])["type"], status) == ("error", "stopped", 0)
    (flushed,) = json.loads((tmp_path / "server" / "records.json").read_text())
    assert (flushed["status"], flushed["usd"]) == ("cancelled", json.loads(last["data"])["usd"])
    assert float(flushed["usd"]) > 0


@pytest.mark.slow
def test_half_open_connections_take_no_threads(tmp_path: Path) -> None:
    """Of 900 connections that send half a request to the ops port few stay open, and metrics are served afterwards."""
    with server_process(tmp_path, GREETING) as server:
        server.until_ready()
        address = ("127.0.0.1", int(server.ops_url.rpartition(":")[2]))
        process = Path("/proc") / str(server.process.pid)
        opened = []
        try:
            for _ in range(900):
                connection = socket.create_connection(address, timeout=30)
                opened.append(connection)
                connection.sendall(b"GET /metrics HTTP/1.1\r\n")
            while len(list((process / "fd").iterdir())) > 250:  # those beyond the bound are closed soon
                time.sleep(0.05)
            threads = len(list((process / "task").iterdir()))
        finally:
            for connection in opened:
                connection.close()
        while server.process.poll() is None:
            try:
                metrics = server.metrics()
                break
            except httpx.HTTPError:
                time.sleep(0.1)

    assert threads < 60
    assert "chat_requests_total" in metrics


@pytest.mark.parametrize(
    ("command", "variables", "message"),
    [
        pytest.param(["serve"], {}, "OPENAI_API_KEY is unset, wanted a key for provider 'openai'; set it.", id="key"),
        pytest.param(
            ["serve"],
            {"OPENAI_API_KEY": "k", "ECO2_WORKER_CONCURRENCY": "none"},
            "ECO2_WORKER_CONCURRENCY is 'none', wanted a whole number from 1 to 1000; correct it or unset it.",
            id="setting",
        ),
        pytest.param(
            ["serve"],
            {"ECO2_SECRETS_DIR": "/nowhere"},
            "ECO2_SECRETS_DIR is '/nowhere', wanted an existing directory; correct it or unset it.",
            id="secrets",
        ),
        pytest.param(
            ["serve"],
            {"ECO2_PRICES": "/nowhere"},
            "ECO2_PRICES is '/nowhere', wanted an existing file; correct it or unset it.",
            id="prices",
        ),
        pytest.param(
            ["worker"],
            {},
            "ECO2_REDIS_URL is unset, wanted 'redis://host:port/database', 'rediss://...' or 'unix://...'; set it, or "
            "run everything in one process: python -m graph serve.",
            id="no_redis",
        ),
        pytest.param(
            ["serve", "--host", "0.0.0.0"],
            {},
            "--host is '0.0.0.0' without authentication, wanted the loopback; set ECO2_API_TOKENS_FILE, or "
            "ECO2_JWT_ISSUER, ECO2_JWT_AUDIENCE and ECO2_JWT_JWKS_URL.",
            id="open_to_all",
        ),
    ],
)
def test_an_invalid_setting_is_one_sentence(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: list[str],
    variables: dict[str, str],
    message: str,
) -> None:
    """The process opens nothing and exits with 2."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)

    assert main(command, runtime=fake_runtime.runtime(tmp_path)) == 2

    assert capsys.readouterr() == ("", f"{message}\n")


def test_a_port_in_use_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The process takes no job and exits with 1."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    assert threading.current_thread() is threading.main_thread()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        status = main(["serve", "--port", str(port)], runtime=fake_runtime.runtime(tmp_path))

    assert (status, capsys.readouterr().err) == (1, f"Port {port} cannot be served: Address already in use.\n")


def test_unknown_checkpoints_are_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The graph refuses the setting when it opens, and the process exits with 2."""
    monkeypatch.setenv("OPENAI_API_KEY", "k")
    monkeypatch.setenv("ECO2_CHECKPOINTS", "mysql://hunter2")
    monkeypatch.chdir(tmp_path)

    assert main(["serve", "--port", "0", "--metrics-port", "0"]) == 2

    assert capsys.readouterr().err.startswith("ECO2_CHECKPOINTS begins with 'mysql', wanted ")
