"""Measures a ledger: rows a second against a bare bulk insert, the caller's microseconds, and reports against bare SQL.

    uv run python benchmarks/ledger.py [URL ...] [--calls 20000] [--report-rows 10000000 [--reports URL]]

Without a URL the ledger is a SQLite file in a temporary folder. The database of a server should be empty: its rows
stay. ClickHouse's engine without a server: ``python tests/support/clickhouse_server.py FOLDER PORT``, then the URL
``'clickhouse://default:@127.0.0.1:PORT/calls?compress=false&send_receive_timeout=900'``. The rows of the
reports are copied inside the database.

Each round measures the bare insert and the ledger one after the other, so that a slow moment of the machine
affects both. A figure is the best of all rounds. Absolute times differ between machines; ratios hardly do.

============  ==========================================================================================
bare insert   The same rows, calls and ratings, by the driver's own fastest way into the same tables.
ledger        From ``emit`` to the stored row: encoding, spool, ratings, idempotent by key.
report        ``eco2 report --by tenant`` and ``model``, on roll-ups, against one SELECT over calls and ratings.
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

from eco2_callbacks import LedgerSink, LLMCall, PriceBook, TokenUsage
from eco2_callbacks.ledger import Backend, Schema, backend_of
from eco2_callbacks.ledger.backends.clickhouse import ClickHouseBackend
from eco2_callbacks.ledger.backends.postgres import PostgresBackend
from eco2_callbacks.ledger.backends.sqlite import SQLiteBackend
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.rows import Batch
from ledger_reports import measure_reports

GOALS = {"insert": 0.5, "emit": 15.0, "report": 3.0}
_ROUNDS = 3
_AT = datetime(2026, 10, 1, tzinfo=UTC)
_BOOK = PriceBook()


def calls(number: int) -> list[LLMCall]:
    """Return calls of ten tenants and five nodes, spread over an hour."""
    made = []
    step = timedelta(hours=1) / number
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
                started_at=_AT + index * step,
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


def measure(url: str, number: int, report_rows: int, empty_url: str) -> None:
    """Print the figures of one ledger, and of reports on an empty one of the same kind."""
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
        # On a ledger of its own: the rows above would be copied too.
        empty = backend_of(empty_url)
        Schema(empty).open()
        measure_reports(empty, report_rows, calls, goal=GOALS["report"])
        empty.close()
    backend.close()


def main() -> None:
    """Measure every ledger that is named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("urls", nargs="*", metavar="URL")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--report-rows", type=int, default=0)
    parser.add_argument("--reports", metavar="URL", default="", help="an empty database for the reports' rows")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ.setdefault("ECO2_LEDGER_SPOOL", folder)
        for url in options.urls or [str(Path(folder) / "ledger.db")]:
            if options.report_rows and "://" in url and not options.reports:
                parser.error("--report-rows on a server needs --reports URL: an empty database of its own")
            empty_url = options.reports or str(Path(folder) / "reports.db")
            measure(url, options.calls, options.report_rows, empty_url)


if __name__ == "__main__":
    main()
