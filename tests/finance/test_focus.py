"""``eco2 focus``: the ledger as a FOCUS 1.2 file, with corrections of earlier months, on every backend."""

from __future__ import annotations

import csv
import io
import json
import uuid
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from eco2_callbacks import Cost, LedgerSink, PriceBook, Rate, TokenUsage
from eco2_callbacks.finance import OtherPrices, read_focus
from eco2_callbacks.finance import reprice as price_again
from eco2_callbacks.ledger import Period, backend_of
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call

USD = Decimal("0.00315")
CACHED = TokenUsage(input_tokens=2000, output_tokens=10, cache_read_tokens=1500)


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger of two days: acme with two calls on the first day, zoo with a cached and an unpriced one."""
    with LedgerSink(ledger_url) as sink:
        sink.emit(call(tenant_id="acme", prompt_version="v2"))
        sink.emit(call(tenant_id="acme", prompt_version="v2", started_at=AT + timedelta(hours=1)))
        sink.emit(call(tenant_id="zoo", usage=CACHED, started_at=AT + timedelta(days=1)))
        sink.emit(call(tenant_id="zoo", model="own", cost=None, rates=None, unpriced_reason="unknown_model"))
        sink.emit(call(tenant_id="zoo", from_cache=True, cost=Cost(), rates=None))
        sink.flush(60)
    return ledger_url


def _focus(run: Run, url: str | Path, *arguments: object) -> list[dict[str, str]]:
    status, out, err = run("focus", "--ledger", url, *arguments)
    assert status == 0, err
    return list(csv.DictReader(io.StringIO(out)))


def _sum(rows: list[dict[str, str]], column: str) -> Decimal:
    return sum((Decimal(row[column]) for row in rows), Decimal(0))


def test_a_job_that_runs_again_with_its_id_is_charged_again(run: Run, ledger_url: str) -> None:
    """Two calls with one run id are two calls, each with its own rating."""
    run_id = uuid.uuid4()
    with LedgerSink(ledger_url) as sink:
        for number, tokens in enumerate((1_000_000, 1000)):
            usage = TokenUsage(input_tokens=tokens)
            sink.emit(call(usage=usage, run_id=run_id, started_at=AT + timedelta(seconds=number)))
        sink.flush(60)

    (row,) = _focus(run, ledger_url, "--month", "2026-11")
    status, out, err = run(
        "reprice", "--json", "--ledger", ledger_url, "--since", "2026-11-01", "--until", "2026-11-30"
    )

    # $1.75 a million input tokens.
    assert (row["ConsumedQuantity"], Decimal(row["BilledCost"])) == ("1001000", Decimal("1.75175"))
    assert status == 0, err
    total = json.loads(out, parse_float=Decimal)["total"]
    assert (total["before_usd"], total["after_usd"]) == (Decimal("1.75175"), Decimal("1.75175"))


def test_a_month_is_a_row_per_day_and_meter(run: Run, filled: str) -> None:
    """Input, output and cached input are meters of their own; tokens are the consumed quantity."""
    rows = _focus(run, filled, "--month", "2026-11")

    shown = [
        (row["ChargePeriodStart"], row["SubAccountId"], row["SkuMeter"], row["ConsumedQuantity"], row["BilledCost"])
        for row in rows
    ]
    # 2 x 1,000 at 1.75 and 2 x 100 at 14; then 1,500 at 0.175, 500 at 1.75, 10 at 14 USD per million.
    assert shown == [
        ("2026-11-02T00:00:00Z", "acme", "Input Tokens", "2000", "0.0035"),
        ("2026-11-02T00:00:00Z", "acme", "Output Tokens", "200", "0.0028"),
        ("2026-11-03T00:00:00Z", "zoo", "Cached Input Tokens", "1500", "0.0002625"),
        ("2026-11-03T00:00:00Z", "zoo", "Input Tokens", "500", "0.000875"),
        ("2026-11-03T00:00:00Z", "zoo", "Output Tokens", "10", "0.00014"),
    ]
    first = rows[0]
    assert (first["ConsumedUnit"], first["PricingUnit"], first["PricingQuantity"]) == (
        "Tokens",
        "1000000 Tokens",
        "0.002",
    )
    assert (first["ListUnitPrice"], first["ContractedUnitPrice"]) == ("1.75", "1.75")
    assert json.loads(first["Tags"]) == {"prompt_version": "v2"}
    assert (first["BillingPeriodStart"], first["BillingPeriodEnd"]) == ("2026-11-01T00:00:00Z", "2026-12-01T00:00:00Z")


def test_the_file_adds_up_to_the_report(run: Run, filled: str) -> None:
    """All costs sum to the ledger's, and what has no price is named and left out."""
    status, out, err = run("focus", "--ledger", filled, "--month", "2026-11", "--json")
    found = json.loads(out, parse_float=Decimal)

    assert status == 0
    assert "1 calls have no price" in err
    assert (found["calls"], found["unpriced_calls"], found["rows"]) == (4, 1, 5)
    assert set(found["totals"].values()) == {2 * USD + Decimal("0.0012775")}


