"""Calls that reach the ledger after their month was handed over become corrections of a later month."""

from __future__ import annotations

import csv
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from eco2_callbacks import LedgerSink, LLMCall, PriceBook, Rate, TokenUsage
from eco2_callbacks.finance import OtherPrices
from eco2_callbacks.finance import reprice as price_again
from eco2_callbacks.ledger import Period, backend_of
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call

USD = Decimal("0.00315")
_NEXT_MONTH = AT + timedelta(days=35)


def _emit(url: str, *calls: LLMCall) -> None:
    with LedgerSink(url) as sink:
        for each in calls:
            sink.emit(each)
        sink.flush(60)


class Exports:
    """Writes the files of months, one after the other."""

    def __init__(self, run: Run, url: str, folder: Path) -> None:
        self._run, self._url, self._folder = run, url, folder

    def write(self, month: str, *closed: Path, options: tuple[str, ...] = ()) -> tuple[Path, dict[str, Any], str]:
        path = self._folder / f"{month}.csv"
        named = [argument for file in closed for argument in ("--closed", str(file))]
        arguments = ("--ledger", self._url, "--month", month, "-o", path, "--json", *named, *options)
        status, out, err = self._run("focus", *arguments)
        assert status == 0, err
        return path, json.loads(out, parse_float=Decimal), err

    def rows(self, path: Path) -> list[dict[str, str]]:
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))


@pytest.fixture
def exports(run: Run, ledger_url: str, tmp_path: Path) -> Exports:
    """Return the exports of a ledger with a call of November and one of December."""
    _emit(ledger_url, call(tenant_id="acme"), call(tenant_id="acme", started_at=_NEXT_MONTH))
    return Exports(run, ledger_url, tmp_path)


@pytest.mark.parametrize("options", [(), ("--per-call",)], ids=["daily", "per call"])
def test_a_late_call_is_a_correction_of_the_next_month(
    exports: Exports, ledger_url: str, options: tuple[str, ...]
) -> None:
    """It is charged once, with its quantity, and later files do not charge it again."""
    november, _, _ = exports.write("2026-11", options=options)
    _emit(ledger_url, call(tenant_id="acme"), call(tenant_id="zoo"))

    december, shown, err = exports.write("2026-12", november, options=options)
    _emit(ledger_url, call(tenant_id="acme", started_at=_NEXT_MONTH + timedelta(days=31)))
    _, later, _ = exports.write("2027-01", november, december, options=options)

    late = [row for row in exports.rows(december) if row["ChargeClass"] == "Correction"]
    # Of acme and of zoo one call each: 1,000 input and 100 output tokens.
    assert [(row["SubAccountId"], row["SkuMeter"], row["ConsumedQuantity"], row["BilledCost"]) for row in late] == [
        ("acme", "Input Tokens", "1000", "0.00175"),
        ("acme", "Output Tokens", "100", "0.0014"),
        ("zoo", "Input Tokens", "1000", "0.00175"),
        ("zoo", "Output Tokens", "100", "0.0014"),
    ]
    assert {(row["BillingPeriodStart"], row["ChargePeriodStart"][:10]) for row in late} == {
        ("2026-12-01T00:00:00Z", "2026-11-02")
    }
    assert {row["ContractedUnitPrice"] for row in late} == {"1.75", "14"}
    assert (shown["late_rows"], shown["totals"]["BilledCost"]) == (4, 3 * USD)
    assert "4 rows correct earlier months" in err
    assert (later["late_rows"], later["totals"]["BilledCost"]) == (0, USD)


