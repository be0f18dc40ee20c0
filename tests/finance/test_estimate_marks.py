"""A sum with an estimate in it says so in every output, with one figure: how much of it is estimated."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink, TokenUsage
from eco2_callbacks.finance import read_focus
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call, one_request

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")
USD = Decimal("0.00315")
# 500 x 1.75 + 50 x 14 USD per million.
_ESTIMATED = TokenUsage(input_tokens=500, output_tokens=50)
ESTIMATED_USD = Decimal("0.001575")


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger: acme with a cancelled call, whose usage is an estimate, and a whole one; zoo without any."""
    with LedgerSink(ledger_url) as sink:
        about = {"estimated": True, "estimate_reason": "cancelled", "status": "cancelled"}
        sink.emit(call(tenant_id="acme", user_id="ann", intent="waste", usage=_ESTIMATED, **about))
        for tenant in ("acme", "zoo"):
            for record in one_request(tenant_id=tenant, user_id="ben", intent=tenant):
                sink.emit(record)
        sink.flush(60)
    return ledger_url


def test_business_numbers_say_what_is_estimated(run: Run, filled: str) -> None:
    """Days, total and intents have the figure in JSON and CSV, and the mark in the table."""
    arguments = ("report", "--business", "--ledger", filled, *_PERIOD)
    _, document, _ = run(*arguments, "--json")
    _, table, _ = run(*arguments)
    _, lines, _ = run(*arguments, "--format", "csv")

    found = json.loads(document, parse_float=Decimal)
    intents = {each["intent"]: (each["estimated_cost_usd"], each["unpriced_calls"]) for each in found["intents"]}
    assert found["total"]["estimated_cost_usd"] == found["days"][0]["estimated_cost_usd"] == ESTIMATED_USD
    assert intents == {"waste": (ESTIMATED_USD, 0), "acme": (0, 0), "zoo": (0, 0)}
    (day,) = csv.DictReader(io.StringIO(lines))
    assert Decimal(day["estimated_cost_usd"]) == ESTIMATED_USD
    marked = [line.split()[0] for line in table.splitlines() if "~0." in line]
    assert marked == ["2026-11-02", "all", "waste"]
    assert "~ 0.001575 USD rest on an estimate" in table


def test_focus_says_what_is_estimated(run: Run, filled: str) -> None:
    """Each row has the part of its billed cost, in the currency of the bill; the sum goes to standard error."""
    status, out, err = run("focus", "--ledger", filled, "--month", "2026-11")
    _, document, _ = run("focus", "--ledger", filled, "--month", "2026-11", "--json")

    assert status == 0
    rows = list(csv.DictReader(io.StringIO(out)))
    parts = {(row["SubAccountId"], row["SkuMeter"]): Decimal(row["x_EstimatedCost"]) for row in rows}
    # The rows hold the whole call too: 0.002625 and 0.0021 in all.
    assert parts == {
        ("acme", "Input Tokens"): Decimal("0.000875"),
        ("acme", "Output Tokens"): Decimal("0.0007"),
        ("zoo", "Input Tokens"): 0,
        ("zoo", "Output Tokens"): 0,
    }
    assert err == "~ 0.001575 USD rest on an estimate: see x_EstimatedCost.\n"
    assert json.loads(document, parse_float=Decimal)["estimated_cost"] == ESTIMATED_USD