def test_each_call_can_have_rows_of_its_own(run: Run, filled: str) -> None:
    """``--per-call`` names the call as the resource."""
    rows = _focus(run, filled, "--month", "2026-11", "--per-call")

    assert len(rows) == 7
    assert len({row["ResourceId"] for row in rows}) == 3
    assert {row["ResourceType"] for row in rows} == {"Model Call"}


@pytest.mark.parametrize("arguments", [(), ("--per-call",)], ids=["daily", "per call"])
def test_a_file_is_the_same_however_many_calls_are_read_at_once(
    run: Run, filled: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """Rows are written part by part, as CSV and as Parquet, and all of them arrive."""
    whole = _focus(run, filled, "--month", "2026-11", *arguments)
    monkeypatch.setattr("eco2_callbacks.ledger.stored_calls._CALLS_AT_ONCE", 1)
    monkeypatch.setattr("eco2_callbacks.finance.focus.files._GROUP", 2)
    path = tmp_path / "focus.parquet"

    parts = _focus(run, filled, "--month", "2026-11", *arguments)
    status, _, err = run(
        "focus", "--ledger", filled, "--month", "2026-11", "--format", "parquet", "-o", path, *arguments
    )

    def ordered(rows: list[dict[str, str]]) -> list[list[str]]:
        return sorted(list(row.values()) for row in rows)

    assert ordered(parts) == ordered(whole)
    assert status == 0, err
    _, stored = read_focus(path)
    assert [row["ResourceId"] for row in stored] == [row["ResourceId"] or None for row in parts]
    assert list(tmp_path.glob("*.part")) == []


def _reprice(url: str, price: str, at: datetime) -> None:
    """Price all calls again, at another price of input tokens, at a time."""
    rate = Rate("openai", "gpt-5.2", AT.date(), "contract", {"input_mtok": Decimal(price)})
    backend = backend_of(url)
    period = Period(AT - timedelta(days=9), AT + timedelta(days=9), "UTC")
    price_again(backend, period, OtherPrices(PriceBook([rate])), writes=True, now=at)
    backend.close()


def test_a_late_change_is_a_correction_in_the_month_of_the_change(run: Run, filled: str) -> None:
    """A rating of the same month replaces the first one; one of a later month leaves the file of before as it was."""
    _reprice(filled, "2.75", AT + timedelta(days=10))
    november = _focus(run, filled, "--month", "2026-11")
    _reprice(filled, "0.75", AT.replace(month=12, day=5))

    assert _focus(run, filled, "--month", "2026-11") == november
    december = _focus(run, filled, "--month", "2026-12")
    assert {row["ChargeClass"] for row in november} == {""}
    assert _sum(november[:2], "ListCost") == 2 * USD
    # 2 x 1,000 at 2.75 instead of 1.75 USD per million.
    assert _sum(november[:2], "ContractedCost") == 2 * USD + Decimal("0.002")
    assert {(row["ChargeClass"], row["BillingPeriodStart"]) for row in december} == {
        ("Correction", "2026-12-01T00:00:00Z")
    }
    (acme,) = [row for row in december if row["SubAccountId"] == "acme"]
    assert (acme["ChargePeriodStart"], acme["SkuMeter"]) == ("2026-11-02T00:00:00Z", "Input Tokens")
    # From 2.75 to 0.75 USD per million.
    assert (acme["BilledCost"], acme["ListCost"], acme["PricingQuantity"]) == ("-0.004", "0", "")


def test_a_call_that_is_priced_late_is_charged_late(run: Run, filled: str) -> None:
    """Without a price it was left out; all of it is a correction then, with its quantity."""
    backend = backend_of(filled)
    book = PriceBook([Rate("*", "own", AT.date(), "ours", {"input_mtok": Decimal(1), "output_mtok": Decimal(1)})])
    period = Period(AT - timedelta(days=9), AT + timedelta(days=9), "UTC")
    price_again(backend, period, OtherPrices(book), writes=True, now=datetime(2026, 12, 1, tzinfo=UTC))
    backend.close()

    rows = _focus(run, filled, "--month", "2026-12")

    assert [(row["SkuMeter"], row["ConsumedQuantity"], row["BilledCost"]) for row in rows] == [
        ("Input Tokens", "1000", "0.001"),
        ("Output Tokens", "100", "0.0001"),
    ]


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return a ledger with one call on Monday and one on Friday."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        sink.emit(call(tenant_id="acme"))
        sink.emit(call(tenant_id="acme", started_at=AT + timedelta(days=4)))
    return path


def test_margin_and_discount_keep_the_costs_apart(run: Run, tmp_path: Path, ledger: Path) -> None:
    """List, contracted and billed cost are three figures of one row."""
    (tmp_path / "prices.toml").write_text(
        '[[discounts]]\nstart = 2026-11-01\nsource = "c"\npercent = 50\n'
        '[[margins]]\nstart = 2026-11-01\nsource = "m"\npercent = 10\n'
    )
    run("reprice", "--write", "--ledger", ledger, "--since", "2026-11-01", "--rates", tmp_path / "prices.toml")

    rows = _focus(run, ledger, "--since", "2026-11-01")
    corrected = [row for row in rows if row["ChargeClass"]]
    totals = {name: _sum(rows, name) for name in ("ListCost", "ContractedCost", "EffectiveCost", "BilledCost")}

    assert totals == {
        "ListCost": 2 * USD,
        "ContractedCost": USD,
        "EffectiveCost": USD * Decimal("1.1"),
        "BilledCost": USD * Decimal("1.1"),
    }
    if not corrected:  # priced again in the calls' own month
        assert {(row["ListUnitPrice"], row["ContractedUnitPrice"]) for row in rows} == {("1.75", "0.875"), ("14", "7")}


def test_each_day_takes_its_own_exchange_rate(run: Run, tmp_path: Path, ledger: Path) -> None:
    """The bill is in euros at the rate of each day, the prices in dollars stand beside it."""
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,usd_per_unit\n2026-11-02,EUR,1.25\n2026-11-06,EUR,1.05\n")

    rows = _focus(run, ledger, "--month", "2026-11", "--currency", "EUR", "--exchange-rates", rates)

    by_day: dict[str, Decimal] = {}
    for row in rows:
        assert (row["BillingCurrency"], row["PricingCurrency"]) == ("EUR", "USD")
        day = row["ChargePeriodStart"][:10]
        by_day[day] = by_day.get(day, Decimal(0)) + Decimal(row["BilledCost"])
    # 0.00315 / 1.25, and 0.00315 / 1.05.
    assert by_day == {"2026-11-02": Decimal("0.00252"), "2026-11-06": Decimal("0.003")}
    assert _sum(rows, "PricingCurrencyEffectiveCost") == 2 * USD


def test_a_stated_cost_is_shared_by_the_parts(run: Run, tmp_path: Path) -> None:
    """What the provider said it charged is divided as the price list would."""
    path = tmp_path / "eco2.db"
    made = call()
    stated = Cost(output_usd=Decimal("0.0063"), parts={"unsplit": Decimal("0.0063")})
    with LedgerSink(path) as sink:
        sink.emit(call(cost=stated, computed_cost=made.cost, cost_source="provider"))
        sink.emit(call(model="other", cost=stated, rates=None, cost_source="provider"))

    rows = _focus(run, path, "--month", "2026-11")

    assert [(row["SkuMeter"], row["BilledCost"], row["ListCost"]) for row in rows] == [
        ("Input Tokens", "0.0035", "0.00175"),
        ("Output Tokens", "0.0028", "0.0014"),
        ("Model Calls", "0.0063", "0.0063"),
    ]


@pytest.mark.parametrize(
    ("model", "usage", "custom", "rows"),
    [
        (
            "openai/gpt-5.2",
            TokenUsage(input_tokens=1000, output_tokens=100),
            {"requests_kcount": Decimal(5)},
            # Meter, list cost and list price, contracted cost and price: a request has no public price.
            [
                ("Input Tokens", "0.00175", "1.75", "0.00175", "1.75"),
                ("Output Tokens", "0.0014", "14", "0.0014", "14"),
                ("Requests", "0.005", "5", "0.005", "5"),
            ],
        ),
        (
            "google/gemini-2.5-flash-image",
            TokenUsage(input_tokens=1000, output_tokens=1390, output_image_tokens=1290, images=1),
            {"image_each": Decimal("0.03")},
            # Publicly an image costs its 1,290 tokens at 30 USD per million: 0.0387.
            [
                ("Images", "0.0387", "0.0387", "0.03", "0.03"),
                ("Image Output Tokens", "0", "0", "0", "0"),
                ("Input Tokens", "0.0003", "0.3", "0.0003", "0.3"),
                ("Output Tokens", "0.00025", "2.5", "0.00025", "2.5"),
            ],
        ),
        (
            "openai/gpt-image-9",
            TokenUsage(input_tokens=1000, output_tokens=100),
            {"input_mtok": Decimal(2), "output_mtok": Decimal(8)},
            # No public price at all: the contracted ones stand for it.
            [
                ("Input Tokens", "0.002", "2", "0.002", "2"),
                ("Output Tokens", "0.0008", "8", "0.0008", "8"),
            ],
        ),
        (
            "openai/gpt-4",
            TokenUsage(input_tokens=1000, output_tokens=100, cache_read_tokens=400),
            {"cache_read_mtok": Decimal(1)},
            # Publicly cached tokens are input like any other.
            [
                ("Cached Input Tokens", "0.012", "30", "0.0004", "1"),
                ("Input Tokens", "0.018", "30", "0.018", "30"),
                ("Output Tokens", "0.006", "60", "0.006", "60"),
            ],
        ),
    ],
    ids=["request", "image", "unknown model", "cached tokens"],
)
def test_each_unit_has_its_public_price(
    run: Run,
    tmp_path: Path,
    model: str,
    usage: TokenUsage,
    custom: dict[str, Decimal],
    rows: list[tuple[str, ...]],
) -> None:
    """A unit without a public price stands at the contracted one, and changes the list price of no other unit."""
    provider, _, name = model.partition("/")
    book = PriceBook([Rate(provider, name, AT.date(), "contract", custom)])
    quote = book.quote(usage, provider=provider, model=name, at=AT)
    path = tmp_path / "eco2.db"
    about = {"provider": provider, "model": name, "usage": usage, "cost": quote.cost, "rates": quote.rates}
    with LedgerSink(path) as sink:
        sink.emit(call(**about, list_cost=quote.list_cost, cost_source="custom"))

    found = _focus(run, path, "--month", "2026-11")

    columns = ("SkuMeter", "ListCost", "ListUnitPrice", "ContractedCost", "ContractedUnitPrice")
    assert sorted(tuple(row[column] for column in columns) for row in found) == sorted(rows)


def test_a_call_that_costs_nothing_lacks_no_price(run: Run, ledger_url: str) -> None:
    """Refused calls, and calls that the provider says were free, count as unpriced neither here nor in the report."""
    with LedgerSink(ledger_url) as sink:
        sink.emit(call())
        for _ in range(2):
            refused = call(status="error", error_type="RateLimitError", rate_limited=True, cost=None, rates=None)
            sink.emit(msgspec.structs.replace(refused, usage=None))
        sink.emit(call(cost=Cost(), rates=None, cost_source="provider", model="free"))
        sink.flush(60)

    status, out, err = run("focus", "--ledger", ledger_url, "--month", "2026-11", "--json")
    _, report, _ = run("report", "--ledger", ledger_url, "--since", "2026-11-01", "--until", "2026-11-30", "--json")

    assert (status, err) == (0, "")
    assert json.loads(out)["unpriced_calls"] == json.loads(report)["total"]["unpriced_calls"] == 0
    assert json.loads(out)["calls"] == 4


@pytest.mark.parametrize("format_", ["csv", pytest.param("parquet", marks=pytest.mark.slow)])
def test_files_can_be_checked(run: Run, tmp_path: Path, ledger: Path, format_: str) -> None:
    """A written file passes our own check, and one with a fault names row, column and rule."""
    path = tmp_path / f"focus.{format_}"

    status, _, err = run("focus", "--ledger", ledger, "--month", "2026-11", "--format", format_, "-o", path)
    checked, out, _ = run("focus", "--check", path)

    assert (status, checked) == (0, 0), err
    assert "4 rows, 0 broken rules" in out
    if format_ == "parquet":
        import pyarrow.parquet as pq

        assert pq.read_table(path).to_pylist()[0]["BilledCost"] == Decimal("0.00175")
        return
    path.write_text(path.read_text().replace("Usage-Based", "Sometimes"))
    status, out, _ = run("focus", "--check", path)
    assert status == 1
    assert "row 1, ChargeFrequency: 'Sometimes' is none of One-Time, Recurring, Usage-Based" in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--month", "2026-13"), 2, "--month is '2026-13', wanted a month such as 2026-11"),
        (("--month", "9999-12"), 2, "--month is '9999-12', wanted a month such as 2026-11"),
        (("--month", "0000-01"), 2, "--month is '0000-01', wanted a month such as 2026-11"),
        (("--month", "2020-01"), 1, "has no charges from 2020-01-01"),
        (("--currency", "EUR"), 2, "--currency EUR needs --exchange-rates FILE"),
        (("--currency", "EUX"), 2, "--currency is 'EUX', wanted a code of ISO 4217"),
        (("--format", "xlsx"), 2, "--format is 'xlsx', wanted csv or parquet"),
        (("--billing-account", " "), 2, "--billing-account is empty"),
        (("--check", "absent.csv"), 2, "cannot be read"),
    ],
)
def test_bad_input_is_a_clear_error(
    run: Run, ledger: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """Each mistake ends with its status and what to do."""
    found, _, err = run("focus", "--ledger", ledger, *arguments)

    assert (found, message in err) == (status, True), err


def test_a_cell_that_is_too_long_is_a_clear_error(run: Run, tmp_path: Path) -> None:
    """Python's reader takes cells of 131,072 characters; the file with a longer one is named."""
    path = tmp_path / "focus.csv"
    path.write_text(f"BilledCost\n{'1' * 140_000}\n")

    status, _, err = run("focus", "--check", path)

    assert status == 2
    assert f"{str(path)!r} cannot be read: field larger than field limit (131072)" in err


def test_a_missing_exchange_rate_is_an_error(run: Run, tmp_path: Path, ledger: Path) -> None:
    """A day without a rate is named; no other day's rate stands in for it."""
    rates: Any = tmp_path / "rates.csv"
    rates.write_text("date,currency,usd_per_unit\n2026-11-06,EUR,1.05\n")

    status, _, err = run(
        "focus", "--ledger", ledger, "--month", "2026-11", "--currency", "EUR", "--exchange-rates", rates
    )

    assert status == 2
    assert "There is no exchange rate of 'EUR' for 2026-11-02" in err
