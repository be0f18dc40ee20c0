"""A real Redis server for one test."""

from __future__ import annotations

import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import redis

from tests.support.programs import free_port, program

__all__ = ["RedisProcess", "redis_process"]

_MAX_WAIT_SECONDS = 120.0


@dataclass
class RedisProcess:
    """A loopback server with a client. Its data survives a restart."""

    port: int
    folder: Path
    options: Sequence[str] = field(default=())

    def __post_init__(self) -> None:
        self.client = redis.Redis(port=self.port, protocol=2, decode_responses=True, socket_timeout=60)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self.folder)]
        durable = ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*command, *durable, *self.options], stdout=log, stderr=log)
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

    def lose_data(self) -> None:
        """Remove what a killed server has stored."""
        shutil.rmtree(self.folder / "appendonlydir", ignore_errors=True)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Let the server answer nothing during the block."""
        self._process.send_signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._process.send_signal(signal.SIGCONT)

    @contextmanager
    def full(self) -> Iterator[None]:
        """Let the server refuse every write during the block."""
        self.client.config_set("maxmemory", "1")
        try:
            yield
        finally:
            self.client.config_set("maxmemory", "0")

    def close(self) -> None:
        self.kill()
        self.client.close()


@contextmanager
def redis_process(folder: Path, *options: str) -> Iterator[RedisProcess]:
    """Run a server during the block, with more options of its command line."""
    program("redis-server", package="redis-server")
    folder.mkdir(exist_ok=True)
    server = RedisProcess(free_port(), folder, options)
    server.start()
    try:
        yield server
    finally:
        server.close()
