"""A real Redis server for one test, with helpers for the worker's streams."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import redis

from graph.worker import JOBS, stream_name

__all__ = ["RedisProcess", "free_port", "redis_process"]

_MAX_WAIT_SECONDS = 120.0


@dataclass
class RedisProcess:
    """A loopback server with a client. Its data survives a restart."""

    port: int
    folder: Path

    def __post_init__(self) -> None:
        self.client = redis.Redis(port=self.port, protocol=2, decode_responses=True, socket_timeout=5)

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, "--appendonly", "yes", "--save", ""], stdout=log, stderr=log)
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while True:
            try:
                self.client.ping()
            except redis.RedisError:
                assert self._process.poll() is None, (self.folder / "redis.log").read_text()
                assert time.monotonic() < give_up_at
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def close(self) -> None:
        self.kill()
        self.client.close()

    def submit(self, **job: Any) -> None:
        self.client.xadd(JOBS, {"job": json.dumps(job)})

    def entries(self, job_id: str) -> list[dict[str, str]]:
        """Return the entries of a job's stream so far, each with its time in milliseconds as ``at``."""
        found = self.client.xrange(stream_name(job_id))
        return [{**fields, "at": entry_id.partition("-")[0]} for entry_id, fields in found]

    async def read(self, job_id: str, *, until: str = "done error", seconds: float = _MAX_WAIT_SECONDS) -> list[Any]:
        """Return the job's entries as soon as the last one has one of these types."""
        give_up_at = time.monotonic() + seconds
        while not ((entries := self.entries(job_id)) and entries[-1]["type"] in until.split()):
            assert time.monotonic() < give_up_at, entries
            await asyncio.sleep(0.01)
        return entries

    async def empty(self) -> None:
        """Wait until every job is acknowledged and removed."""
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while self.client.xlen(JOBS):
            assert time.monotonic() < give_up_at
            await asyncio.sleep(0.01)


@contextmanager
def redis_process(folder: Path) -> Iterator[RedisProcess]:
    """Run a server during the block."""
    if shutil.which("redis-server") is None:
        missing = "redis-server is not installed: apt-get install redis-server"
        if os.environ.get("CI"):
            pytest.fail(missing)
        pytest.skip(missing)
    server = RedisProcess(free_port(), folder)
    server.start()
    try:
        yield server
    finally:
        server.close()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
