"""``eco2 report``: cost by dimension, in every format."""

from __future__ import annotations

import csv
import io
import json
import re
import subprocess
import sys
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, LedgerSink
from tests.cli.conftest import Run, Terminal, without_styles
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.ledger_records import AT, call

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")


def test_a_report_equals_what_prometheus_counted(run: Run, tmp_path: Path, registry: CollectorRegistry) -> None:
    """The dollars of a run by tenant are those of ``llm_cost_dollars_total``, to 1e-9."""
    path = tmp_path / "eco2.db"
    with Eco2CallbackHandler(registry=registry, ledger=path) as handler:
        for number in range(30):
            model = FakeModel(usage=DETAILED_USAGE) if number % 2 else FakeModel()
            model.invoke("hello", {"callbacks": [handler], "metadata": {"tenant_id": f"t{number % 4}"}})
        handler.flush()
        counted: dict[str, float] = {}
        for family in registry.collect():
            for sample in family.samples:
                if sample.name == "llm_cost_dollars_total":
                    tenant = sample.labels["tenant_id"]
                    counted[tenant] = counted.get(tenant, 0.0) + sample.value

    status, out, _ = run("report", "--by", "tenant", "--json", "--ledger", path, "--since", "1d")

    assert status == 0
    found = {group["tenant"]: group["cost_usd"] for group in json.loads(out)["groups"]}
    assert found.keys() == {"t0", "t1", "t2", "t3"}
    assert found == pytest.approx(counted, abs=1e-9)


def test_json_holds_all_figures(run: Run, ledger: Path) -> None:
    """Dollars are exact numbers, and an unknown figure is null."""
    _, out, _ = run("report", "--by", "tenant", "--json", "--ledger", ledger, *_PERIOD)

    report = json.loads(out, parse_float=Decimal)
    acme, zoo = report["groups"]
    # Two calls of 0.00315 USD for two successful requests.
    assert (acme["tenant"], acme["cost_usd"], acme["successful_requests"]) == ("acme", Decimal("0.0063"), 2)
    assert acme["cost_per_successful_request_usd"] == Decimal("0.00315")
    assert (acme["calls"], acme["input_tokens"], acme["output_tokens"]) == (2, 2000, 200)
    assert float(acme["cost_p50_usd"]) == pytest.approx(0.00315, rel=0.026)
    assert float(acme["seconds_p95"]) == pytest.approx(1.5, rel=0.026)
    assert (zoo["tenant"], zoo["unpriced_calls"], zoo["cost_p50_usd"]) == ("zoo", 1, None)
    assert report["total"]["calls"] == 3
    # 500 x 1.75 + 1,500 x 0.175 + 10 x 14 USD per million = 0.0012775, against nothing priced in November.
    (zoo_mover,) = [mover for mover in report["movers"] if mover["tenant"] == "zoo"]
    assert zoo_mover["change_usd"] == Decimal("-0.0012775")
    assert (zoo_mover["unpriced_calls"], zoo_mover["unpriced_calls_before"]) == (1, 0)


@pytest.mark.parametrize(
    ("by", "groups"),
    [
        ("day", ["2026-11-02"]),
        ("week", ["2026-11-02"]),
        ("month", ["2026-11-01"]),
        ("user", ["u0", "u1", ""]),
        ("session", ["s1", ""]),
        ("job", None),
        ("agent", [""]),
        ("node", ["answer", ""]),
        ("path", ["boss/answer", ""]),
        ("purpose", [""]),
        ("intent", ["waste", "unclassified"]),
        ("model", ["gpt-5.2"]),
        ("provider", ["openai"]),
        ("tag", ["a", "b", ""]),
        ("prompt_version", ["v2", ""]),
        ("prompt-version", ["v2", ""]),
    ],
)
def test_every_dimension_groups(run: Run, ledger: Path, by: str, groups: list[str] | None) -> None:
    """Each dimension gives its groups; their dollars sum to the total, but for tags, as a call has several."""
    status, out, err = run("report", "--by", by, "--json", "--ledger", ledger, *_PERIOD)

    if groups is None:
        assert (status, err) == (2, err)
        assert "--by is 'job', wanted some of day, week" in err
        return
    report = json.loads(out, parse_float=Decimal)
    name = by.replace("-", "_")
    assert sorted(group[name] for group in report["groups"]) == sorted(groups)
    if by != "tag":
        assert sum(group["cost_usd"] for group in report["groups"]) == report["total"]["cost_usd"]


