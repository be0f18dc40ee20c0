"""Rows that a store refuses as data: they are set aside, counted, and hold nothing back."""

from __future__ import annotations

import json
import logging
import random
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import Period, backend_of, forget_user, make_report, read_status, read_traces
from tests.ledger.test_faults import Losses
from tests.support.ledger_records import call, count, one_request, query

_FLUSH_SECONDS = 120.0
# More than a signed column of 64 bits holds, and more than a spool's number does.
TOO_MUCH, FAR_TOO_MUCH = 2**63, 2**70


def refused_file(url: str, spool: Path) -> Path:
    folder = spool if "://" in url else Path(url).parent
    (path,) = folder.glob("*.refused")
    return path


@pytest.mark.parametrize("number", [TOO_MUCH, FAR_TOO_MUCH], ids=["64 bits", "more"])
def test_a_refused_row_is_set_aside_and_holds_nothing_back(
    ledger_url: str, number: int, spool: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Of many records with two impossible ones all others are stored, and the two are kept, counted and logged once."""
    losses = Losses()
    bad = [call(streamed_tokens=number, user_id="mallory", otel_trace_id="a\x00b") for _ in range(2)]
    with caplog.at_level(logging.ERROR), LedgerSink(ledger_url) as sink:
        sink.watch(losses)
        for record in (*(call() for _ in range(20)), bad[0], *(call() for _ in range(20)), bad[1]):
            sink.add(record)
        assert sink.flush(_FLUSH_SECONDS)
        assert sink.lag_seconds() == 0

    assert count(ledger_url, "calls") == 40
    assert losses.lost == {"corrupt": 2}
    assert losses.stored == 40
    assert len([record for record in caplog.records if "does not take a row of calls" in record.message]) == 1
    kept = [json.loads(line) for line in refused_file(ledger_url, spool).read_text().splitlines()]
    assert {line["values"]["run_id"] for line in kept} == {str(record.run_id) for record in bad}
    assert [line["values"]["streamed_tokens"] for line in kept] == [number] * 2

    backend = backend_of(ledger_url)
    assert read_status(backend).refused_rows == 2
    forget_user(backend, "mallory")
    assert "mallory" not in refused_file(ledger_url, spool).read_text()
    backend.close()


def test_a_text_that_only_the_server_refuses_is_set_aside(postgres: Any, spool: Path) -> None:
    """A NUL passes the spool and is refused by PostgreSQL: the shipper goes on without its row."""
    url = postgres.new_database()
    losses = Losses()
    with LedgerSink(url) as sink:
        sink.watch(losses)
        for record in (call(), call(otel_trace_id="a\x00b"), call()):
            sink.add(record)
        assert sink.flush(_FLUSH_SECONDS)

    assert count(url, "calls") == 2
    assert losses.lost == {"corrupt": 1}
    assert json.loads(refused_file(url, spool).read_text())["values"]["otel_trace_id"] == "a\x00b"


def _long_text(seed: int) -> str:
    """Return a text of 4,000 bytes that PostgreSQL cannot compress."""
    return "".join(random.Random(seed).choices([chr(at) for at in range(0x20000, 0x2A6D0)], k=1000))


def test_a_text_that_no_index_of_the_server_takes_is_set_aside(postgres: Any, spool: Path) -> None:
    """The key of a score with 4,000 bytes is more than an entry of an index holds: its row alone is refused."""
    url = postgres.new_database()
    losses = Losses()
    key = _long_text(0)
    records = [*one_request(), *one_request(), *one_request()]
    records[8] = msgspec.structs.replace(records[8], feedback={key: 0.5, "grounded": 0.75})  # type: ignore[call-arg]
    with LedgerSink(url) as sink:
        sink.watch(losses)
        for record in records:
            sink.add(record)
        assert sink.flush(_FLUSH_SECONDS)

    assert count(url, "feedback") == 3
    assert {count(url, name) for name in ("calls", "node_runs", "requests")} == {3}
    assert losses.lost == {"corrupt": 1}
    assert json.loads(refused_file(url, spool).read_text())["values"]["score_key"] == key


def test_labels_and_ids_of_any_script_are_stored_and_summed_up(ledger_url: str) -> None:
    """Texts of 1,000 characters with four bytes each are in the rows, in the report and found by their job."""
    names = ("tenant_id", "feature", "prompt_version", "job_id", "user_id", "session_id")
    owner = {name: _long_text(seed) for seed, name in enumerate(names)}
    losses = Losses()
    with LedgerSink(ledger_url) as sink:
        sink.watch(losses)
        for record in (*one_request(**owner), *one_request()):
            sink.add(record)
        assert sink.flush(_FLUSH_SECONDS)
    backend = backend_of(ledger_url)

    report = make_report(backend, ["tenant"], Period.parse("2026-11-01", "2026-11-30", "UTC"))
    traces = read_traces(backend, owner["job_id"])

    backend.close()
    assert {group.key[0]: group.figures.requests for group in report.groups} == {owner["tenant_id"]: 1, "": 1}
    assert len(traces) == 1
    assert losses.lost == {}


def test_a_partition_that_is_gone_is_no_refusal(postgres: Any) -> None:
    """A month that another process has pruned meanwhile is made again, and its rows are stored."""
    url = postgres.new_database()
    losses = Losses()
    with LedgerSink(url) as sink:
        sink.watch(losses)
        sink.add(call())
        assert sink.flush(_FLUSH_SECONDS)
        backend = backend_of(url)
        with backend.engine().begin() as connection:
            connection.exec_driver_sql("DROP TABLE calls_2026_11")
        backend.close()
        sink.add(call())
        assert sink.flush(_FLUSH_SECONDS)

    assert losses.lost == {}
    assert count(url, "calls") == 1


def test_a_surrogate_is_stored_as_another_character(ledger_url: str) -> None:
    """Half a character in a name is replaced: no backend holds it, and the call counts."""
    with LedgerSink(ledger_url) as sink:
        sink.add(msgspec.structs.replace(call(), provider="open\ud83dai", node="a\x00b"))
        assert sink.flush(_FLUSH_SECONDS)

    assert query(ledger_url, "SELECT provider, node FROM calls") == [("open?ai", "ab")]
