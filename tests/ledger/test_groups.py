"""A report's total is the same whatever its groups are."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

import msgspec

from eco2_callbacks import GraphRun, LedgerSink
from eco2_callbacks.ledger import DIMENSIONS, Period, backend_of, make_report
from tests.support.ledger_records import AT, call, one_request

# What one call of the records costs.
USD = Decimal("0.00315")


def test_the_total_counts_each_call_and_request_once(ledger_url: str) -> None:
    """Calls with two tags, requests with calls of two models, and requests without a call count once in the total."""
    first, *_, request = one_request(tenant_id="acme", user_id="ann")
    assert isinstance(request, GraphRun)
    with LedgerSink(ledger_url) as sink:
        for record in (first, request, *one_request(tenant_id="zoo", started_at=AT + timedelta(days=1))):
            sink.emit(record)
        sink.emit(call(trace_id=request.trace_id, tenant_id="acme", model="other"))
        # Of a tenant that no call has.
        (_, *_, alone) = one_request(tenant_id="alone")
        sink.emit(alone)
        sink.flush(60)
    backend = backend_of(ledger_url)
    # A part of an hour at each end is read from the calls, the rest from the roll-ups.
    period = Period(AT - timedelta(minutes=1), AT + timedelta(days=2), "UTC")

    totals = {}
    for dimension in DIMENSIONS:
        total = make_report(backend, [dimension], period).total
        histograms = sum(total.seconds_buckets.values()), sum(total.cost_buckets.values())
        totals[dimension] = total.calls, total.cost, total.requests, total.successful_requests, *histograms

    backend.close()
    assert set(totals.values()) == {(3, 3 * USD, 3, 3, 3, 3)}, totals


def test_each_report_has_its_own_zone_and_unit(ledger_url: str) -> None:
    """Reports on one connection group by their own time zone and unit, as reports of new processes do."""
    # Sunday to Monday in UTC; in Seoul nine hours later.
    midnight = AT.replace(hour=0, minute=0)
    with LedgerSink(ledger_url) as sink:
        for hours in (-10, -8, 1, 23):
            sink.emit(call(started_at=midnight + timedelta(hours=hours), user_id="ann"))
        sink.flush(60)
    backend = backend_of(ledger_url)

    found = []
    for unit, zone in (
        ("day", "UTC"),
        ("day", "Asia/Seoul"),
        ("week", "UTC"),
        ("month", "UTC"),
        ("day", "America/New_York"),
        ("day", "UTC"),
    ):
        period = Period(AT - timedelta(days=10), AT + timedelta(days=10), zone)
        # By user as well, so that the calls themselves are read.
        groups = make_report(backend, [unit, "user"], period).groups
        found.append(sorted((group.key[0], group.figures.calls) for group in groups))

    backend.close()
    days = [("2026-11-01", 2), ("2026-11-02", 2)]
    assert found == [
        days,
        [("2026-11-01", 1), ("2026-11-02", 2), ("2026-11-03", 1)],
        [("2026-10-26", 2), ("2026-11-02", 2)],
        [("2026-11-01", 4)],
        [("2026-11-01", 3), ("2026-11-02", 1)],
        days,
    ]


def test_a_groups_requests_do_not_depend_on_where_an_hour_ends(ledger_url: str) -> None:
    """A group has all of its tenant's requests, whether its calls are in a whole hour, read from sums, or a part."""
    hour = AT.replace(minute=0)
    with LedgerSink(ledger_url) as sink:
        for number in range(5):
            first, *_, request = one_request(tenant_id="acme", started_at=hour + timedelta(minutes=10 * number))
            sink.emit(first)
            sink.emit(request)
        late, *_, request = one_request(tenant_id="acme", started_at=hour + timedelta(minutes=65))
        sink.emit(msgspec.structs.replace(late, model="other"))
        sink.emit(request)
        sink.flush(60)
    backend = backend_of(ledger_url)
    period = Period(hour, hour + timedelta(minutes=80), "UTC")

    found = {rolled: make_report(backend, ["tenant", "model"], period, is_read_only=not rolled) for rolled in (1, 0)}

    backend.close()
    for report in found.values():
        assert {group.key: (group.figures.calls, group.figures.requests) for group in report.groups} == {
            ("acme", "gpt-5.2"): (5, 6),
            ("acme", "other"): (1, 6),
        }
        assert {group.figures.successful_requests for group in report.groups} == {6}
        assert (report.total.calls, report.total.requests) == (6, 6)
