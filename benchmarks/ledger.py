"""Measures a ledger: rows a second against a bare bulk insert, the caller's microseconds, and reports against bare SQL.

    uv run python benchmarks/ledger.py [URL ...] [--calls 20000] [--report-rows 1000000]

Without a URL the ledger is a SQLite file in a temporary folder. The database of a server should be empty: its rows
stay. Each round measures the bare insert and the ledger one after the other, so that a slow moment of the machine
affects both. A figure is the best of all rounds. Absolute times differ between machines; ratios hardly do.

============  ==========================================================================================
bare insert   The same rows, calls and ratings, by the driver's own fastest way into the same tables.
ledger        From ``emit`` to the stored row: encoding, spool, ratings, idempotent by key.
report        ``eco2 report --by tenant`` on roll-ups, against one SELECT over calls and ratings.
============  ==========================================================================================
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from eco2_callbacks import LedgerSink, LLMCall, PriceBook, TokenUsage
from eco2_callbacks.ledger import Backend, Period, Rollups, Schema, backend_of, make_report
from eco2_callbacks.ledger.backends.clickhouse import ClickHouseBackend
from eco2_callbacks.ledger.backends.postgres import PostgresBackend
from eco2_callbacks.ledger.backends.sqlite import SQLiteBackend
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.rows import Batch

GOALS = {"insert": 0.5, "emit": 15.0, "report": 3.0}
_ROUNDS = 3
_AT = datetime(2026, 10, 1, tzinfo=UTC)
_BOOK = PriceBook()


def calls(number: int, *, hours: int = 1) -> list[LLMCall]:
    """Return calls of ten tenants and five nodes, spread over some hours."""
    made = []
    for index in range(number):
        usage = TokenUsage(input_tokens=500 + index % 1000, output_tokens=50 + index % 200)
        quote = _BOOK.quote(usage, provider="openai", model="gpt-5.2", at=_AT)
        run_id = uuid.uuid4()
        made.append(
            LLMCall(
                run_id=run_id,
                trace_id=run_id,
                tenant_id=f"tenant-{index % 10}",
                user_id=f"user-{index % 500}",
                session_id=f"session-{index % 2000}",
                node=f"node-{index % 5}",
                provider="openai",
                model="gpt-5.2",
                request_model="gpt-5.2",
                started_at=_AT + timedelta(hours=index % hours, microseconds=index),
                duration_seconds=0.5 + index % 7,
                usage=usage,
                cost=quote.cost,
                rates=quote.rates,
                response_id=f"resp-{index}",
            )
        )
    return made


def bare_insert(backend: Backend, made: Sequence[LLMCall]) -> float:
    """Return the seconds that the driver needs for the rows alone, in batches as the ledger's."""
    batches = [Batch(made[start : start + 2000]).rows for start in range(0, len(made), 2000)]
    if isinstance(backend, PostgresBackend):
        backend._make_partitions(backend.connection(), [row[0] for rows in batches for row in rows["calls"]])
    started = time.perf_counter()
    for rows in batches:
        for name in ("calls", "ratings"):
            _insert(backend, name, rows[name])
    return time.perf_counter() - started


def _insert(backend: Backend, name: str, rows: Sequence[Any]) -> None:
    columns = ", ".join(TABLES[name].names)
    if isinstance(backend, SQLiteBackend):
        connection = backend.file.connection()
        connection.execute("BEGIN")
        marks = ", ".join("?" * len(TABLES[name].columns))
        connection.executemany(f"INSERT INTO {name} ({columns}) VALUES ({marks})", rows)  # noqa: S608
        connection.execute("COMMIT")
    elif isinstance(backend, PostgresBackend):
        kinds = [column.kind for column in TABLES[name].columns]
        copying = f"COPY {name} ({columns}) FROM STDIN"
        with backend.connection().transaction(), backend.connection().cursor().copy(copying) as copy:
            for row in rows:
                copy.write_row([_native(kind, value) for kind, value in zip(kinds, row, strict=True)])
    elif isinstance(backend, ClickHouseBackend):
        backend._insert(backend.client(), name, rows)


def _native(kind: str, value: Any) -> Any:
    if value is None:
        return None
    if kind == "time":
        return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=value)
    return Decimal(value).scaleb(-12) if kind == "money" else value


def ledger_insert(url: str, made: Sequence[LLMCall]) -> tuple[float, float]:
    """Return the seconds until all calls are stored, and the median microseconds of one ``emit``."""
    with LedgerSink(url, max_waiting=len(made) + 1) as sink:
        taken = []
        started = time.perf_counter()
        for call in made:
            before = time.perf_counter()
            sink.emit(call)
            taken.append(time.perf_counter() - before)
        assert sink.flush(600)
        return time.perf_counter() - started, statistics.median(taken) * 1e6


def measure_reports(backend: Backend, rows: int) -> None:
    """Fill the ledger up, and compare a report with the bare SQL."""
    present = 0
    while present < rows:
        backend.store([Batch(calls(20_000, hours=24 * 28)).rows])
        present += 20_000
        print(f"\r{present:,} of {rows:,} rows", end="", flush=True)
    print()
    started = time.perf_counter()
    hours = Rollups(backend).refresh()
    print(f"summing up {hours} hours: {time.perf_counter() - started:.1f} s, once")
    period = Period.parse("2026-10-01", "2026-10-31", "UTC")
    bare = sa.text(
        "SELECT c.tenant_id, count(*), sum(c.input_tokens), sum(r.contracted_cost) FROM calls c "
        "JOIN ratings r ON c.started_at = r.started_at AND c.run_id = r.run_id GROUP BY c.tenant_id"
    )
    bare_seconds, report_seconds = [], []
    for _ in range(_ROUNDS):
        started = time.perf_counter()
        with backend.engine().connect() as connection:
            connection.execute(bare).all()
        bare_seconds.append(time.perf_counter() - started)
        started = time.perf_counter()
        make_report(backend, ["tenant"], period)
        report_seconds.append(time.perf_counter() - started)
    ratio = min(report_seconds) / min(bare_seconds)
    print(
        f"report by tenant: {min(report_seconds):.2f} s, bare SQL {min(bare_seconds):.2f} s, ratio {ratio:.2f} "
        f"(goal {GOALS['report']} at most)"
    )


def measure(url: str, number: int, report_rows: int) -> None:
    """Print the figures of one ledger."""
    backend = backend_of(url)
    Schema(backend).open()
    bare, whole, emits = [], [], []
    for _ in range(_ROUNDS):
        bare.append(bare_insert(backend, calls(number)))
        seconds, emit = ledger_insert(url, calls(number))
        whole.append(seconds)
        emits.append(emit)
    ratio = min(bare) / min(whole)
    print(f"{backend.name}: bare insert {number / min(bare):,.0f} calls/s, ledger {number / min(whole):,.0f} calls/s")
    print(f"  ratio {ratio:.2f} (goal {GOALS['insert']} at least)")
    print(f"  emit {min(emits):.2f} us for the caller, median (goal {GOALS['emit']} at most)")
    if report_rows:
        measure_reports(backend, report_rows)
    backend.close()


def main() -> None:
    """Measure every ledger that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("urls", nargs="*", metavar="URL")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--report-rows", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ECO2_LEDGER_SPOOL", folder)
        for url in options.urls or [str(Path(folder) / "ledger.db")]:
            measure(url, options.calls, options.report_rows)


if __name__ == "__main__":
    main()
