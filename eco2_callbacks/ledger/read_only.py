"""Makes a backend's engine refuse everything but reading."""

from __future__ import annotations

from typing import Any

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends import Backend

__all__ = ["make_read_only"]

_READS = ("SELECT", "WITH", "PRAGMA", "SHOW", "DESCRIBE", "EXISTS")


def make_read_only(backend: Backend) -> None:
    """Have the backend's connections read only: by the database itself where it can, and by each statement's kind."""
    import sqlalchemy as sa  # noqa: PLC0415

    engine = backend.engine()
    if backend.name == "sqlite":
        sa.event.listen(engine, "connect", _refuse_writes_in_sqlite)
    elif backend.name == "postgres":
        sa.event.listen(engine, "connect", _refuse_writes_in_postgres)
    sa.event.listen(engine, "before_cursor_execute", _check)


def _refuse_writes_in_sqlite(connection: Any, _: Any) -> None:
    connection.execute("PRAGMA query_only=ON")


def _refuse_writes_in_postgres(connection: Any, _: Any) -> None:
    connection.read_only = True


def _check(_connection: Any, _cursor: Any, statement: str, *_: Any) -> None:
    if not statement.lstrip(" (\n").upper().startswith(_READS):
        raise LedgerError(f"The ledger is open for reading only, and this statement is none: {statement[:60]!r}.")
