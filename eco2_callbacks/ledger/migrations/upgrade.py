"""Schema: which schema a ledger has, and how it gets the newest one."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger.backends.clickhouse import ClickHouseBackend
from eco2_callbacks.ledger.backends.postgres import SCHEMA, PostgresBackend
from eco2_callbacks.ledger.local_file import FileLock

if TYPE_CHECKING:
    from eco2_callbacks.ledger.backends import Backend

__all__ = ["Schema"]

_T = TypeVar("_T")
_logger = logging.getLogger(__name__)
_VERSION_TABLE = "schema_version"
_FOLDER = Path(__file__).parent
_LOCK_SECONDS = 60.0
# The longest step of a migration by another process.
_STEP_SECONDS = 5.0
_POLL_SECONDS = 0.1
_POSTGRES_LOCK = 0x65636F33


class Schema:
    """The schema of one backend's ledger.

    Args:
        backend: The backend.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def newest(self) -> str:
        """Return the revision that this package knows."""
        from alembic.script import ScriptDirectory  # noqa: PLC0415

        return str(ScriptDirectory.from_config(self._config()).get_current_head())

    def current(self) -> str | None:
        """Return the ledger's revision, None if there is no ledger yet.

        Raises:
            LedgerError: If the backend cannot be reached.
        """
        from alembic.runtime.migration import MigrationContext  # noqa: PLC0415

        if (path := self._backend.local_path) is not None and not path.is_file():
            return None
        if isinstance(self._backend, ClickHouseBackend) and not self._guarded(self._backend.has_database):
            return None
        with self._connect() as connection:
            context = MigrationContext.configure(connection, opts={"version_table": _VERSION_TABLE})
            heads = context.get_current_heads()
            # ClickHouse adds a version before it deletes the one before: an interrupt leaves both.
            return max(heads, default=None)

    def open(self) -> None:
        """Create the tables of a new ledger, upgrade a file, and check a server's.

        Raises:
            LedgerError: If the backend cannot be reached, or its schema is newer or older than this package.
        """
        current, newest = self.current(), self.newest()
        if current == newest:
            return
        self._refuse_newer(current)
        if current is None or self._backend.local_path is not None:
            self.migrate()
        elif not self._becomes(newest):
            raise self._too_old(current, newest)

    def require(self) -> None:
        """Check that there is a ledger to read.

        Raises:
            LedgerError: If there is none, it cannot be reached, or its schema is newer or older than this package.
        """
        current, newest = self.current(), self.newest()
        if current == newest:
            return
        if current is None:
            raise LedgerError(
                f"There is no ledger at {self._backend.shown_url}. Name the one that your application writes with "
                "--ledger or ECO2_LEDGER."
            )
        self._refuse_newer(current)
        raise self._too_old(current, newest)

    def migrate(self) -> tuple[str | None, str]:
        """Bring the schema to the newest revision; return the revisions before and after.

        Raises:
            LedgerError: If the backend cannot be reached, or its schema is newer than this package.
        """
        with self._locked():
            before = self.current()
            self._refuse_newer(before)
            if before != (newest := self.newest()):
                try:
                    self._upgrade(before)
                except Exception:
                    # Of two processes that begin together one meets what the other has made.
                    if not self._becomes(newest):
                        raise
                _logger.info("The ledger %s was migrated from %s to %s.", self._backend.shown_url, before, newest)
        return before, newest

    def _upgrade(self, before: str | None) -> None:
        from alembic import command  # noqa: PLC0415

        self._prepare()
        if isinstance(self._backend, ClickHouseBackend) and before is not None:
            self._backend.client().command(
                f"ALTER TABLE {_VERSION_TABLE} DELETE WHERE version_num < {{before:String}}",
                {"before": before},
                settings={"mutations_sync": 2},
            )
        with self._connect() as connection:
            config = self._config()
            config.attributes["connection"] = connection
            if self._backend.local_path is not None:
                # All or nothing, as Alembic does it for PostgreSQL: a killed process leaves the old schema.
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            command.upgrade(config, "head")
            connection.commit()

    def _becomes(self, newest: str) -> bool:
        """Return whether another process brings ClickHouse's schema to the newest revision; wait while it goes on.

        ClickHouse has neither a lock nor a transaction: other processes see each step.
        """
        if not isinstance(self._backend, ClickHouseBackend):
            return False
        seen, until = self.current(), time.monotonic() + _STEP_SECONDS
        while (current := self.current()) != newest:
            if current != seen:
                seen, until = current, time.monotonic() + _STEP_SECONDS
            elif time.monotonic() >= until:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def _too_old(self, current: str, newest: str) -> LedgerError:
        return LedgerError(
            f"The ledger {self._backend.shown_url} has schema {current!r}, this package needs {newest!r}; run "
            "'eco2 ledger migrate'."
        )

    def _refuse_newer(self, current: str | None) -> None:
        from alembic.script import ScriptDirectory  # noqa: PLC0415
        from alembic.util import CommandError  # noqa: PLC0415

        if current is None:
            return
        with suppress(CommandError):
            if ScriptDirectory.from_config(self._config()).get_revision(current) is not None:
                return
        raise LedgerError(
            f"The ledger {self._backend.shown_url} has schema {current!r}, this package knows none after "
            f"{self.newest()!r}; upgrade eco2-callbacks here: pip install --upgrade eco2-callbacks."
        )

    def _config(self) -> Any:
        from alembic.config import Config  # noqa: PLC0415

        config = Config()
        # Alembic reads % as the start of an interpolation.
        config.set_main_option("script_location", str(_FOLDER).replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["version_table"] = _VERSION_TABLE
        if isinstance(self._backend, ClickHouseBackend):
            config.attributes.update(table_engine=self._backend.table_engine, cluster=self._backend.cluster)
        return config

    @contextmanager
    def _connect(self) -> Iterator[Any]:
        import sqlalchemy as sa  # noqa: PLC0415

        connection = self._guarded(self._backend.engine().connect)
        if isinstance(self._backend, ClickHouseBackend):
            # Its import tells Alembic how ClickHouse keeps the schema's version.
            import clickhouse_connect.cc_sqlalchemy.alembic  # noqa: F401, PLC0415
        try:
            yield connection
        except sa.exc.OperationalError as error:
            raise LedgerError(f"The ledger {self._backend.shown_url} cannot be used: {_short(error)}.") from error
        finally:
            connection.close()

    def _guarded(self, reach: Callable[[], _T]) -> _T:
        try:
            return reach()
        except LedgerError:
            raise
        except Exception as error:
            raise LedgerError(
                f"The ledger {self._backend.shown_url} cannot be reached ({_short(error)}). Start it, or correct "
                "the URL and its user and password."
            ) from error

    def _prepare(self) -> None:
        """Make what the tables stand in."""
        import sqlalchemy as sa  # noqa: PLC0415

        if isinstance(self._backend, ClickHouseBackend):
            self._guarded(self._backend.create_database)
            # Alembic looks whether its table is there and then makes it: another process can come between.
            columns = "(version_num String) ENGINE MergeTree ORDER BY version_num"
            self._backend.client().command(f"CREATE TABLE IF NOT EXISTS {_VERSION_TABLE} {columns}")
        elif isinstance(self._backend, PostgresBackend) and self._backend.has_own_schema:
            with self._connect() as connection:
                connection.execute(sa.text(f"CREATE SCHEMA IF NOT EXISTS {SCHEMA}"))
                connection.commit()

    @contextmanager
    def _locked(self) -> Iterator[None]:
        """Keep other processes from migrating at the same time; ClickHouse's statements may run twice."""
        import sqlalchemy as sa  # noqa: PLC0415

        path = self._backend.local_path
        if isinstance(self._backend, PostgresBackend):
            with self._connect() as connection:
                connection.execute(sa.text(f"SELECT pg_advisory_lock({_POSTGRES_LOCK})"))
                yield
            return
        lock = (
            nullcontext() if path is None else FileLock(path.with_name(f"{path.name}.lock"), wait_seconds=_LOCK_SECONDS)
        )
        with lock:
            yield


def _short(error: BaseException) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else ''}"
