"""Fixtures of the finance tests: a new ledger on each backend, and a function that runs the command."""

from __future__ import annotations

from tests.cli.conftest import run
from tests.ledger.conftest import clickhouse, ledger_url, postgres, spool

__all__ = ["clickhouse", "ledger_url", "postgres", "run", "spool"]