def test_a_later_price_and_a_late_call_are_charged_once_each(exports: Exports, ledger_url: str) -> None:
    """A rating of December corrects its calls; the late call comes at the price of its own month."""
    november, _, _ = exports.write("2026-11")
    _emit(ledger_url, call(tenant_id="zoo"))
    rate = Rate("openai", "gpt-5.2", AT.date(), "contract", {"input_mtok": Decimal("0.75"), "output_mtok": Decimal(14)})
    backend = backend_of(ledger_url)
    period = Period(AT - timedelta(days=1), AT + timedelta(days=1), "UTC")
    price_again(backend, period, OtherPrices(PriceBook([rate])), writes=True, now=datetime(2026, 12, 20, tzinfo=UTC))
    backend.close()

    december, shown, _ = exports.write("2026-12", november)

    # December's own call, zoo's late one, and a dollar less for each million input tokens of two calls.
    assert shown["totals"]["BilledCost"] == 2 * USD - 2 * Decimal("0.001")
    descriptions = {row["ChargeDescription"].partition(":")[0] for row in exports.rows(december) if row["ChargeClass"]}
    assert descriptions == {"Late usage", "Correction"}


@pytest.mark.parametrize("options", [(), ("--per-call",)], ids=["daily", "per call"])
@pytest.mark.parametrize(
    ("tier", "after"),
    [(None, Decimal("1.75")), ("flex", Decimal("0.875"))],
    ids=["context", "an older version"],
)
def test_a_later_rating_names_no_charge_of_a_closed_month_anew(
    run: Run, ledger_url: str, tmp_path: Path, tier: str | None, after: Decimal, options: tuple[str, ...]
) -> None:
    """What chose the price was another thing for each rating: the closed month is corrected, and not charged again."""
    usage, context = TokenUsage(input_tokens=1_000_000), (("inference_geo", "us"),)
    model = {"provider": "anthropic", "model": "claude-opus-4-6", "request_model": "claude-opus-4-6"}
    quote = PriceBook().quote(usage, provider="anthropic", model="claude-opus-4-6", context=context, at=AT)
    assert quote.rates is not None
    # An older version kept the tier with the call alone.
    rates = replace(quote.rates, context=None) if tier else quote.rates
    _emit(ledger_url, call(tenant_id="acme", usage=usage, cost=quote.cost, rates=rates, service_tier=tier, **model))
    months = Exports(run, ledger_url, tmp_path)
    november, before, _ = months.write("2026-11", options=options)
    backend = backend_of(ledger_url)
    period = Period(AT - timedelta(days=1), AT + timedelta(days=1), "UTC")
    prices = OtherPrices.parse(PriceBook(), model="openai/gpt-5.2")
    price_again(backend, period, prices, writes=True, now=datetime(2026, 12, 5, tzinfo=UTC))
    backend.close()

    december, shown, _ = months.write("2026-12", november, options=options)
    _, again, _ = months.write("2026-11", options=options)

    # A million input tokens: 5.50 with inference in the US, then 1.75, or half of it in the tier.
    assert before["totals"]["BilledCost"] == again["totals"]["BilledCost"] == Decimal("5.5")
    assert (shown["totals"]["BilledCost"], shown["late_rows"]) == (after - Decimal("5.5"), 0)
    assert shown["missing_charges"] == 0
    assert {row["ChargeDescription"].partition(":")[0] for row in months.rows(december)} == {"Correction"}


def test_what_the_ledger_no_longer_has_stays_as_it_was(exports: Exports, ledger_url: str) -> None:
    """After a prune nothing is taken back; the number of such charges is shown."""
    november, _, _ = exports.write("2026-11")
    backend = backend_of(ledger_url)
    backend.delete_before(datetime(2026, 12, 1, tzinfo=UTC))
    backend.close()

    _, shown, err = exports.write("2026-12", november)

    assert (shown["late_rows"], shown["missing_charges"], shown["totals"]["BilledCost"]) == (0, 2, USD)
    assert "2 charges of the files of earlier months are no longer in the ledger" in err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--since", "2026-11-01", "--until", "2026-11-30"), "--closed needs --month"),
        (("--month", "2026-12", "--per-call"), "was written without --per-call; write this file likewise"),
        (("--month", "2026-12", "--currency", "EUR"), "is in 'USD', this file would be in 'EUR'"),
        (("--month", "2027-01"), "--closed has no file of 2026-12"),
    ],
    ids=["month", "per call", "currency", "gap"],
)
def test_bad_input_is_a_clear_error(
    exports: Exports, run: Run, ledger_url: str, tmp_path: Path, arguments: tuple[str, ...], message: str
) -> None:
    """Each mistake ends with status 2 and what to do."""
    november, _, _ = exports.write("2026-11")
    _emit(ledger_url, call(started_at=_NEXT_MONTH + timedelta(days=31)))
    rates = tmp_path / "rates.csv"
    rates.write_text("date,currency,usd_per_unit\n2026-11-02,EUR,1.05\n")

    status, _, err = run(
        "focus",
        "--ledger",
        ledger_url,
        *arguments,
        "--exchange-rates",
        rates,
        "--closed",
        november,
        "-o",
        tmp_path / "x",
    )

    assert (status, message in " ".join(err.split())) == (2, True), err


