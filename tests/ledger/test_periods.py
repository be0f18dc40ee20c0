"""Periods: how days are named."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eco2_callbacks.ledger import Period

NOW = datetime(2026, 11, 30, 16, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    ("zone", "since", "until"),
    [
        ("UTC", datetime(2026, 11, 29, tzinfo=UTC), datetime(2026, 11, 30, tzinfo=UTC)),
        # In Seoul it is December already.
        ("Asia/Seoul", datetime(2026, 11, 29, 15, tzinfo=UTC), datetime(2026, 11, 30, 15, tzinfo=UTC)),
    ],
)
def test_yesterday_is_a_whole_day_of_the_zone(zone: str, since: datetime, until: datetime) -> None:
    """From midnight to midnight, as the zone has it."""
    period = Period.parse("yesterday", "yesterday", zone, now=NOW)

    assert (period.since, period.until) == (since, until)


def test_today_ends_with_the_day() -> None:
    """As an end, a day is included."""
    period = Period.parse("today", "today", "UTC", now=NOW)

    assert (period.since, period.until) == (datetime(2026, 11, 30, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC))


@pytest.mark.parametrize("until", ["2026-11-30", "20261130", "2026-W49-1", "2026W491"])
def test_a_day_is_included_however_it_is_written(until: str) -> None:
    """As an end, a day of any form of ISO 8601 is a whole one; a time is the moment itself."""
    assert Period.parse("2026-11-01", until, "UTC", now=NOW).until == datetime(2026, 12, 1, tzinfo=UTC)
    assert Period.parse("2026-11-01", f"{until}T00:00", "UTC", now=NOW).until == datetime(2026, 11, 30, tzinfo=UTC)


def test_the_period_before_ends_where_rows_begin() -> None:
    """Three centuries ago no ledger has a row, and some backends have no such time."""
    period = Period.parse("1910-01-01", None, "UTC", now=NOW)

    assert (period.before().since, period.before().until) == (datetime(1900, 1, 1, tzinfo=UTC), period.since)