@pytest.mark.parametrize(
    ("zone", "day"), [("UTC", "2026-11-02"), ("Asia/Kolkata", "2026-11-02"), ("Pacific/Auckland", "2026-11-02")]
)
def test_days_are_those_of_the_time_zone(run: Run, ledger: Path, zone: str, day: str) -> None:
    """A day begins at midnight of the zone, also where its hours are not those of UTC."""
    _, out, _ = run("report", "--by", "day,tenant", "--json", "--ledger", ledger, *_PERIOD, "--timezone", zone)

    groups = json.loads(out)["groups"]
    assert {(group["day"], group["tenant"], group["calls"]) for group in groups} == {(day, "acme", 2), (day, "zoo", 1)}


def test_the_table_has_bars_a_total_and_movers(run: Run, ledger: Path) -> None:
    """The terminal shows each group with a bar, the total, what is missing, and the top movers."""
    status, out, _ = run("report", "--by", "tenant", "--ledger", ledger, *_PERIOD)

    assert status == 0
    acme = next(line for line in out.splitlines() if line.startswith("acme"))
    assert "█" in acme
    assert "0.006300" in acme
    assert "? leaves out 1 calls without a price" in out
    assert "Top movers by tenant" in out
    assert "(new)  acme" in out


def _lines_of_movers(run: Run, path: Path, page: Path) -> tuple[list[str], list[list[str]]]:
    """Return the movers' lines of the terminal, and their cells in the page."""
    _, table, _ = run("report", "--by", "tenant", "--ledger", path, *_PERIOD)
    run("report", "--by", "tenant", "--format", "html", "-o", page, "--ledger", path, *_PERIOD)
    (movers,) = re.findall(r"against the period before</h2>(.*?)</table>", page.read_text("utf-8"), re.DOTALL)
    rows = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in re.findall(r"<tr>(.*?)</tr>", movers, re.DOTALL)]
    lines = [line.strip() for line in table.split("Top movers")[1].splitlines()[1:]]
    return lines, [row for row in rows if row]


@pytest.mark.parametrize(
    ("columns", "left_out"),
    [
        (60, "s p50, s p95, USD p50, USD p95, saved USD"),
        (80, "s p50, s p95, USD p50, USD p95"),
        (100, "s p50, s p95"),
        (140, ""),
    ],
)
def test_a_narrow_terminal_cuts_no_figure(
    run: Run, ledger: Path, terminal: Terminal, columns: int, left_out: str
) -> None:
    """It leaves out whole columns, from the least important one, and says which."""
    terminal(columns)

    _, out, _ = run("report", "--by", "tenant", "--ledger", ledger, *_PERIOD)

    shown = without_styles(out)
    assert "…" not in shown
    (acme,) = [line.split() for line in shown.splitlines() if line.startswith("acme")]
    assert {"0.006300", "2", "2,000"} <= set(acme)
    remark = " ".join(shown.split())
    assert (f"also shows {left_out};" in remark) == bool(left_out)
    assert ("A wider terminal" in remark) == bool(left_out)
    assert max(map(len, shown.splitlines())) <= columns


@pytest.mark.parametrize("command", [("report", "--business"), ("budget", "--budgets"), ("prices", "gpt-5.2")])
def test_no_table_cuts_a_cell(
    run: Run, ledger: Path, terminal: Terminal, tmp_path: Path, command: tuple[str, ...]
) -> None:
    """In a terminal of 80 columns nothing ends in an ellipsis."""
    budgets = tmp_path / "budgets.toml"
    budgets.write_text(
        '[[budgets]]\nname = "each tenant a month"\nper = ["tenant_id"]\nlimit_usd = 50\nwindow = "month"\n'
    )
    terminal(80)

    status, out, _ = run(*command, *([budgets] if command[0] == "budget" else []), "--ledger", ledger)

    assert (status, "…" in without_styles(out)) == (0, False)