def test_an_estimate_keeps_its_mark_in_a_late_row(run: Run, tmp_path: Path) -> None:
    """The file is read back, also one without the column, and a late call's estimate stands in its correction."""
    path, december = tmp_path / "eco2.db", AT + timedelta(days=35)
    november = tmp_path / "november.csv"
    with LedgerSink(path) as sink:
        sink.emit(call(estimated=True))
        sink.emit(call(started_at=december))
    run("focus", "--ledger", path, "--month", "2026-11", "-o", november)
    columns, rows = read_focus(november)
    with november.open("w", newline="") as file:
        writer = csv.DictWriter(file, [name for name in columns if name != "x_EstimatedCost"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(rows)
    arguments = ("focus", "--ledger", path, "--month", "2026-12", "--closed", november, "--json")
    _, before, _ = run(*arguments)
    with LedgerSink(path) as sink:
        sink.emit(call(tenant_id="acme", estimated=True, usage=_ESTIMATED))

    _, after, _ = run(*arguments)

    assert (json.loads(before)["late_rows"], json.loads(before)["estimated_cost"]) == (0, 0)
    found = json.loads(after, parse_float=Decimal)
    assert (found["late_rows"], found["estimated_cost"]) == (2, ESTIMATED_USD)


@pytest.mark.slow
def test_the_column_is_a_decimal_in_parquet(run: Run, filled: str, tmp_path: Path) -> None:
    """Parquet keeps it as the other costs, and our own check takes it."""
    import pyarrow.parquet as pq

    path = tmp_path / "focus.parquet"
    run("focus", "--ledger", filled, "--month", "2026-11", "--format", "parquet", "-o", path)

    status, _, _ = run("focus", "--check", path)

    assert status == 0
    assert sum(row["x_EstimatedCost"] for row in pq.read_table(path).to_pylist()) == ESTIMATED_USD


def test_repricing_says_what_is_estimated(run: Run, filled: str) -> None:
    """The dollars at other prices rest on the same estimate of the usage."""
    _, document, _ = run("reprice", "--ledger", filled, *_PERIOD, "--json")
    _, table, _ = run("reprice", "--ledger", filled, *_PERIOD)

    found = json.loads(document, parse_float=Decimal)
    estimated = {group["tenant"]: group["estimated_usd"] for group in found["groups"]}
    assert (estimated, found["total"]["estimated_usd"]) == ({"acme": ESTIMATED_USD, "zoo": 0}, ESTIMATED_USD)
    assert {line.split()[0]: line.count("~0.") for line in table.splitlines() if "0.0" in line} == {
        "acme": 2,
        "zoo": 0,
        "total": 2,
        "~": 0,
    }
    assert "~ 0.001575 USD rest on an estimate" in table


def test_a_comparison_says_what_is_estimated(run: Run, filled: str) -> None:
    """The mean of a variant's dollars has the mark, and those of tokens and seconds have none."""
    _, document, _ = run("compare", "tenant", "--ledger", filled, *_PERIOD, "--json")
    _, table, _ = run("compare", "tenant", "--ledger", filled, *_PERIOD)

    variants = json.loads(document, parse_float=Decimal)["variants"]
    assert {each["value"]: each["estimated_usd"] for each in variants} == {"acme": ESTIMATED_USD, "zoo": 0}
    # The mean of 0.001575 and 0.00315.
    assert re.findall(r"~\S+", table) == ["~0.002363"]
    assert "~ 0.001575 USD rest on an estimate" in table


@pytest.mark.slow
def test_the_cost_of_a_page_is_marked(run: Run, tmp_path: Path) -> None:
    """The tile above the table has the marks of the table's total."""
    path, page = tmp_path / "eco2.db", tmp_path / "report.html"
    with LedgerSink(path) as sink:
        sink.emit(call(estimated=True))
        sink.emit(call(cost=None, rates=None, unpriced_reason="unknown_model"))

    run("report", "--format", "html", "-o", page, "--ledger", path, *_PERIOD)

    assert "<b>?~0.003150 USD</b><span>cost</span>" in page.read_text()


def _steady(path: Path, since: datetime, days: int) -> None:
    """Write a ledger with the same two requests each day."""
    with LedgerSink(path) as sink:
        for day in range(days):
            for _ in range(2):
                for record in one_request(started_at=since + timedelta(days=day), tenant_id="acme", intent="waste"):
                    sink.emit(record)


def test_a_ledger_that_has_just_begun_shows_no_growth(run: Run, tmp_path: Path) -> None:
    """A ledger that began a day before the period knows nothing of the period before, and says since when it knows."""
    path = tmp_path / "eco2.db"
    _steady(path, datetime(2026, 10, 31, 9, tzinfo=UTC), 31)

    _, business, _ = run("report", "--business", "--json", "--ledger", path, *_PERIOD)
    _, table, _ = run("report", "--by", "tenant", "--ledger", path, *_PERIOD)
    _, report, _ = run("report", "--by", "tenant", "--json", "--ledger", path, *_PERIOD)

    found = json.loads(business)
    assert (found["before"], found["ledger_began"]) == (None, "2026-10-31T09:00:00+00:00")
    assert [(each["requests_before"], each["change"]) for each in found["intents"]] == [(None, None)]
    assert (json.loads(report)["movers"], "Top movers" in table) == ([], False)
    assert "The ledger began on 2026-10-31: it has a part of the period before." in table


def test_a_quiet_period_before_is_known_to_be_empty(run: Run, ledger_url: str) -> None:
    """Where the ledger is older than the period before, what that lacks is new."""
    with LedgerSink(ledger_url) as sink:
        for started_at in (AT - timedelta(days=90), AT):
            for record in one_request(started_at=started_at, tenant_id="acme", intent="waste"):
                sink.emit(record)
        sink.flush(60)

    _, business, _ = run("report", "--business", "--json", "--ledger", ledger_url, *_PERIOD)
    _, table, _ = run("report", "--business", "--ledger", ledger_url, *_PERIOD)
    _, report, _ = run("report", "--by", "tenant", "--ledger", ledger_url, *_PERIOD)

    found = json.loads(business)
    assert (found["before"]["requests"], found["intents"][0]["requests_before"], found["ledger_began"]) == (0, 0, None)
    assert next(line for line in table.splitlines() if line.startswith("waste")).split()[-2] == "new"
    assert "(new)  acme" in report
