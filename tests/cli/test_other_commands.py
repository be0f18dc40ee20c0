"""``eco2 trace``, ``prices`` and ``ledger``."""

from __future__ import annotations

import json
import re
import sqlite3
import uuid
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink, NodeRun
from eco2_callbacks.ledger import Schema, backend_of
from tests.cli.conftest import Run
from tests.support.ledger_records import call

_RATES = """
[[rates]]
provider = "openai"
model = "gpt-5.2"
start = 2026-01-01
source = "contract 7, checked 2026-02-03"
input_mtok = 1.5

[[rates]]
provider = "openai"
model = "gtp-5.2"
start = 2026-01-01
source = "contract 8"
input_mtok = 1.0

[[rates]]
provider = "openai"
model = "gpt-5.2"
start = 2030-01-01
source = "contract 9"
input_mtok = 0.5
"""


def test_a_trace_is_a_tree_on_a_time_axis(run: Run, ledger: Path) -> None:
    """Nodes hold their calls and tools, and each run has a bar, its seconds and its cost."""
    status, out, _ = run("trace", "job-1", "--ledger", ledger)

    assert status == 0
    lines = out.splitlines()
    assert "job job-1" in lines[0]
    names = ["waste", "╰─ answer", "   ├─ gpt-5.2", "2 in parallel", "wiki", "search"]
    positions = [next(number for number, line in enumerate(lines) if name in line) for name in names]
    assert positions == sorted(positions)
    assert "0.00315000" in lines[positions[2]]
    assert "saved 0.10 s" in lines[positions[3]]


def test_a_run_without_duration_is_not_parallel_to_the_next(run: Run, tmp_path: Path) -> None:
    """The router ends in the moment in which its branches start, as in the demo's ledger: only these are parallel."""
    path, at = tmp_path / "eco2.db", datetime(2026, 11, 2, 10, tzinfo=UTC)
    with LedgerSink(path) as sink:
        trace_id = uuid.uuid4()
        for node, seconds in (("weather", 2.0), ("router", 0.0), ("rules", 1.0)):
            about = {"path": f"eco2/{node}", "started_at": at, "duration_seconds": seconds}
            sink.emit(NodeRun(run_id=uuid.uuid4(), trace_id=trace_id, node=node, **about))
        sink.emit(call(trace_id=trace_id, node="rules", path="eco2/rules", started_at=at, duration_seconds=1.0))

    _, out, _ = run("trace", str(trace_id), "--ledger", path)

    names = [re.sub(r"^[│├╰─ ]+", "", line).split("  ")[0] for line in out.splitlines()]
    assert [name for name in names if name in {"router", "2 in parallel", "weather", "rules"}] == [
        "router",
        "2 in parallel",
        "weather",
        "rules",
    ]


def test_a_trace_as_json_has_the_tree(run: Run, ledger: Path) -> None:
    """The same tree for programs; a trace id finds it too."""
    _, out, _ = run("trace", "job-0", "--json", "--ledger", ledger)
    (trace,) = json.loads(out, parse_float=Decimal)

    _, again, _ = run("trace", trace["trace_id"], "--json", "--ledger", ledger)

    assert json.loads(again, parse_float=Decimal) == [trace]
    (node,) = trace["root"]["children"]
    assert (trace["root"]["kind"], node["name"], node["seconds"]) == ("request", "answer", Decimal("1.8"))
    assert [child["kind"] for child in node["children"]] == ["llm", "retriever", "tool"]
    assert trace["root"]["cost_usd"] == node["cost_usd"] == Decimal("0.00315")


def test_prices_name_their_source_and_age(run: Run, tmp_path: Path) -> None:
    """A rate has its source and the day it was checked; custom rates that price nothing are named."""
    path = tmp_path / "rates.toml"
    path.write_text(_RATES)

    status, out, _ = run("prices", "gpt-5.2", "--prices", path, "--at", "2026-11-02", "--json")

    assert status == 0
    document = json.loads(out, parse_float=Decimal)
    (listed,) = [each for each in document["prices"] if each["provider"] == "openai"]
    rates = {rate["key"]: rate for rate in listed["rates"]}
    assert (rates["input_mtok"]["usd"], rates["output_mtok"]["usd"]) == (Decimal("1.5"), 14)
    assert rates["input_mtok"]["source"] == "contract 7, checked 2026-02-03"
    assert rates["input_mtok"]["checked_on"] == "2026-02-03"
    assert rates["output_mtok"]["source"] == "genai-prices"
    assert [(each["model"], each["reason"]) for each in document["unused_rates"]] == [
        ("gtp-5.2", "matches nothing"),
        ("gpt-5.2", "starts later"),
    ]


