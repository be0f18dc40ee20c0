"""A report's total is the same whatever its groups are."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

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
