"""A process that ends in the middle of a migration leaves a ledger that the next one opens."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from alembic import command

from eco2_callbacks import LedgerSink
from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger import Backend, Schema, backend_of
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.migrations.views import VIEWS
from tests.support.ledger_records import call, count

ROOT = Path(__file__).parents[2]
# After which statements a migration ends: in the first schema, between its tables and its views, in a later one.
_AMID = 20
_STATEMENTS = [pytest.param(6, marks=pytest.mark.slow), _AMID, pytest.param(32, marks=pytest.mark.slow)]


class _InterruptError(BaseException):
    """As a KeyboardInterrupt, which would end the test run."""


@contextmanager
def _interrupted(backend: Backend, after: int) -> Iterator[None]:
    """Raise after some statements."""
    seen = 0

    def interrupt(*_: Any) -> None:
        nonlocal seen
        seen += 1
        if seen == after:
            raise _InterruptError

    sa.event.listen(backend.engine(), "after_cursor_execute", interrupt)
    try:
        with pytest.raises(_InterruptError):
            yield
    finally:
        sa.event.remove(backend.engine(), "after_cursor_execute", interrupt)


def _assert_it_works(url: str) -> None:
    with LedgerSink(url) as sink:
        sink.emit(call())
        assert sink.flush(60)
    backend = backend_of(url)
    assert Schema(backend).current() == Schema(backend).newest()
    backend.close()
    assert count(url, "calls") == 1
    for name in (*TABLES, *VIEWS):
        count(url, name)


@pytest.mark.parametrize("after", _STATEMENTS)
def test_an_interrupted_migration_is_made_by_the_next_process(ledger_url: str, after: int) -> None:
    """An interrupt between two statements leaves nothing that stops the next migration."""
    backend = backend_of(ledger_url)
    with _interrupted(backend, after):
        Schema(backend).open()
    if backend.name == "clickhouse":
        # It has no transactions. A server of an older schema is migrated by command.
        Schema(backend).migrate()
    backend.close()

    _assert_it_works(ledger_url)


def test_a_killed_migration_is_made_by_the_next_process(tmp_path: Path) -> None:
    """SIGKILL between two statements leaves the file as it was."""
    program = (
        "import os, signal, sys\n"
        "import sqlalchemy as sa\n"
        "from eco2_callbacks.ledger import Schema, backend_of\n"
        "backend = backend_of(sys.argv[1])\n"
        "seen = []\n"
        "def kill(*_):\n"
        "    seen.append(1)\n"
        f"    if len(seen) == {_AMID}: os.kill(os.getpid(), signal.SIGKILL)\n"
        "sa.event.listen(backend.engine(), 'after_cursor_execute', kill)\n"
        "Schema(backend).open()\n"
    )
    path = tmp_path / "ledger.db"
    done = subprocess.run([sys.executable, "-c", program, str(path)], cwd=ROOT, check=False)
    assert done.returncode == -signal.SIGKILL

    _assert_it_works(str(path))


@pytest.mark.parametrize("after", _STATEMENTS)
def test_what_an_older_version_left_half_done_is_completed(tmp_path: Path, after: int) -> None:
    """A file whose migration was killed when it was no transaction yet opens again."""
    path = tmp_path / "ledger.db"
    backend = backend_of(path)
    schema = Schema(backend)
    with _interrupted(backend, after), schema._connect() as connection:
        config = schema._config()
        config.attributes["connection"] = connection
        command.upgrade(config, "head")
    backend.close()
    assert os.path.getsize(path) > 0

    _assert_it_works(str(path))


def test_a_table_of_the_application_is_not_taken_for_the_ledgers(tmp_path: Path) -> None:
    """A file with another table of the same name is refused, and stays as it is."""
    path = tmp_path / "application.db"
    backend = backend_of(path)
    with backend.engine().begin() as connection:
        connection.exec_driver_sql("CREATE TABLE requests (id INTEGER PRIMARY KEY, page TEXT)")

    with pytest.raises(LedgerError, match="table requests already exists"):
        Schema(backend).open()

    with backend.engine().connect() as connection:
        names = connection.exec_driver_sql("SELECT name FROM sqlite_master WHERE type = 'table'").scalars().all()
    backend.close()
    assert names == ["requests"]
