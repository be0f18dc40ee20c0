"""``eco2 mcp``: an assistant asks the ledger, and can change nothing, on every backend."""

from __future__ import annotations

import json
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from mcp import Client, StdioServerParameters

from eco2_callbacks import LedgerError, LedgerSink, PriceBook
from eco2_callbacks.finance import build_server
from eco2_callbacks.ledger import backend_of, make_read_only
from tests.cli.conftest import Run
from tests.support.ledger_records import call, count, one_request, query

USD = Decimal("0.00315")


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger: acme with two calls yesterday at noon and one now, zoo with one yesterday."""
    now = datetime.now(UTC)
    noon = (now - timedelta(days=1)).replace(hour=12)
    with LedgerSink(ledger_url) as sink:
        for tenant in ("acme", "acme", "zoo"):
            sink.emit(call(tenant_id=tenant, started_at=noon))
        for record in one_request(
            tenant_id="acme", job_id="job-1", user_id="ann", started_at=now - timedelta(seconds=9)
        ):
            sink.emit(record)
        sink.flush(60)
    return ledger_url


async def _ask(client: Client, tool: str, **arguments: Any) -> dict[str, Any]:
    result = await client.call_tool(tool, arguments)
    text = result.content[0].text  # type: ignore[union-attr]
    assert not result.is_error, text
    found: dict[str, Any] = json.loads(text)
    return found


async def test_an_assistant_answers_what_a_tenant_cost_yesterday(filled: str) -> None:
    """Each tool gives the ledger's figures for its parameters, and writes nothing."""
    backend = backend_of(filled)
    changed = count(filled, "changed_hours")
    async with Client(build_server(backend, PriceBook())) as client:
        tools = (await client.list_tools()).tools

        # Not "yesterday": the test may run over midnight.
        (noon,) = {row[0] for row in query(filled, "SELECT day FROM rated_calls WHERE tenant_id = 'zoo'")}
        cost = await _ask(client, "cost_of", dimension="tenant", value="zoo", since=str(noon), until=str(noon))
        report = await _ask(client, "cost_report", by=["day"], where={"tenant": "acme"}, since="2d")
        overview = await _ask(client, "ledger_overview")
        business = await _ask(client, "business_numbers", since="2d")
        trace = await _ask(client, "request_trace", job_or_trace="job-1")
        variants = await _ask(client, "compare", key="tenant", since="2d")
        prices = await _ask(client, "model_prices", model="gpt-5.2")

    assert (Decimal(cost["cost_usd"]), cost["calls"]) == (USD, 1)
    assert sum(Decimal(group["cost_usd"]) for group in report["groups"]) == 3 * USD
    assert (overview["rows"]["calls"], overview["models"]) == (4, ["openai/gpt-5.2"])
    assert business["total"]["active_users"] == 1
    assert len(trace["traces"]) == 1
    assert {variant["value"] for variant in variants["variants"]} == {"acme", "zoo"}
    assert prices["providers"]["openai"]["prices"]["input_mtok"] == "1.75"
    assert all(tool.annotations is not None and tool.annotations.read_only_hint for tool in tools)
    # No hour was summed up: that would have been a write.
    assert count(filled, "changed_hours") == changed
    backend.close()


async def test_each_question_has_its_own_zone(ledger_url: str) -> None:
    """One server answers questions in several time zones, each with the zone's own days."""
    with LedgerSink(ledger_url) as sink:
        for hour in range(24):
            sink.emit(call(started_at=datetime(2026, 11, 1, hour, 30, tzinfo=UTC)))
        sink.flush(60)
    backend = backend_of(ledger_url)
    days = {}
    async with Client(build_server(backend, PriceBook())) as client:
        for zone in ("UTC", "Asia/Seoul", "America/New_York"):
            period = {"since": "2026-10-30", "until": "2026-11-03", "timezone": zone}
            report = await _ask(client, "cost_report", by=["day"], **period)
            business = await _ask(client, "business_numbers", **period)
            days[zone] = [
                {group["day"]: group["calls"] for group in report["groups"]},
                {day: figures["calls"] for day, figures in business["days"].items() if figures["calls"]},
            ]
    backend.close()

    # Seoul is nine hours ahead. New York is four behind, and five from 06:00 UTC of this day on.
    assert days == {
        "UTC": 2 * [{"2026-11-01": 24}],
        "Asia/Seoul": 2 * [{"2026-11-01": 15, "2026-11-02": 9}],
        "America/New_York": 2 * [{"2026-10-31": 4, "2026-11-01": 20}],
    }


async def test_a_mistake_is_answered_with_what_was_wanted(filled: str) -> None:
    """The assistant reads the same messages as the command line, and a text is never a part of SQL."""
    backend = backend_of(filled)
    async with Client(build_server(backend, PriceBook())) as client:
        for tool, arguments, message in (
            ("cost_report", {"by": ["colour"]}, "--by is 'colour', wanted some of day"),
            ("cost_report", {"by": ["day"], "since": "whenever"}, "--since is 'whenever', wanted a day"),
            ("request_trace", {"job_or_trace": "x' OR 1=1 --"}, "has no job or trace"),
            ("model_prices", {"model": "none"}, "No price of 'none' is known"),
        ):
            result = await client.call_tool(tool, arguments)
            assert result.is_error
            assert message in result.content[0].text  # type: ignore[union-attr]
        hostile = await _ask(client, "cost_of", dimension="tenant", value="'; DROP TABLE calls; --", since="2d")
    assert hostile["calls"] == 0
    assert count(filled, "calls") == 4
    backend.close()


def test_a_read_only_ledger_refuses_every_change(filled: str) -> None:
    """Not one statement that changes a row passes."""
    backend = backend_of(filled)
    make_read_only(backend)

    with backend.engine().connect() as connection:
        assert connection.execute(sa.text("SELECT count(*) FROM calls")).scalar_one() == 4
        for statement in ("DELETE FROM calls", "DROP TABLE calls", "CREATE TABLE x (a int)"):
            with pytest.raises(LedgerError, match="for reading only"):
                connection.execute(sa.text(statement))
    assert count(filled, "calls") == 4
    backend.close()


@pytest.mark.slow
async def test_the_command_serves_over_standard_input(tmp_path: Path) -> None:
    """An assistant starts ``eco2 mcp`` itself; nothing but the protocol is on its output."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        sink.emit(call(tenant_id="acme", started_at=datetime.now(UTC) - timedelta(minutes=5)))
    program = "from eco2_callbacks.cli import main; raise SystemExit(main())"

    server = StdioServerParameters(command=sys.executable, args=["-c", program, "mcp", "--ledger", str(path)])
    async with Client(server) as client:
        found = await _ask(client, "cost_of", dimension="tenant", value="acme")

    assert Decimal(found["cost_usd"]) == USD


def test_a_server_without_a_ledger_is_an_error(run: Run, tmp_path: Path) -> None:
    """The command ends at once with a message, and does not make a ledger."""
    status, _, err = run("mcp", "--ledger", tmp_path / "none.db")
    assert (status, "There is no ledger at" in err) == (1, True)

    status, _, err = run("mcp", "--transport", "carrier-pigeon", "--ledger", tmp_path / "none.db")
    assert (status, "--transport is 'carrier-pigeon', wanted one of stdio" in err) == (2, True)
    assert not (tmp_path / "none.db").exists()
