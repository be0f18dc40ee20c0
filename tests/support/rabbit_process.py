"""A real RabbitMQ server, with helpers for the queue of jobs."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import aio_pika

from graph.jobs import DEAD_QUEUE, EXCHANGE, QUEUE
from tests.support.programs import free_port, program

__all__ = ["RabbitProcess", "rabbit_process"]

_SERVER = "/usr/lib/rabbitmq/bin/rabbitmq-server"
_MAX_WAIT_SECONDS = 180.0


@dataclass
class RabbitProcess:
    """A loopback server. Its data survives a restart."""

    port: int
    folder: Path
    config: str = ""
    _ports: dict[str, int] = field(default_factory=dict)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def url(self) -> str:
        return f"amqp://guest:guest@127.0.0.1:{self.port}/?heartbeat=5"

    @property
    def _environment(self) -> dict[str, str]:
        if not self._ports:
            self._ports = {"dist": free_port(), "epmd": free_port()}
        plugins, config = self.folder / "plugins", self.folder / "rabbitmq.conf"
        plugins.write_text("[].")
        # The machine's disk and memory are no concern of the test.
        config.write_text(f"disk_free_limit.absolute = 1MB\nvm_memory_high_watermark.absolute = 2GB\n{self.config}")
        return {
            "PATH": os.environ["PATH"],
            "HOME": str(self.folder),
            "RABBITMQ_NODENAME": f"test{self.port}@localhost",
            "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1",
            "RABBITMQ_NODE_PORT": str(self.port),
            "RABBITMQ_DIST_PORT": str(self._ports["dist"]),
            "RABBITMQ_MNESIA_BASE": str(self.folder / "mnesia"),
            "RABBITMQ_LOG_BASE": str(self.folder / "log"),
            "RABBITMQ_ENABLED_PLUGINS_FILE": str(plugins),
            "RABBITMQ_PID_FILE": str(self.folder / "pid"),
            "RABBITMQ_FEATURE_FLAGS_FILE": str(self.folder / "feature_flags"),
            "RABBITMQ_CONFIG_FILE": str(config),
            "ERL_EPMD_PORT": str(self._ports["epmd"]),
        }

    def start(self) -> None:
        self.folder.mkdir(exist_ok=True)
        with (self.folder / "rabbitmq.log").open("ab") as log:
            self._process = subprocess.Popen([_SERVER], env=self._environment, stdout=log, stderr=log)
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while not self._answers():
            assert self._process.poll() is None, (self.folder / "rabbitmq.log").read_text()
            assert time.monotonic() < give_up_at
            time.sleep(0.1)

    def _answers(self) -> bool:
        """Return whether the server speaks AMQP: its port opens before its users exist."""

        async def connect() -> bool:
            try:
                async with await aio_pika.connect(self.url, timeout=5):
                    return True
            except (TimeoutError, OSError, aio_pika.exceptions.AMQPError):
                return False

        return _listens(self.port) and asyncio.run(connect())

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Stop the server during the block: its connections stay open, and nothing answers."""
        self._signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self._signal(signal.SIGCONT)

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        self._process.wait()

    def _signal(self, number: int) -> None:
        children = ["pgrep", "-P", str(self._process.pid)]
        pids = subprocess.run(children, capture_output=True, check=False, text=True).stdout.split()
        for pid in (*map(int, pids), self._process.pid):  # the program is a script that starts Erlang
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def close(self) -> None:
        self.kill()
        # Erlang's name server outlives the server, and refuses to end while it knows of one.
        port = self._ports["epmd"]
        give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
        while _listens(port) and time.monotonic() < give_up_at:
            subprocess.run(["epmd", "-port", str(port), "-kill"], capture_output=True, check=False, timeout=60)
            time.sleep(0.05)

    def close_connections(self) -> None:
        """Close the connections of all clients, as a network does."""
        self.ctl("close_all_connections", "test")

    def ctl(self, *arguments: str) -> str:
        command = ["/usr/lib/rabbitmq/bin/rabbitmqctl", *arguments]
        done = subprocess.run(command, env=self._environment, capture_output=True, check=False, text=True, timeout=120)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    async def send(self, body: bytes | Mapping[str, Any]) -> None:
        """Publish a message as a producer of another program does: a mapping is a job."""
        if isinstance(body, Mapping):
            message = {"task_id": uuid4().hex, "task_name": QUEUE, "labels": {}, "args": [], "kwargs": {"job": body}}
            body = json.dumps(message).encode()
        async with await aio_pika.connect(self.url) as connection:
            exchange = await (await connection.channel()).get_exchange(EXCHANGE)
            await exchange.publish(aio_pika.Message(body), routing_key=QUEUE)

    async def length(self, queue: str = QUEUE) -> int:
        """Return how many messages are ready in a queue; 0 before it exists."""
        async with await aio_pika.connect(self.url) as connection:
            try:
                declared = await (await connection.channel()).declare_queue(queue, passive=True)
            except aio_pika.exceptions.ChannelNotFoundEntity:
                return 0
            return declared.declaration_result.message_count or 0

    async def until_length(self, count: int, queue: str = DEAD_QUEUE) -> None:
        """Wait until so many messages are ready in a queue."""
        while await self.length(queue) != count:
            await asyncio.sleep(0.1)

    async def purge(self) -> None:
        """Remove all messages."""
        async with await aio_pika.connect(self.url) as connection:
            for queue in (QUEUE, DEAD_QUEUE):
                channel = await connection.channel()
                try:
                    await (await channel.declare_queue(queue, passive=True)).purge()
                except aio_pika.exceptions.ChannelNotFoundEntity:
                    continue


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def rabbit_process(folder: Path, config: str = "") -> Iterator[RabbitProcess]:
    """Run a server during the block, with more lines of its configuration."""
    program(_SERVER, package="rabbitmq-server")
    server = RabbitProcess(free_port(), folder, config)
    server.start()
    try:
        yield server
    finally:
        server.close()
