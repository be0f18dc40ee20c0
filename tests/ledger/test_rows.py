"""Rows: what of a record is kept, and that it is exact."""

from __future__ import annotations

import decimal
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import msgspec
import pytest

from eco2_callbacks import Cost, LLMCall, TokenUsage
from eco2_callbacks.ledger.cells import ZERO_BUCKET, bucket_of, microseconds, picodollars
from eco2_callbacks.ledger.columns import TABLES
from eco2_callbacks.ledger.figures import percentile
from eco2_callbacks.ledger.rows import Batch
from tests.support.ledger_records import call, one_request


def _row(batch: Batch, table: str) -> dict[str, object]:
    (row,) = batch.rows[table]
    return dict(zip(TABLES[table].names, row, strict=True))


def test_every_kind_of_record_has_its_table_and_its_columns() -> None:
    """Each record becomes one row with a value for each column."""
    batch = Batch(one_request())

    found = {name: len(rows) for name, rows in batch.rows.items() if rows}
    assert found == {
        **dict.fromkeys(("calls", "ratings", "node_runs", "tool_calls", "retriever_calls", "requests"), 1),
        "feedback": 1,
        "series": 1,
    }
    for name, rows in batch.rows.items():
        assert all(len(row) == len(TABLES[name].columns) for row in rows)
    assert batch.records == 5


def test_usage_is_kept_by_unit() -> None:
    """Every count of a usage has a column of its own, and an unknown usage is no zero."""
    counted = Batch([call(usage=TokenUsage(input_tokens=7, web_searches=2, image_sizes=("1K",), images=1))])
    unknown = Batch([call(cost=None, rates=None)]), Batch([_without_usage()])

    row = _row(counted, "calls")
    assert (row["input_tokens"], row["web_searches"], row["image_sizes"]) == (7, 2, '["1K"]')
    assert set(TokenUsage.__struct_fields__) <= set(TABLES["calls"].names)
    assert _row(unknown[1], "calls")["input_tokens"] is None
    assert unknown[0].rows["ratings"] == []


def _without_usage() -> LLMCall:
    return msgspec.structs.replace(call(), usage=None, cost=None, rates=None)


def test_no_metadata_and_no_text_of_the_application_is_kept() -> None:
    """What an application puts into its metadata is content, and content never becomes a row."""
    batch = Batch([call(metadata={"note": "SECRET-TEXT"})])

    assert "SECRET-TEXT" not in repr(batch.rows)


@pytest.mark.parametrize(
    ("usd", "picos"),
    [("0.00315", 3_150_000_000), ("0.0000000000015", 2), ("0.0000000000005", 0), ("9000000", 9_000_000 * 10**12)],
    ids=["exact", "half to even, up", "half to even, down", "millions"],
)
def test_dollars_are_multiples_of_a_picodollar(usd: str, picos: int) -> None:
    """Dollars are kept with twelve decimal places, rounded half to even."""
    assert picodollars(Decimal(usd)) == picos


def test_an_applications_rounding_changes_no_picodollar() -> None:
    """Dollars are rounded half to even, whatever rounding the application chose."""
    with decimal.localcontext() as context:
        context.rounding = decimal.ROUND_UP

        assert picodollars(Decimal("0.0000000000021")) == 2


def test_times_are_microseconds_whatever_their_zone() -> None:
    """The same moment gives the same number in every zone."""
    moment = datetime(2026, 11, 2, 9, 30, 0, 123456, tzinfo=UTC)

    seoul = moment.astimezone(timezone(timedelta(hours=9)))
    assert microseconds(moment) == microseconds(seoul) == 1_793_611_800_123_456


def test_a_rating_names_its_rates_its_discount_and_its_parts() -> None:
    """What the provider charged stands beside what the public rates give."""
    public = call()
    stated = Cost(output_usd=Decimal("0.003"), parts={"unsplit": Decimal("0.003")})
    batch = Batch([msgspec.structs.replace(public, cost=stated, computed_cost=public.cost, cost_source="provider")])

    row = _row(batch, "ratings")
    assert row["contracted_cost"] == 3_000_000_000
    assert row["list_cost"] == 3_150_000_000
    assert row["discount"] == 150_000_000
    assert row["currency"] == "USD"
    assert msgspec.json.decode(str(row["rates"]))["usd"] == {"input_mtok": "1.75", "output_mtok": "14"}
    assert msgspec.json.decode(str(row["parts"])) == {"unsplit": "0.003"}


def test_the_list_cost_behind_a_custom_rate_is_unknown() -> None:
    """A custom rate hides the public one: its list cost and discount are unknown, not zero."""
    row = _row(Batch([call(cost_source="custom")]), "ratings")

    assert (row["list_cost"], row["discount"]) == (None, None)


def test_a_text_that_a_database_refuses_is_cleaned() -> None:
    """NUL bytes and lone surrogates are removed, and a text has at most a thousand characters."""
    row = _row(Batch([call(tenant_id="a\x00b\ud800", user_id="u" * 5000)]), "calls")

    assert row["tenant_id"] == "ab?"
    assert row["user_id"] == "u" * 1000


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, name) for name in ("株式会社\u3000東", "Société\u00a0A", "نمی\u200cشود", "👩\u200d💻", "a\nb")),
        ("a\tb\r\x7f\x85c", "abc"),
    ],
    ids=["ideographic space", "no-break space", "non-joiner", "joiner", "line", "controls"],
)
def test_names_that_differ_stay_apart(name: str, kept: str) -> None:
    """A tenant keeps every character but control characters, so that no two names become one."""
    batch = Batch([call(tenant_id=name, tags=(name,))])

    assert _row(batch, "calls")["tenant_id"] == _row(batch, "series")["tenant_id"] == kept
    assert msgspec.json.decode(str(_row(batch, "calls")["tags"])) == [kept]


def test_calls_with_the_same_labels_share_a_series() -> None:
    """A batch names each series once, and its id depends on the labels alone."""
    batch = Batch([call(tenant_id="a"), call(tenant_id="a"), call(tenant_id="b")])

    ids = [row[0] for row in batch.rows["series"]]
    assert len(ids) == len(set(ids)) == 2
    assert ids[0] == Batch([call(tenant_id="a")]).rows["series"][0][0]


@pytest.mark.parametrize("amount", [0.0, 1e-9, 0.00315, 1.0, 12.5, 3600.0])
def test_a_percentile_is_right_to_two_and_a_half_per_cent(amount: float) -> None:
    """A bucket's value stands for all amounts in it."""
    found = percentile({bucket_of(amount): 3}, 0.95)

    assert found == pytest.approx(amount, rel=0.0251)
    assert bucket_of(0.0) == ZERO_BUCKET
    assert percentile({}, 0.5) is None
