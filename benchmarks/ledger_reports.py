"""Fills a ledger with millions of calls, and times reports against bare SQL on the same database."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import sqlalchemy as sa

from eco2_callbacks import LLMCall
from eco2_callbacks.ledger import Backend, Period, Rollups, make_report
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.rows import Batch
from eco2_callbacks.ledger.schema import table

__all__ = ["measure_reports"]

_ROUNDS = 3
_SEEDS = 50_000
_DAYS = 28
_FIRST = datetime(2026, 10, 1, tzinfo=UTC)
# Name of the backend -> SQL of the copied time and id: a copy's number is the first part of its id.
_COPIED = {
    "sqlite": (
        "started_at + {copy} * {shift}",
        "printf('%08x', {copy}) || substr(run_id, 9)",
    ),
    "postgres": (
        "started_at + {copy} * {shift} * interval '1 microsecond'",
        "(lpad(to_hex({copy}), 8, '0') || substr(run_id::text, 9))::uuid",
    ),
    "clickhouse": (
        "addMicroseconds(started_at, {copy} * {shift})",
        "toUUID(concat(leftPad(hex({copy}), 8, '0'), substring(toString(run_id), 9)))",
    ),
}


def measure_reports(backend: Backend, rows: int, make_calls: Callable[..., list[LLMCall]], *, goal: float) -> None:
    """Fill an empty ledger up to a number of calls, and print the seconds of reports and of bare SQL."""
    started = time.perf_counter()
    _fill(backend, rows, make_calls)
    print(f"  {rows:,} calls made in {time.perf_counter() - started:.0f} s")
    started = time.perf_counter()
    hours = Rollups(backend).refresh()
    print(f"  {hours} hours summed up in {time.perf_counter() - started:.1f} s, once")
    period = Period.parse("2026-10-01", "2026-10-31", "UTC")
    for dimension in ("tenant", "model"):
        column = {"tenant": "tenant_id"}.get(dimension, dimension)
        bare = sa.text(
            f"SELECT c.{column}, count(*), sum(c.input_tokens), sum(r.contracted_cost) FROM calls c "  # noqa: S608
            f"JOIN ratings r ON c.started_at = r.started_at AND c.run_id = r.run_id GROUP BY c.{column}"
        )
        bare_seconds = _best(lambda bare=bare: _run(backend, bare))  # type: ignore[misc]
        report_seconds = _best(lambda by=dimension: make_report(backend, [by], period))  # type: ignore[misc]
        print(
            f"  report by {dimension}: {report_seconds:.2f} s, bare SQL {bare_seconds:.2f} s, ratio "
            f"{report_seconds / bare_seconds:.2f} (goal {goal} at most)"
        )


def _fill(backend: Backend, rows: int, make_calls: Callable[..., list[LLMCall]]) -> None:
    seeds = min(_SEEDS, rows)
    copies = -(-rows // seeds)
    # Each copy follows the one before in time, as calls come.
    shift = _DAYS * 86_400_000_000 // copies
    made = make_calls(seeds, span=timedelta(microseconds=shift))
    for start in range(0, seeds, 2000):
        backend.store([Batch(made[start : start + 2000]).rows])
    if backend.name == "postgres":
        # The month's partitions exist: the seeds begin with its first moment.
        assert (_FIRST + timedelta(days=_DAYS)).month == _FIRST.month
    for copy in range(1, copies):
        with backend.engine().begin() as connection:
            for name in ("calls", "ratings"):
                connection.exec_driver_sql(_copy_statement(backend.name, name, copy, shift))
    hours = [{"hour": _FIRST + timedelta(hours=hour), "mark": "benchmark"} for hour in range(24 * _DAYS)]
    with backend.engine().begin() as connection:
        connection.execute(sa.delete(table("changed_hours")).where(table("changed_hours").c.hour >= _FIRST))
        connection.execute(sa.insert(table("changed_hours")), hours)


def _copy_statement(backend: str, name: str, copy: int, shift: int) -> str:
    at, run_id = (text.format(copy=copy, shift=shift) for text in _COPIED[backend])
    changed = {"started_at": at, "run_id": run_id}
    names: Sequence[str] = TABLES[name].names
    selected = ", ".join(changed.get(column, column) for column in names)
    end: dict[str, Any] = {
        "sqlite": int(_FIRST.timestamp()) * 1_000_000 + shift,
        "postgres": f"timestamptz 'epoch' + {int(_FIRST.timestamp()) * 1_000_000 + shift} * interval '1 microsecond'",
        "clickhouse": f"fromUnixTimestamp64Micro(toInt64({int(_FIRST.timestamp()) * 1_000_000 + shift}))",
    }
    return f"INSERT INTO {name} ({', '.join(names)}) SELECT {selected} FROM {name} WHERE started_at < {end[backend]}"  # noqa: S608


def _run(backend: Backend, statement: Any) -> None:
    with backend.engine().connect() as connection:
        connection.execute(statement).all()


def _best(run: Callable[[], object]) -> float:
    seconds = []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
