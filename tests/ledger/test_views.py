"""The views of a ledger: what a dashboard queries, the same on every backend."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from eco2_callbacks import LedgerSink, TokenUsage
from tests.support.ledger_records import AT, call, one_request, query

# What one request of ``one_request`` costs.
USD = 0.00315


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger of two days: ann and ben on the first, ben alone on the second, and calls without a user."""
    with LedgerSink(ledger_url) as sink:
        for user, tenant, intent, days in (
            ("ann", "acme", "waste", 0),
            ("ben", "acme", "news", 0),
            ("ben", "acme", "news", 0),
            ("ben", "zoo", "waste", 1),
        ):
            at = AT + timedelta(days=days)
            for record in one_request(
                started_at=at, user_id=user, tenant_id=tenant, intent=intent, prompt_version="v2"
            ):
                sink.emit(record)
        sink.emit(call(tenant_id="zoo", status="error", error_type="TimeoutError"))
        sink.emit(call(tenant_id="zoo", cost=None, rates=None, unpriced_reason="unknown_model", model="own"))
        sink.emit(call(tenant_id="zoo", from_cache=True, usage=TokenUsage(input_tokens=7, output_tokens=7)))
        sink.flush(60)
    return ledger_url


def _read(url: str, text: str) -> list[tuple[Any, ...]]:
    """Return rows with days as texts and numbers as floats, as every backend has its own types."""

    def plain(value: Any) -> Any:
        if isinstance(value, Decimal):
            return round(float(value), 9)
        if isinstance(value, float):
            return round(value, 9)
        return str(value) if hasattr(value, "isoformat") else value

    return [tuple(map(plain, row)) for row in query(url, text)]


def test_rated_calls_show_each_call_with_its_dollars(filled: str) -> None:
    """A call without a price has no dollars, which is not zero."""
    rows = _read(filled, "SELECT day, model, usd, list_usd, margin_usd, billed_usd FROM rated_calls ORDER BY usd, day")

    assert len(rows) == 7
    assert [row[:3] for row in rows if row[1] == "own"] == [("2026-11-02", "own", None)]
    assert ("2026-11-03", "gpt-5.2", USD, USD, 0.0, USD) in rows


def test_daily_costs_leave_out_what_was_answered_from_the_cache(filled: str) -> None:
    """Tokens are those that were consumed, and calls without a price are counted."""
    text = "SELECT day, tenant_id, model, sum(calls), sum(errors), sum(input_tokens), sum(usd), sum(unpriced_calls) "
    rows = _read(filled, text + "FROM daily_costs GROUP BY day, tenant_id, model ORDER BY day, tenant_id, model")

    assert rows[0] == ("2026-11-02", "acme", "gpt-5.2", 3, 0, 3000, pytest.approx(3 * USD), 0)
    assert rows[1][:6] == ("2026-11-02", "zoo", "gpt-5.2", 2, 1, 1000)
    assert rows[2] == ("2026-11-02", "zoo", "own", 1, 0, 1000, None, 1)
    assert rows[3] == ("2026-11-03", "zoo", "gpt-5.2", 1, 0, 1000, USD, 0)


def test_daily_users_are_counted_once(filled: str) -> None:
    """A user with two requests is one active user, and a tenant's users are a view of their own."""
    columns = "active_users, requests, successful_requests, calls, unpriced_calls"
    days = _read(filled, f"SELECT day, {columns}, usd_per_active_user FROM daily_users ORDER BY day")
    tenants = _read(filled, f"SELECT day, tenant_id, {columns} FROM daily_tenant_users ORDER BY day, tenant_id")

    assert [day[:6] for day in days] == [("2026-11-02", 2, 3, 3, 6, 1), ("2026-11-03", 1, 1, 1, 1, 0)]
    assert days[1][6] == pytest.approx(USD)
    assert tenants == [
        ("2026-11-02", "acme", 2, 3, 3, 3, 0),
        ("2026-11-02", "zoo", 0, 0, 0, 3, 1),
        ("2026-11-03", "zoo", 1, 1, 1, 1, 0),
    ]


def test_daily_intents_and_feedback_count_questions_and_scores(filled: str) -> None:
    """Questions by intent are requests, and their dollars those of the calls with this intent."""
    intents = _read(filled, "SELECT day, intent, requests, users, calls, usd FROM daily_intents ORDER BY day, intent")
    feedback = _read(filled, "SELECT day, score_key, sum(scores), avg(mean_score) FROM daily_feedback GROUP BY 1, 2")

    assert [row for row in intents if row[1] != "unclassified"] == [
        ("2026-11-02", "news", 2, 1, 2, pytest.approx(2 * USD)),
        ("2026-11-02", "waste", 1, 1, 1, USD),
        ("2026-11-03", "waste", 1, 1, 1, USD),
    ]
    assert sorted(feedback) == [("2026-11-02", "grounded", 3, 0.75), ("2026-11-03", "grounded", 1, 0.75)]
