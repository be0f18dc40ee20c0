"""SIGTERM while RabbitMQ does not answer, as in a partition: the process ends, and its handler is flushed."""

from __future__ import annotations

import socket
import time
from pathlib import Path

import pytest

from graph.jobs import QUEUE
from tests.support.rabbit_process import RabbitProcess
from tests.support.redis_process import RedisProcess
from tests.support.server_process import server_process
from tests.support.worker_runs import GREETING

pytestmark = pytest.mark.slow


def test_an_idle_worker_ends(rabbit: RabbitProcess, redis_server: RedisProcess, tmp_path: Path) -> None:
    """Its consumer cannot be cancelled and its connections get no farewell."""
    # Without the test's short heartbeat, which would close the connections soon.
    urls = {"ECO2_REDIS_URL": redis_server.url, "ECO2_AMQP_URL": rabbit.url.partition("?")[0]}
    with server_process(tmp_path, GREETING, "worker", **urls) as server:
        server.until_ready()
        while QUEUE not in rabbit.ctl("-q", "list_consumers"):
            time.sleep(0.1)
        with rabbit.paused():
            status = server.stop()

    assert (status, (tmp_path / "records.json").read_text()) == (0, "[]")
    assert "Traceback" not in server.log()


def test_a_worker_that_still_connects_ends(redis_server: RedisProcess, tmp_path: Path) -> None:
    """The server has accepted its connection and says nothing on it."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        urls = {"ECO2_REDIS_URL": redis_server.url, "ECO2_AMQP_URL": f"amqp://127.0.0.1:{silent.getsockname()[1]}/"}
        with server_process(tmp_path, GREETING, "worker", **urls) as server:
            connection, _ = silent.accept()
            with connection:
                status = server.stop()

    assert (status, (tmp_path / "records.json").read_text()) == (0, "[]")
    assert "Traceback" not in server.log()
