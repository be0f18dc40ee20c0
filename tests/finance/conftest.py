"""Fixtures of the finance tests: a new ledger on each backend, and a function that runs the command."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import run
from tests.ledger.conftest import clickhouse, postgres, spool

__all__ = ["clickhouse", "postgres", "run", "spool"]

# Each test file may start a server of its own, so that the quick suite has SQLite alone.
_BACKENDS = ["sqlite", *(pytest.param(name, marks=pytest.mark.slow) for name in ("postgres", "clickhouse"))]


@pytest.fixture(params=_BACKENDS)
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the URL of a new ledger on each backend in turn."""
    if request.param == "sqlite":
        return str(tmp_path / "ledger.db")
    url: str = request.getfixturevalue(request.param).new_database()
    return url
