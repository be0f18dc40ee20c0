"""RabbitMQ and Redis for the tests of the queue."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from graph.streams import RedisJobStore, connect_redis
from tests.support.rabbit_process import RabbitProcess, rabbit_process
from tests.support.redis_process import RedisProcess, redis_process


@pytest.fixture(scope="module")
def rabbit_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RabbitProcess]:
    with rabbit_process(tmp_path_factory.mktemp("rabbit")) as server:
        yield server


@pytest.fixture
async def rabbit(rabbit_server: RabbitProcess) -> RabbitProcess:
    """The server, with empty queues."""
    await rabbit_server.purge()
    return rabbit_server


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture
async def store(redis_server: RedisProcess) -> AsyncIterator[RedisJobStore]:
    redis_server.client.flushall()
    store = RedisJobStore(connect_redis(redis_server.url))
    yield store
    await store.aclose()