def _unpriced(month: int) -> LLMCall:
    at = AT.replace(month=month)
    return call(started_at=at, cost=None, rates=None, usage=None, unpriced_reason="no_usage")


@pytest.mark.parametrize("names", [("2026-10", "2026-11"), ("2026-10",)], ids=["with its file", "without"])
def test_a_month_without_a_price_keeps_the_chain(
    run: Run, ledger_url: str, tmp_path: Path, names: tuple[str, ...]
) -> None:
    """Its file has no row, may be named or not, and a call of that month that comes later is charged."""
    _emit(ledger_url, call(started_at=AT.replace(month=10)), _unpriced(11), call(started_at=AT.replace(month=12)))
    exports = Exports(run, ledger_url, tmp_path)
    october, _, _ = exports.write("2026-10")
    november, shown, err = exports.write("2026-11", october)
    assert (shown["rows"], shown["calls"], exports.rows(november)) == (0, 1, [])
    assert "1 calls have no price" in err
    closed = [path for path in (october, november) if path.stem in names]
    _, december, _ = exports.write("2026-12", *closed)
    assert december["totals"]["BilledCost"] == USD

    _emit(ledger_url, call(started_at=AT))

    arguments = [argument for path in closed for argument in ("--closed", path)]
    status, out, err = run("focus", "--ledger", ledger_url, "--month", "2026-12", "--json", *arguments)
    if len(names) == 1:
        assert (status, "--closed has no file of 2026-11" in err) == (2, True)
        return
    late = json.loads(out, parse_float=Decimal)
    assert (late["late_rows"], late["totals"]["BilledCost"]) == (2, 2 * USD)


def test_a_first_month_without_a_price_is_part_of_the_chain(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """Files without rows stand for the months right before the others."""
    _emit(ledger_url, _unpriced(10), _unpriced(11))
    exports = Exports(run, ledger_url, tmp_path)
    october, _, _ = exports.write("2026-10")
    november, _, _ = exports.write("2026-11", october)

    _emit(ledger_url, call(started_at=AT.replace(month=10)))

    _, december, _ = exports.write("2026-12", october, november)
    assert (december["late_rows"], december["totals"]["BilledCost"]) == (2, USD)


def test_a_forgotten_file_is_not_taken_for_an_empty_one(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """A file without rows stands for one month, not for another one whose file is missing."""
    calls = [call(started_at=AT.replace(month=month)) for month in (9, 10, 12)]
    _emit(ledger_url, *calls, _unpriced(11))
    exports = Exports(run, ledger_url, tmp_path)
    september, _, _ = exports.write("2026-09")
    november, _, _ = exports.write("2026-11")

    arguments = ("--closed", september, "--closed", november)
    status, _, err = run("focus", "--ledger", ledger_url, "--month", "2026-12", *arguments)

    assert (status, "--closed has no file of 2026-10" in err) == (2, True), err


def test_a_file_of_another_program_is_a_clear_error(
    exports: Exports, run: Run, ledger_url: str, tmp_path: Path
) -> None:
    """A file without FOCUS' columns names what is missing."""
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")

    status, _, err = run("focus", "--ledger", ledger_url, "--month", "2026-12", "--closed", path)

    assert (status, "has a row that is none of eco2 focus" in " ".join(err.split())) == (2, True), err
