"""One store of each kind for the contract suite."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from graph.streams import JobStore, MemoryJobStore, RedisJobStore, connect_redis
from tests.support.redis_process import RedisProcess, redis_process


@pytest.fixture(scope="module")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(params=["memory", "redis"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[JobStore]:
    """A store with room for 20 events of a stream."""
    if request.param == "memory":
        store: JobStore = MemoryJobStore(max_events=20)
    else:
        server: RedisProcess = request.getfixturevalue("redis_server")
        server.client.flushall()
        store = RedisJobStore(connect_redis(server.url), max_events=20)
    yield store
    await store.aclose()
