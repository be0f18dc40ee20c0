"""Fixtures of the budgets' tests: the stores that processes share, as real servers."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import redis

from tests.support.database_servers import PostgresServer
from tests.support.database_servers import postgres_server as run_postgres
from tests.support.redis_process import RedisProcess, redis_process


@pytest.fixture(scope="session")
def redis_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with run_postgres() as server:
        yield server


@pytest.fixture(params=["redis", "postgres"])
def store_url(request: pytest.FixtureRequest) -> str:
    """Yield the address of an empty store, of each kind."""
    if request.param == "redis":
        server: RedisProcess = request.getfixturevalue("redis_server")
        redis.Redis.from_url(server.url, protocol=2).flushall()
        return server.url
    postgres: PostgresServer = request.getfixturevalue("postgres_server")
    return postgres.new_database()
