"""What is unpriced belongs to a rating: the newest one says whether dollars are missing, in every output."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from eco2_callbacks import Cost, LedgerSink, LLMCall
from eco2_callbacks.ledger import (
    Period,
    Rating,
    append_ratings,
    backend_of,
    make_report,
    read_calls,
    read_traces,
    read_variants,
)
from eco2_callbacks.ledger.cells import microseconds
from eco2_callbacks.ledger.rows import rating_row
from tests.support.ledger_records import AT, one_request, query

_DAY = timedelta(days=1)
_PERIOD = Period(AT - _DAY, AT + _DAY, "UTC")
_USD = Decimal("0.002")
_UNKNOWN: dict[str, Any] = {"cost": None, "rates": None, "unpriced_reason": "unknown_model"}
_PARTLY = {"unpriced_reason": "unpriced_unit"}


def _emit(url: str, **about: Any) -> LLMCall:
    """Store one request with a node and a call, and return the call."""
    made, *others = one_request(job_id="job")
    assert isinstance(made, LLMCall)
    made = LLMCall(**({name: getattr(made, name) for name in made.__struct_fields__} | about))
    with LedgerSink(url) as sink:
        for record in (made, *others):
            sink.emit(record)
        assert sink.flush(60)
    return made


def _unpriced_calls(url: str) -> set[tuple[str, int]]:
    """Return what each output counts as unpriced."""
    backend = backend_of(url)
    (trace,) = read_traces(backend, "job")
    (node,) = [span for span in trace.root.children if span.kind == "node"]
    (variant,) = read_variants(backend, "model", _PERIOD)
    (stored,) = [stored for _, calls in read_calls(backend, AT - _DAY, AT + _DAY) for stored in calls]
    by_user = make_report(backend, ["user"], _PERIOD).total.unpriced_calls
    by_tenant = make_report(backend, ["tenant"], _PERIOD).total.unpriced_calls
    backend.close()
    return {
        ("report on hourly sums", by_tenant),
        ("report on calls", by_user),
        ("trace", trace.root.unpriced_calls),
        ("trace's node", node.unpriced_calls),
        ("compare", variant.unpriced_calls),
        ("stored call", int(stored.is_unpriced(stored.newest))),
        ("rated_calls", int(query(url, "SELECT count(unpriced_reason) FROM rated_calls")[0][0])),
        ("daily_costs", int(query(url, "SELECT sum(unpriced_calls) FROM daily_costs")[0][0])),
        ("daily_users", int(query(url, "SELECT sum(unpriced_calls) FROM daily_users")[0][0])),
    }


@pytest.mark.parametrize(
    ("about", "later", "expected"),
    [
        ({}, None, 0),
        (_UNKNOWN, None, 1),
        (_PARTLY, None, 1),
        (_UNKNOWN, False, 0),
        (_UNKNOWN, True, 1),
        (_PARTLY, False, 0),
        (_PARTLY, True, 1),
        ({}, True, 1),
        ({}, False, 0),
    ],
    ids=[
        *("whole", "without a price", "in part"),
        *("priced later", "priced in part later", "completed later", "still in part"),
        *("a fee is lost", "priced again"),
    ],
)
def test_the_newest_rating_says_whether_dollars_are_missing(
    ledger_url: str, about: dict[str, Any], later: bool | None, expected: int
) -> None:
    """Reports, views, traces and comparisons agree, whatever the call's first rating left out."""
    made = _emit(ledger_url, **about)
    if later is not None:
        backend = backend_of(ledger_url)
        rating = Rating(made.started_at, str(made.run_id), Cost(input_usd=_USD), is_unpriced=later)
        append_ratings(backend, [rating])
        backend.close()

    found = _unpriced_calls(ledger_url)

    assert {number for _, number in found} == {expected}, found


@pytest.mark.parametrize(("about", "expected"), [(_UNKNOWN, 0), (_PARTLY, 1)], ids=["without a price", "in part"])
def test_a_rating_of_an_older_version_leaves_out_what_its_call_did(
    ledger_url: str, about: dict[str, Any], expected: int
) -> None:
    """Where the column is NULL the call's own reason counts, as it did before the column was there."""
    made = _emit(ledger_url, **about)
    at = microseconds(made.started_at)
    zero = Decimal(0)
    row = rating_row(
        at,
        str(made.run_id),
        computed_at=at + 3_600_000_000,
        rates=None,
        cost=Cost(input_usd=_USD),
        list_usd=None,
        cache_savings_usd=zero,
        cache_surcharge_usd=zero,
    )
    backend = backend_of(ledger_url)
    backend.store([{"ratings": [(*row[:-1], None)]}])
    backend.close()

    found = _unpriced_calls(ledger_url)

    assert {number for _, number in found} == {expected}, found
