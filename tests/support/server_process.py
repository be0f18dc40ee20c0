"""A server as a process of its own, on a recording, with a client of its API."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from tests.support.programs import free_port

__all__ = ["ServerProcess", "server_process", "sse"]

_ROOT = Path(__file__).parents[2]
_MAX_WAIT_SECONDS = 120.0


@dataclass
class ServerProcess:
    """A running server: its API and its ops port."""

    process: subprocess.Popen[bytes]
    url: str
    ops_url: str
    folder: Path
    client: httpx.Client = field(default_factory=lambda: httpx.Client(timeout=60, trust_env=False))

    def until_ready(self, status: int = 200) -> str:
        """Return the body of ``/readyz`` as soon as it has this status."""
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while True:
            try:
                answer = self.client.get(f"{self.ops_url}/readyz")
                if answer.status_code == status:
                    return answer.text
                seen = answer.text
            except httpx.HTTPError as error:
                seen = repr(error)
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < give_up_at, seen
            time.sleep(0.05)

    def ask(self, message: str = "안녕!", **fields: Any) -> str:
        """Ask a question and return its job."""
        answer = self.client.post(f"{self.url}/api/v1/chat", json={"message": message} | fields)
        assert answer.status_code == 202, answer.text
        return answer.json()["job_id"]

    def events(self, job_id: str) -> Iterator[dict[str, str]]:
        """Yield the server-sent events of a job."""
        with self.client.stream("GET", f"{self.url}/api/v1/chat/{job_id}/events") as answer:
            yield from sse(answer)

    def result(self, job_id: str) -> dict[str, Any]:
        return self.client.get(f"{self.url}/api/v1/chat/{job_id}").json()

    def metrics(self) -> str:
        return self.client.get(f"{self.ops_url}/metrics").text

    def log(self) -> str:
        return (self.folder / "server.log").read_text()

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(_MAX_WAIT_SECONDS)


def sse(answer: httpx.Response) -> Iterator[dict[str, str]]:
    """Yield the events of an event stream; comments have the key ``comment``."""
    event: dict[str, str] = {}
    for line in answer.iter_lines():
        if not line:
            if event:
                yield event
            event = {}
        elif line.startswith(":"):
            event["comment"] = line[1:].strip()
        else:
            name, _, value = line.partition(": ")
            event[name] = value


@contextmanager
def server_process(
    folder: Path, cassette: Path, command: str = "serve", *, check_warnings: bool = True, **variables: str
) -> Iterator[ServerProcess]:
    """Run a command of the graph as a process during the block. It may not be ready yet."""
    folder.mkdir(exist_ok=True, parents=True)
    port, ops_port = free_port(), free_port()
    program = [sys.executable, *(["-W", "error"] if check_warnings else []), "-m", "tests.support.server_program"]
    arguments = [str(cassette), str(folder / "records.json"), command, "--metrics-port", str(ops_port)]
    if command != "worker":
        arguments += ["--port", str(port)]
    environment = {
        **{name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ},
        "PYTHONPATH": str(_ROOT),
        "PYTHONUTF8": "1",
        "ECO2_LEDGER": str(folder / "eco2.db"),
        **variables,
    }
    with (
        (folder / "server.log").open("a") as log,
        subprocess.Popen([*program, *arguments], env=environment, cwd=_ROOT, stderr=log, stdout=log) as process,
    ):
        server = ServerProcess(process, f"http://127.0.0.1:{port}", f"http://127.0.0.1:{ops_port}", folder)
        try:
            yield server
        finally:
            server.client.close()
            process.kill()
