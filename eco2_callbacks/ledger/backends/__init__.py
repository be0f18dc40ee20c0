"""The stores of a ledger: a SQLite file, PostgreSQL, ClickHouse."""

from __future__ import annotations

from eco2_callbacks.ledger.backends.protocol import Backend, Rows
from eco2_callbacks.ledger.backends.urls import backend_of

__all__ = ["Backend", "Rows", "backend_of"]
