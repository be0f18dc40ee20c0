"""Hourly sums of hours that many batches changed."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import Any

import pytest
import sqlalchemy as sa

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import Period, Rollups, SpentQuery, backend_of, make_report, read_spent
from eco2_callbacks.ledger.schema import table
from tests.support.ledger_records import AT, call, count

_HOUR = timedelta(hours=1)
# As many batches as a day brings at one a second; ClickHouse takes statements of 256 KiB.
_MARKS = 9_000


@pytest.mark.slow
def test_hours_of_thousands_of_batches_are_summed_up(ledger_url: str) -> None:
    """A report after thousands of batches is right, and leaves no mark behind."""
    hours = [AT.replace(minute=0) + number * _HOUR for number in range(3)]
    with LedgerSink(ledger_url) as sink:
        for hour in hours:
            sink.emit(call(started_at=hour))
        assert sink.flush(60)
    backend = backend_of(ledger_url)
    with backend.engine().begin() as connection:
        # What each batch leaves.
        marks = [{"hour": hours[number % 3], "mark": str(uuid.uuid4())} for number in range(_MARKS)]
        for start in range(0, _MARKS, 1000):
            connection.execute(sa.insert(table("changed_hours")), marks[start : start + 1000])

    report = make_report(backend, ["model"], Period(hours[0], hours[-1] + _HOUR, "UTC"))

    assert report.total.calls == 3
    assert count(ledger_url, "changed_hours") == 0
    assert Rollups(backend).refresh() == 0
    backend.close()


@pytest.mark.slow
def test_costs_of_users_with_long_ids_are_read(clickhouse: Any) -> None:
    """The ids that a budget asks for can be more than one statement holds."""
    url = clickhouse.new_database()
    ids = [f"{number:04}" + "x" * 990 for number in range(400)]
    with LedgerSink(url) as sink:
        sink.emit(call(user_id=ids[0]))
        assert sink.flush(60)
    backend = backend_of(url)

    found = read_spent(backend, SpentQuery(since=AT, columns=("user_id",), wanted={"user_id": set(ids)}))

    backend.close()
    assert [spent.values["user_id"] for spent in found] == [ids[0]]
