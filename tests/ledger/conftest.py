"""Fixtures of the ledger's tests: one server of each kind a session, a new ledger a test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.database_servers import ClickHouseServer, PostgresServer, clickhouse_server, postgres_server

_BACKENDS = ["sqlite", "postgres", pytest.param("clickhouse", marks=pytest.mark.slow)]


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="session")
def clickhouse() -> Iterator[ClickHouseServer]:
    with clickhouse_server() as server:
        yield server


@pytest.fixture(autouse=True)
def spool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean_environment: None) -> Path:
    """Keep the spool of servers in the test's folder."""
    folder = tmp_path / "spool"
    monkeypatch.setenv("ECO2_LEDGER_SPOOL", str(folder))
    return folder


@pytest.fixture(params=_BACKENDS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new ledger on each backend in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue(request.param).new_database()
    return url


@pytest.fixture(params=_BACKENDS[1:])
def server_url(request: pytest.FixtureRequest) -> str:
    """Return the URL of a new ledger on each backend that is a server."""
    url: str = request.getfixturevalue(request.param).new_database()
    return url
