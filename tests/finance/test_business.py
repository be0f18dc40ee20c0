"""``eco2 report --business``: active users, questions by intent, cost per active user, on every backend."""

from __future__ import annotations

import csv
import io
import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call, one_request

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")
USD = Decimal("0.00315")


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger: two users on the first day, one of them again on the second, and one question in October."""
    with LedgerSink(ledger_url) as sink:
        for user, intent, days in (
            ("ann", "waste", 0),
            ("ben", "news", 0),
            ("ben", "news", 0),
            ("ben", "waste", 1),
            ("ann", "waste", -20),
        ):
            for record in one_request(started_at=AT + timedelta(days=days), user_id=user, intent=intent):
                sink.emit(record)
        # A model call below no request makes its user active too.
        sink.emit(call(user_id="cid", started_at=AT + timedelta(days=1)))
        sink.flush(60)
    return ledger_url


def test_users_are_counted_once_a_day_and_once_in_all(run: Run, filled: str) -> None:
    """The days' users do not add up to those of the period, and each costs what they spent."""
    status, out, err = run("report", "--business", "--json", "--ledger", filled, *_PERIOD)

    assert status == 0, err
    found = json.loads(out, parse_float=Decimal)
    days = [(day["day"], day["active_users"], day["requests"], day["cost_usd"]) for day in found["days"]]
    assert days == [("2026-11-02", 2, 3, 3 * USD), ("2026-11-03", 2, 1, 2 * USD)]
    assert found["days"][0]["cost_per_active_user_usd"] == 3 * USD / 2
    total = found["total"]
    assert (total["active_users"], total["requests"], total["calls"], total["mean_daily_users"]) == (3, 4, 5, 2)
    assert total["cost_per_active_user_usd"] == 5 * USD / 3
    assert (found["before"]["active_users"], found["before"]["requests"]) == (1, 1)


def test_intents_have_a_trend(run: Run, filled: str) -> None:
    """Questions by intent are compared with the period of the same length before."""
    _, out, _ = run("report", "--business", "--json", "--ledger", filled, *_PERIOD)

    intents = {intent["intent"]: intent for intent in json.loads(out, parse_float=Decimal)["intents"]}
    waste, news = intents["waste"], intents["news"]
    assert (waste["requests"], waste["requests_before"], waste["change"]) == (2, 1, 1)
    assert waste["by_day"] == {"2026-11-02": 1, "2026-11-03": 1}
    assert (news["requests"], news["users"], news["requests_before"], news["change"]) == (2, 1, 0, None)
    assert news["cost_usd"] == 2 * USD


def test_a_question_costs_all_its_calls(run: Run, ledger_url: str) -> None:
    """Calls that ran before the intent was known count for the intent that their request ended with."""
    with LedgerSink(ledger_url) as sink:
        for started_at in (AT, AT - timedelta(hours=10)):
            request = one_request(started_at=started_at, intent="waste")
            for record in request:
                sink.emit(record)
            # The classifier runs first; at that moment the intent is unknown.
            trace_id = request[0].trace_id
            sink.emit(call(trace_id=trace_id, intent="unclassified", started_at=started_at))
        # A call of no request keeps its own intent, and so does that of a request that has not ended.
        sink.emit(call(intent="batch"))
        sink.emit(call(intent="unclassified"))
        # The request began before midnight, and its answer came after it.
        late = one_request(started_at=AT.replace(hour=23, minute=59), intent="news")
        sink.emit(late[-1])
        sink.emit(call(trace_id=late[0].trace_id, intent="unclassified", started_at=AT + timedelta(days=1)))
        sink.flush(60)

    _, out, _ = run("report", "--business", "--json", "--ledger", ledger_url, *_PERIOD)
    third = ("--since", "2026-11-03", "--until", "2026-11-03")
    _, next_day, _ = run("report", "--business", "--json", "--ledger", ledger_url, *third)

    found = json.loads(out, parse_float=Decimal)
    intents = {intent["intent"]: (intent["requests"], intent["cost_usd"]) for intent in found["intents"]}
    assert intents == {"waste": (2, 4 * USD), "batch": (0, USD), "unclassified": (0, USD), "news": (1, USD)}
    assert sum(cost for _, cost in intents.values()) == found["total"]["cost_usd"]
    (news,) = json.loads(next_day, parse_float=Decimal)["intents"]
    assert (news["intent"], news["requests"], news["cost_usd"]) == ("news", 0, USD)


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return a ledger with one request."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for record in one_request(user_id="ann", intent="waste"):
            sink.emit(record)
    return path


def test_the_table_and_csv_show_the_days(run: Run, ledger: Path, tmp_path: Path) -> None:
    """The terminal shows days, intents and a trend; CSV has one line per day."""
    status, out, _ = run("report", "--business", "--ledger", ledger, *_PERIOD)
    run("report", "--business", "--format", "csv", "-o", tmp_path / "b.csv", "--ledger", ledger, *_PERIOD)

    assert status == 0
    for text in ("active users", "2026-11-02", "waste", "100%", "█"):
        assert text in out
    (row,) = csv.DictReader(io.StringIO((tmp_path / "b.csv").read_text()))
    assert (row["day"], row["active_users"], row["cost_usd"]) == ("2026-11-02", "1", "0.00315")


def test_bad_input_is_a_clear_error(run: Run, ledger: Path) -> None:
    """An empty period and a format that is not there are named."""
    status, _, err = run("report", "--business", "--ledger", ledger, "--since", "2020-01-01", "--until", "2020-01-02")
    assert (status, "has no calls from 2020-01-01" in err) == (1, True)

    status, _, err = run("report", "--business", "--format", "html", "--ledger", ledger)
    assert (status, "--format is 'html', wanted one of table, csv, json with --business" in err) == (2, True)
