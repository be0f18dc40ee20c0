"""What the command line does to a ledger: status, prune, forget."""

from __future__ import annotations

import logging
import time
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from glob import escape
from pathlib import Path

import sqlalchemy as sa

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger.backends import Backend
from eco2_callbacks.ledger.backends.sqlite import erased
from eco2_callbacks.ledger.cells import FIRST_TIME
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.migrations import Schema
from eco2_callbacks.ledger.refused_rows import RefusedRows
from eco2_callbacks.ledger.schema import table
from eco2_callbacks.ledger.spool import Spool, default_spool_folder, spool_path

__all__ = ["Status", "forget_user", "models_of", "prune", "read_status"]

_logger = logging.getLogger(__name__)
_COUNTED = ("calls", "ratings", "node_runs", "tool_calls", "retriever_calls", "requests", "feedback")


@dataclass(frozen=True, slots=True)
class Status:
    """The state of a ledger.

    Attributes:
        revision: Its schema's; None where there is none yet.
        rows: Number of rows by table.
        first: Start of the first call, None without calls.
        last: Start of the last call.
        changed_hours: Hours that the next report sums up anew.
        spool: The spool on this machine; None for a file, which needs none.
        spooled_records: Records that wait in it.
        lag_seconds: Age of the oldest of them.
        refused_rows: Rows that the ledger did not take, in the file ``refused`` on this machine.
    """

    backend: str
    url: str
    revision: str | None
    newest_revision: str
    rows: dict[str, int]
    first: datetime | None
    last: datetime | None
    changed_hours: int
    size_bytes: int | None
    spool: Path | None
    spooled_records: int
    lag_seconds: float
    refused_rows: int
    refused: Path


def read_status(backend: Backend) -> Status:
    """Return the state of a ledger and of this machine's spool.

    Raises:
        LedgerError: If the backend cannot be reached.
    """
    schema = Schema(backend)
    revision = schema.current()
    rows: dict[str, int] = {}
    first = last = None
    changed = 0
    if revision is not None:
        calls, hours = table("calls"), table("changed_hours")
        with backend.engine().connect() as connection:
            for name in _COUNTED:
                rows[name] = connection.execute(sa.select(sa.func.count()).select_from(table(name))).scalar_one()
            if rows["calls"]:
                first, last = connection.execute(
                    sa.select(sa.func.min(calls.c.started_at), sa.func.max(calls.c.started_at))
                ).one()
            changed = connection.execute(sa.select(sa.func.count(sa.distinct(hours.c.hour)))).scalar_one()
    spool = _find_spool(backend)
    waiting = 0 if spool is None else spool.waiting()
    oldest = None if spool is None else spool.oldest()
    path = backend.local_path
    refused = RefusedRows(_local_path(backend))
    return Status(
        backend.name,
        backend.shown_url,
        revision,
        schema.newest(),
        rows,
        first,
        last,
        changed,
        path.stat().st_size if path is not None and path.is_file() else None,
        None if spool is None else spool.path,
        waiting,
        0.0 if oldest is None else max(0.0, time.time() - oldest),
        refused.count(),
        refused.path,
    )


def models_of(backend: Backend) -> list[tuple[str, str]]:
    """Return provider and model of all calls.

    Raises:
        LedgerError: If there is no ledger.
    """
    Schema(backend).require()
    series = table("series")
    with backend.engine().connect() as connection:
        found = connection.execute(sa.select(series.c.provider, series.c.model).distinct())
        return [(provider, model) for provider, model in found]


def prune(backend: Backend, older_than: timedelta, *, now: datetime | None = None) -> tuple[datetime, int]:
    """Delete all rows, roll-ups too, that started before a moment; return the moment and the number of calls.

    The moment is rounded down to an hour, so that each roll-up stays whole.

    Raises:
        ConfigError: If the duration is not above 0, or reaches back before all rows.
        LedgerError: If there is no ledger.
    """
    if older_than <= timedelta():
        raise ConfigError(f"--older-than is {older_than}, wanted a duration above 0, such as 400d.")
    now = now or datetime.now(UTC)
    if older_than > now - FIRST_TIME:
        raise ConfigError(
            f"--older-than is {older_than.days} days, wanted a duration back to {FIRST_TIME.year} or later, as in 400d."
        )
    Schema(backend).require()
    before = (now - older_than).replace(minute=0, second=0, microsecond=0)
    return before, backend.delete_before(before)


def forget_user(backend: Backend, user_id: str) -> int:
    """Erase a user's identifiers from the ledger and from this machine's spool; usage and dollars stay.

    Erased are ``user_id``, ``session_id``, ``job_id``, ``response_id`` and ``metadata``. A file that was moved aside as
    corrupt cannot be changed: the log names it.

    Returns:
        The number of calls in the ledger that were the user's.

    Raises:
        LedgerError: If there is no ledger, or the spool's batch on its way is not stored within minutes.
    """
    Schema(backend).require()
    spool, path = _find_spool(backend), _local_path(backend)
    # A batch on its way would be stored with the ids after they are erased.
    with nullcontext() if spool is None else spool.paused():
        if spool is not None:
            spool.rewrite(lambda name, row: erased(TABLES[name].names, row, user_id))
            spool.close()
        RefusedRows(path).rewrite(lambda name, row: erased(TABLES[name].names, row, user_id))
        calls = backend.forget(user_id)
    if aside := sorted(path.parent.glob(f"{escape(path.name)}.corrupt-*")):
        _logger.warning(
            "Corrupt files that were moved aside can hold the user's ids; delete them once they are recovered: %s",
            ", ".join(map(str, aside)),
        )
    return calls


def _local_path(backend: Backend) -> Path:
    """Return the ledger's file, or where this machine's spool would be."""
    return backend.local_path or spool_path(default_spool_folder(), backend.name, backend.shown_url)


def _find_spool(backend: Backend) -> Spool | None:
    """Return this machine's spool, None where there is none."""
    if backend.local_path is not None:
        return None
    path = _local_path(backend)
    return Spool(path, max_bytes=2**62) if path.is_file() else None
