"""Ratings that would not hold are refused or left out, alike on every backend."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from eco2_callbacks import Cost, LedgerSink, LLMCall
from eco2_callbacks.errors import LedgerError
from eco2_callbacks.ledger import (
    Period,
    Rating,
    SpentQuery,
    append_ratings,
    backend_of,
    make_report,
    read_calls,
    read_spent,
)
from tests.support.ledger_records import AT, call, count

_DAY = timedelta(days=1)


def _store(url: str, *calls: LLMCall) -> None:
    with LedgerSink(url) as sink:
        for each in calls:
            sink.emit(each)
        assert sink.flush(60)


def _rating(of: LLMCall, usd: str) -> Rating:
    return Rating(of.started_at, str(of.run_id), Cost(input_usd=Decimal(usd)))


def _newest(url: str, of: LLMCall) -> Decimal | None:
    backend = backend_of(url)
    calls = [found for _, part in read_calls(backend, AT - _DAY, datetime.now(UTC) + _DAY) for found in part]
    backend.close()
    (one,) = (found for found in calls if found.run_id == str(of.run_id))
    assert one.newest is not None
    return one.newest.contracted_cost


def test_a_rating_that_is_not_newer_is_refused(ledger_url: str) -> None:
    """A rating as new as the present one, or older, is an error that names both moments, and nothing is stored."""
    first, second = call(), call()
    _store(ledger_url, first, second)
    backend = backend_of(ledger_url)
    at = AT + _DAY
    assert append_ratings(backend, [_rating(first, "0.002")], at=at) == 1

    for moment in (at, at - timedelta(microseconds=1)):
        with pytest.raises(LedgerError, match=str(first.run_id)) as refused:
            append_ratings(backend, [_rating(second, "0.009"), _rating(first, "0.009")], at=moment)
        assert f"has a rating of {at.isoformat()}" in str(refused.value)
    append_ratings(backend, [_rating(second, "0.004")], at=at + timedelta(microseconds=1))

    backend.close()
    assert (_newest(ledger_url, first), _newest(ledger_url, second)) == (Decimal("0.002"), Decimal("0.004"))
    assert count(ledger_url, "ratings") == 4


def test_two_ratings_of_a_call_at_once_are_refused(ledger_url: str) -> None:
    """Of two ratings of one moment none is the newest."""
    made = call()
    _store(ledger_url, made)
    backend = backend_of(ledger_url)

    with pytest.raises(LedgerError, match="would not hold"):
        append_ratings(backend, [_rating(made, "0.002"), _rating(made, "0.009")])

    backend.close()
    assert count(ledger_url, "ratings") == 1


def test_a_call_of_a_fast_clock_is_left_out_and_counted(ledger_url: str) -> None:
    """A rating that lies in the future holds: one of now is refused, or left out where that is wanted."""
    now = datetime.now(UTC)
    fast, unpriced = (
        call(started_at=now, duration_seconds=600.0),
        call(started_at=now + _DAY / 2, cost=None, rates=None),
    )
    usual = call()
    _store(ledger_url, fast, unpriced, usual)
    backend = backend_of(ledger_url)
    ratings = [_rating(each, "0.002") for each in (fast, unpriced, usual)]

    with pytest.raises(LedgerError):
        append_ratings(backend, ratings)
    appended = append_ratings(backend, ratings, skips_outdated=True)

    assert appended == 1
    assert _newest(ledger_url, fast) == Decimal("0.00315")
    assert _newest(ledger_url, usual) == Decimal("0.002")
    assert append_ratings(backend, ratings, at=now + _DAY) == 3
    backend.close()
    assert _newest(ledger_url, fast) == Decimal("0.002")


@pytest.mark.slow
def test_ratings_whose_writer_is_killed_reach_the_hourly_sums(clickhouse: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once ratings are stored the next report has them, even if their writer ends before it does anything else."""
    url = clickhouse.new_database()
    made = call()
    _store(url, made)
    backend = backend_of(url)
    november = Period.parse("2026-11-01", "2026-11-30", "UTC")
    assert make_report(backend, ["model"], november).total.cost == Decimal("0.00315")
    client = backend.client()  # type: ignore[attr-defined]
    insert = client.insert

    def insert_and_end(name: str, *args: Any, **named: Any) -> None:
        insert(name, *args, **named)
        if name == "ratings":
            raise ConnectionError("killed")

    monkeypatch.setattr(client, "insert", insert_and_end)
    with pytest.raises(ConnectionError, match="killed"):
        append_ratings(backend, [_rating(made, "0.002")])

    assert _newest(url, made) == Decimal("0.002")
    assert make_report(backend, ["model"], november).total.cost == Decimal("0.002")
    backend.close()


def test_many_ratings_are_appended_in_one_go(ledger_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Calls of one moment, and of more moments than one statement names, all get their rating."""
    monkeypatch.setattr("eco2_callbacks.ledger.ratings._STARTS_AT_ONCE", 2)
    calls = [call(started_at=AT + timedelta(microseconds=number // 2)) for number in range(10)]
    _store(ledger_url, *calls)
    backend = backend_of(ledger_url)
    at = datetime.now(UTC)

    assert append_ratings(backend, [_rating(each, "0.002") for each in calls], at=at) == 10
    assert append_ratings(backend, [_rating(each, "0.009") for each in calls], at=at, skips_outdated=True) == 0

    assert {_newest(ledger_url, each) for each in calls} == {Decimal("0.002")}
    backend.close()


def test_an_applications_decimal_context_changes_no_dollar(ledger_url: str) -> None:
    """With six digits, another rounding and a trap for inexact results the ledger keeps and sums every picodollar."""
    usd = Decimal("1234.567890123456")
    with decimal.localcontext(decimal.Context(prec=6, rounding=decimal.ROUND_UP, traps=[decimal.Inexact])):
        made = [call(cost=Cost(input_usd=usd), cache_savings_usd=Decimal("7.123456789012")) for _ in range(3)]
        _store(ledger_url, *made)
        backend = backend_of(ledger_url)
        append_ratings(backend, [_rating(made[0], "1234.5678901234561")])

        (spent,) = read_spent(backend, SpentQuery(since=AT - _DAY))
        calls = [found for _, part in read_calls(backend, AT - _DAY, AT + _DAY) for found in part]

        backend.close()
    assert spent.usd == 3 * usd
    assert {found.newest.contracted_cost for found in calls if found.newest is not None} == {usd}
