"""What calls cost by the values that budgets select by, on every backend."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal

from eco2_callbacks import LedgerSink
from eco2_callbacks.ledger import Rating, SpentQuery, append_ratings, backend_of, spent_of
from tests.support.ledger_records import AT, call, query

USD = Decimal("0.00315")
HOUR = timedelta(hours=1)


def test_costs_are_grouped_by_columns_kept_metadata_and_time(ledger_url: str) -> None:
    """Each group is summed exactly; calls before the window and without a price count nothing."""
    with LedgerSink(ledger_url) as sink:
        sink.keep_metadata({"team"})
        for made in (
            call(tenant_id="acme", metadata={"team": "search"}),
            call(tenant_id="acme", metadata={"team": "search", "note": "SECRET"}),
            call(tenant_id="acme", metadata={"team": 7}, started_at=AT + HOUR),
            call(tenant_id="other", request_model=""),
            call(tenant_id="acme", started_at=AT - HOUR),
            call(tenant_id="acme", cost=None, rates=None, cost_source=""),
        ):
            sink.emit(made)
        assert sink.flush(60)

        found = spent_of(
            sink,
            SpentQuery(
                since=AT,
                columns=("model", "tenant_id"),
                by_metadata=True,
                bucket_seconds=3600,
                wanted={"tenant_id": {"acme", "other"}},
            ),
        )

        hour = int(AT.timestamp()) // 3600
        assert {(one.values["tenant_id"], one.metadata.get("team"), one.bucket - hour): one.usd for one in found} == {
            ("acme", "search", 0): 2 * USD,
            ("acme", "7", 1): USD,
            ("other", None, 0): USD,
        }
        assert {one.values["model"] for one in found} == {"gpt-5.2"}
    assert "SECRET" not in repr(query(ledger_url, "SELECT * FROM calls"))


def test_each_query_has_its_own_stretches_of_time(ledger_url: str) -> None:
    """Queries that differ in the length of a stretch alone are answered by their own, one after the other."""
    day = 24 * 3600
    with LedgerSink(ledger_url) as sink:
        sink.emit(call())
        assert sink.flush(60)

        found = [
            spent_of(sink, SpentQuery(since=AT, bucket_seconds=seconds))[0].bucket
            for seconds in (day, 3600, 5 * day, 60, day)
        ]

    assert found == [int(AT.timestamp()) // seconds for seconds in (day, 3600, 5 * day, 60, day)]


def test_the_newest_rating_counts(ledger_url: str) -> None:
    """A repriced call counts once, at its new price; a query without groups is one sum."""
    made = call()
    with LedgerSink(ledger_url) as sink:
        sink.emit(made)
        assert sink.flush(60)
        assert made.cost is not None
        double = made.cost.__class__.sum([made.cost, made.cost])
        backend = backend_of(ledger_url)
        append_ratings(backend, [Rating(made.started_at, str(made.run_id), double)])
        backend.close()

        (found,) = spent_of(sink, SpentQuery(since=AT))
        nothing = spent_of(sink, SpentQuery(since=AT + HOUR))
        until = [spent_of(sink, SpentQuery(since=AT, until=AT + later)) for later in (0 * HOUR, HOUR)]

    assert found.usd == 2 * USD
    assert nothing == []
    assert until == [[], [found]]
