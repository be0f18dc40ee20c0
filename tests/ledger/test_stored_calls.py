"""Calls are read part by part, so that memory does not grow with the ledger."""

from __future__ import annotations

import uuid
from datetime import timedelta
from decimal import Decimal

import pytest

from eco2_callbacks import Cost, LedgerSink
from eco2_callbacks.ledger import Rating, append_ratings, backend_of, read_calls
from tests.support.ledger_records import AT, call

_DAY = timedelta(days=1)


def test_every_call_is_read_once_in_parts_of_a_bounded_size(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Parts end between two moments: calls of one moment stay together, also where they are more than a part holds."""
    monkeypatch.setattr("eco2_callbacks.ledger.stored_calls._CALLS_AT_ONCE", 3)
    # How many calls start at each of five moments; the last one is the last moment of the period.
    starts = [AT, AT + timedelta(microseconds=1), AT + timedelta(hours=1), AT + 3 * _DAY, AT + 4 * _DAY]
    numbers = [2, 1, 5, 1, 1]
    with LedgerSink(ledger_url) as sink:
        for at, number in zip(starts, numbers, strict=True):
            for _ in range(number):
                sink.emit(call(started_at=at))
        sink.flush(60)
    backend = backend_of(ledger_url)

    parts = list(read_calls(backend, AT, starts[-1]))

    backend.close()
    found = [stored for _, calls in parts for stored in calls]
    assert [stored.started_at for stored in found] == [
        at for at, number in zip(starts[:-1], numbers, strict=False) for _ in range(number)
    ]
    assert len({stored.run_id for stored in found}) == len(found)
    assert [len(calls) for _, calls in parts] == [3, 5, 1]
    assert [share for share, _ in parts] == pytest.approx([3 / 9, 8 / 9, 1])
    assert all(len(stored.ratings) == 1 for stored in found)


def test_calls_of_one_run_id_have_their_own_ratings(ledger_url: str) -> None:
    """An application can pass the same run id again: a call is known by its start and its run id."""
    run_id = uuid.uuid4()
    costs = [Decimal("1.75"), Decimal("0.00175"), Decimal("0.5")]
    with LedgerSink(ledger_url) as sink:
        for number, cost in enumerate(costs):
            made = call(run_id=run_id, started_at=AT + timedelta(seconds=number), cost=Cost(input_usd=cost))
            sink.emit(made)
        sink.flush(60)
    backend = backend_of(ledger_url)
    append_ratings(backend, [Rating(made.started_at, str(run_id), Cost(input_usd=Decimal(2)))])

    found = [stored for _, calls in read_calls(backend, AT, AT + _DAY) for stored in calls]

    backend.close()
    assert [[rating.contracted_cost for rating in stored.ratings] for stored in found] == [
        costs[:1],
        costs[1:2],
        [costs[2], Decimal(2)],
    ]
    assert [stored.own.contracted_cost for stored in found if stored.own] == costs


def test_a_period_without_calls_has_no_parts(ledger_url: str) -> None:
    """Nothing is read where there is nothing."""
    with LedgerSink(ledger_url) as sink:
        sink.emit(call())
        sink.flush(60)
    backend = backend_of(ledger_url)

    parts = list(read_calls(backend, AT + _DAY, AT + 2 * _DAY))

    backend.close()
    assert parts == []