def test_unknown_dollars_are_no_fall_and_no_rise(run: Run, tmp_path: Path) -> None:
    """A mover with calls without a price has a mark and no percentage; one that was unpriced before is not new."""
    path, unpriced = tmp_path / "eco2.db", {"cost": None, "rates": None, "unpriced_reason": "unknown_model"}
    before = AT - timedelta(days=30)
    with LedgerSink(path) as sink:
        for _ in range(5):
            sink.emit(call(tenant_id="lost", started_at=before))
        sink.emit(call(tenant_id="lost", **unpriced))
        for _ in range(4):
            sink.emit(call(tenant_id="found"))
        sink.emit(call(tenant_id="found", started_at=before, **unpriced))
        for _ in range(3):
            sink.emit(call(tenant_id="sure"))
        sink.emit(call(tenant_id="sure", started_at=before))

    lines, rows = _lines_of_movers(run, path, tmp_path / "page.html")

    assert lines[:3] == ["?-0.015750 USD  lost", "?+0.012600 USD  found", "+0.006300 USD (+200%)  sure"]
    assert lines[3] == "? leaves out calls without a price in one of the two periods"
    assert rows == [
        ["lost", "0.015750", "?0.000000", "?-0.015750", ""],
        ["found", "?0.000000", "0.012600", "?+0.012600", ""],
        ["sure", "0.003150", "0.009450", "+0.006300", "+200%"],
    ]


def test_csv_can_be_read_back(run: Run, ledger: Path) -> None:
    """CSV has one line per group, and plain decimals."""
    _, out, _ = run("report", "--by", "month", "--by", "tenant", "--format", "csv", "--ledger", ledger, *_PERIOD)

    rows = list(csv.DictReader(io.StringIO(out)))
    assert [(row["month"], row["tenant"], Decimal(row["cost_usd"])) for row in rows] == [
        ("2026-11-01", "acme", Decimal("0.0063")),
        ("2026-11-01", "zoo", Decimal(0)),
    ]


@pytest.mark.parametrize(
    ("tenant", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+A1", "'+A1"),
        ("-2+3", "'-2+3"),
        ("\u3000=A1", "'\u3000=A1"),
        ("＝A1", "'＝A1"),
        ("-2", "-2"),
        ("a=b", "a=b"),
    ],
)
def test_a_spreadsheet_runs_no_name(run: Run, tmp_path: Path, tenant: str, cell: str) -> None:
    """CSV shows a name that begins a formula as text; numbers, negative ones too, stay numbers."""
    path = tmp_path / "eco2.db"
    cache_write = {"cache_savings_usd": Decimal("-0.000001")}
    with LedgerSink(path) as sink:
        sink.emit(call(tenant_id=tenant, **cache_write))

    _, out, _ = run("report", "--by", "tenant", "--format", "csv", "--ledger", path, *_PERIOD)
    _, document, _ = run("report", "--by", "tenant", "--json", "--ledger", path, *_PERIOD)
    _, charges, _ = run("focus", "--month", "2026-11", "--ledger", path)

    (row,) = csv.DictReader(io.StringIO(out))
    assert (row["tenant"], row["cache_savings_usd"]) == (cell, "-0.000001")
    assert json.loads(document)["groups"][0]["tenant"] == tenant
    assert {charge["SubAccountId"] for charge in csv.DictReader(io.StringIO(charges))} == {tenant}


def test_parquet_keeps_exact_dollars(run: Run, ledger: Path, tmp_path: Path) -> None:
    """Parquet has decimals of twelve places."""
    path = tmp_path / "report.parquet"

    status, _, err = run("report", "--by", "tenant", "--format", "parquet", "-o", path, "--ledger", ledger, *_PERIOD)

    assert status == 0
    assert str(path) in err
    rows = pq.read_table(path).to_pylist()
    assert [(row["tenant"], row["cost_usd"]) for row in rows] == [("acme", Decimal("0.0063")), ("zoo", Decimal(0))]