def test_prices_on_the_terminal_warn_of_unused_rates(run: Run, tmp_path: Path) -> None:
    """The table shows the rates, and below it the custom ones that price nothing."""
    path = tmp_path / "rates.toml"
    path.write_text(_RATES)

    _, out, _ = run("prices", "openai/gpt-5.2", "--prices", path, "--at", "2026-11-02")

    assert "input_mtok" in out
    assert "! Custom rate openai/gtp-5.2 (contract 8): matches no public model" in out
    assert "! Custom rate openai/gpt-5.2 (contract 9): starts on 2030-01-01" in out


def test_all_prices_can_be_listed(run: Run) -> None:
    """Without a model every public one is listed."""
    status, out, _ = run("prices", "--json")

    assert status == 0
    assert len(json.loads(out)["prices"]) > 500


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [(("nope",), 1, "No price for model 'nope'"), (("gpt-5.2", "--at", "soon"), 2, "--at is 'soon', wanted a day")],
    ids=["model", "day"],
)
def test_an_unknown_price_is_an_error(run: Run, arguments: tuple[str, ...], status: int, message: str) -> None:
    """A model without a price, and a day that is none, are named."""
    found, _, err = run("prices", *arguments)

    assert (found, message in err) == (status, True), err


def _newest() -> str:
    """Return the schema of the newest migration."""
    return Schema(backend_of("unused.db")).newest()


def test_the_ledger_shows_its_status(run: Run, ledger: Path) -> None:
    """Status counts the rows, and names the schema and the period."""
    _, out, _ = run("ledger", "status", "--json", "--ledger", ledger)
    _, table, _ = run("ledger", "status", "--ledger", ledger)

    status = json.loads(out)
    assert (status["rows"]["calls"], status["rows"]["requests"], status["revision"]) == (4, 2, _newest())
    assert status["first"].startswith("2026-10-03T09:30:00")
    assert "calls" in table


def test_the_ledger_is_migrated(run: Run, tmp_path: Path) -> None:
    """Migrate makes the tables of a new ledger, and does nothing the second time."""
    path = tmp_path / "new.db"

    first, second = (run("ledger", "migrate", "--ledger", path)[1] for _ in range(2))

    assert f"was migrated from nothing to {_newest()}" in first
    assert f"has the newest schema, {_newest()}" in second


def test_old_rows_are_pruned(run: Run, ledger: Path) -> None:
    """Prune deletes what started before the hour of the moment, and says how much."""
    with LedgerSink(ledger) as sink:
        sink.emit(call(started_at=datetime.now(UTC)))
        sink.emit(call(started_at=datetime.now(UTC) - timedelta(days=500)))

    _, out, _ = run("ledger", "prune", "--older-than", "400d", "--json", "--ledger", ledger)

    with closing(sqlite3.connect(ledger)) as connection:
        (oldest,) = connection.execute("SELECT min(started_at) FROM calls").fetchone()
    assert json.loads(out)["deleted_calls"] >= 1
    assert oldest > (datetime.now(UTC) - timedelta(days=401)).timestamp() * 1e6


def test_a_user_is_forgotten(run: Run, ledger: Path) -> None:
    """Forget erases the user's ids, and the dollars stay."""
    status, out, _ = run("ledger", "forget", "--user", "u0", "--ledger", ledger)

    assert status == 0
    assert "from 1 calls" in out
    assert b"job-0" not in ledger.read_bytes()
    _, report, _ = run("report", "--json", "--ledger", ledger, "--since", "2026-11-01", "--until", "2026-11-30")
    assert json.loads(report, parse_float=Decimal)["total"]["cost_usd"] == Decimal("0.0063")