def test_a_report_can_be_written_to_a_file(run: Run, ledger: Path, tmp_path: Path) -> None:
    """``--output`` takes the text of every format; a folder that is missing is named."""
    path = tmp_path / "report.json"

    run("report", "--json", "-o", path, "--ledger", ledger, *_PERIOD)
    status, _, err = run("report", "--json", "-o", tmp_path / "none" / "x.json", "--ledger", ledger, *_PERIOD)

    assert json.loads(path.read_text())["total"]["calls"] == 3
    assert status == 1
    assert "cannot be written: No such file or directory; pass another --output." in err


def test_the_environment_names_the_ledger(run: Run, ledger: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``ECO2_LEDGER`` stands for ``--ledger``; without both the message says so."""
    status, _, err = run("report")
    assert status == 2
    assert "No ledger is named; pass --ledger URL or set ECO2_LEDGER" in err

    monkeypatch.setenv("ECO2_LEDGER", str(ledger))
    status, out, _ = run("report", *_PERIOD, "--json")
    assert status == 0
    assert json.loads(out)["by"] == ["day"]


def test_an_output_that_is_full_ends_with_a_clear_error(ledger: Path) -> None:
    """A full disk behind the output is named, in place of a traceback."""
    command = [sys.executable, "-c", "import sys; from eco2_callbacks.cli import main; sys.exit(main())"]
    arguments = ["report", "--format", "csv", "--ledger", str(ledger), *_PERIOD]

    with open("/dev/full", "w") as full:
        found = subprocess.run([*command, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, check=False)

    assert (found.returncode, found.stderr) == (
        1,
        "eco2: The output cannot be written: No space left on device; write it to another disk.\n",
    )


@pytest.mark.parametrize(
    "command",
    [("report",), ("report", "--by", "user"), ("report", "--business"), ("compare", "tenant")],
    ids=["hourly sums", "calls", "business", "compare"],
)
def test_more_dollars_than_sqlite_adds_up_are_a_clear_error(run: Run, tmp_path: Path, command: tuple[str, ...]) -> None:
    """Each call fits in a row, and their sum in no integer of SQLite: the message says so."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for _ in range(2):
            sink.emit(call(cost=Cost(input_usd=Decimal(9_000_000))))

    status, out, err = run(*command, "--ledger", path, *_PERIOD)

    if command[0] == "compare":  # it takes means of floats
        assert (status, err) == (0, "")
        return
    assert (status, out) == (1, "")
    assert "cost more than 9.2 million dollars together, more than SQLite can add up; choose a shorter period" in err


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("report", "--format", "pdf"), 2, "--format is 'pdf', wanted one of table, csv, json, parquet, html."),
        (("report", "--timezone", "Mars/X"), 2, "The time zone is 'Mars/X'"),
        (("report", "--since", "2020-01-01", "--until", "2020-01-02"), 1, "has no calls from 2020-01-01"),
        (("report", "--nope"), 2, "No such option"),
        (("trace", "job-9"), 1, "has no job or trace 'job-9'"),
        (("ledger", "prune", "--older-than", "soon"), 2, "The duration is 'soon', wanted hours, days or weeks"),
        (("ledger", "prune", "--older-than", "999999d"), 2, "--older-than is 999999 days, wanted a duration back to"),
        (("ledger", "forget", "--user", " "), 2, "--user is empty"),
        (("report", "--since", "999999d"), 2, "--since is '999999d', wanted a day"),
    ],
    ids=["format", "zone", "empty period", "option", "job", "duration", "long duration", "user", "long ago"],
)
def test_bad_input_ends_with_a_clear_error(
    run: Run, ledger: Path, arguments: tuple[str, ...], status: int, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each mistake ends with its status and a message that says what to do."""
    monkeypatch.setenv("ECO2_LEDGER", str(ledger))

    found, _, err = run(*arguments)

    assert (found, message in err) == (status, True), err
