"""``eco2 reprice``: the same calls at other prices, on every backend."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import Cost, LedgerSink, PriceBook, TokenUsage
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call, query

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")
# 1,000 x 1.75 + 100 x 14 USD per million.
USD = Decimal("0.00315")
HALF = """
[[rates]]
provider = "openai"
model = "gpt-5.2"
start = 2026-11-01
source = "contract 7"
input_mtok = 0.875
output_mtok = 7

[[rates]]
provider = "*"
model = "own"
start = 2026-11-01
source = "our machines"
input_mtok = 1
output_mtok = 1
"""


@pytest.fixture
def filled(ledger_url: str) -> str:
    """Return a ledger: acme with two calls and one from the cache, zoo with one call and one without a price."""
    unpriced = {"cost": None, "rates": None, "unpriced_reason": "unknown_model"}
    with LedgerSink(ledger_url) as sink:
        sink.emit(call(tenant_id="acme"))
        sink.emit(call(tenant_id="acme", started_at=AT + timedelta(days=2)))
        sink.emit(call(tenant_id="acme", from_cache=True, cost=Cost(), rates=None))
        sink.emit(call(tenant_id="zoo"))
        sink.emit(call(tenant_id="zoo", model="own", request_model="own", **unpriced))
        sink.flush(60)
    return ledger_url


def _reprice(run: Run, url: str, *arguments: object) -> dict[str, Any]:
    status, out, err = run("reprice", "--json", "--ledger", url, *_PERIOD, *arguments)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out, parse_float=Decimal)
    return found


def test_the_same_prices_change_nothing(run: Run, filled: str) -> None:
    """At the prices that were used no dollar moves, and nothing is written."""
    found = _reprice(run, filled, "--write")

    total = found["total"]
    assert (total["calls"], total["compared_calls"], total["before_usd"]) == (5, 4, 3 * USD)
    assert (total["after_usd"], total["change_usd"], total["inexact_calls"]) == (3 * USD, 0, 0)
    assert (total["unpriced_calls"], found["written_ratings"]) == (1, 0)


def test_custom_rates_show_the_difference_by_model_and_tenant(run: Run, filled: str, tmp_path: Path) -> None:
    """Half the price is half the dollars, and a model that had no price gets one."""
    path = tmp_path / "half.toml"
    path.write_text(HALF)

    found = _reprice(run, filled, "--rates", path)

    groups = {(group["tenant"], group["model"]): group for group in found["groups"]}
    assert groups["acme", "gpt-5.2"]["change_usd"] == -USD
    assert groups["zoo", "gpt-5.2"]["change_usd"] == -USD / 2
    # 1,100 tokens at a dollar a million.
    assert groups["zoo", "own"]["newly_priced_usd"] == Decimal("0.0011")
    assert query(filled, "SELECT count(*) FROM ratings") == [(4,)]


def test_written_ratings_hold_from_then_on(run: Run, filled: str, tmp_path: Path) -> None:
    """``--write`` appends the ratings that differ; reports use them, and the old ones stay."""
    path = tmp_path / "half.toml"
    path.write_text(HALF)

    found = _reprice(run, filled, "--rates", path, "--write")
    again = _reprice(run, filled, "--rates", path, "--write")
    _, out, _ = run("report", "--by", "tenant", "--json", "--ledger", filled, *_PERIOD)

    assert (found["written_ratings"], again["written_ratings"]) == (4, 0)
    report = json.loads(out, parse_float=Decimal)
    costs = {group["tenant"]: group["cost_usd"] for group in report["groups"]}
    assert costs == {"acme": USD, "zoo": USD / 2 + Decimal("0.0011")}
    assert report["total"]["unpriced_calls"] == 0
    assert query(filled, "SELECT count(*) FROM ratings") == [(8,)]
    listed = query(filled, "SELECT sum(list_usd), sum(usd) FROM rated_calls WHERE model = 'gpt-5.2'")
    assert [float(amount) for amount in listed[0]] == pytest.approx([float(3 * USD), float(3 * USD / 2)])


def test_ratings_that_would_not_hold_are_counted_and_named(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """A call of a machine whose clock is fast keeps its rating: ``--write`` says how many it left out."""
    now = datetime.now(UTC)
    with LedgerSink(ledger_url) as sink:
        sink.emit(call(started_at=now - timedelta(minutes=2), duration_seconds=7200.0))
        sink.emit(call(started_at=now - timedelta(minutes=2)))
        sink.flush(60)
    path = tmp_path / "half.toml"
    path.write_text(HALF)
    arguments = ("reprice", "--ledger", ledger_url, "--since", "1d", "--rates", path)

    _, looked, _ = run(*arguments)
    _, written, _ = run(*arguments, "--write")
    _, again, _ = run(*arguments, "--write", "--json")

    assert "left out" not in looked
    assert "1 ratings appended" in written
    assert "1 ratings left out" in written
    found = json.loads(again)
    assert (found["written_ratings"], found["skipped_ratings"]) == (0, 1)


def test_another_model_answers_what_it_would_have_cost(run: Run, filled: str) -> None:
    """``--model`` prices every call at another model's price of its day."""
    found = _reprice(run, filled, "--model", "gemini-3-flash")

    each = PriceBook().price(
        TokenUsage(input_tokens=1000, output_tokens=100), provider="google", model="gemini-3-flash-preview", at=AT
    )
    # All calls are OpenAI's or have no price of their own; the fourth is the model without a price.
    assert found["total"]["after_usd"] == 3 * each.total_usd
    assert found["total"]["newly_priced_usd"] == each.total_usd
    assert found["model"] == "gemini-3-flash-preview"


def test_another_provider_without_the_tier_has_its_standard_price(run: Run, tmp_path: Path) -> None:
    """A tier that the other provider does not sell is no price that is missing there."""
    path = tmp_path / "eco2.db"
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    quote = PriceBook().quote(usage, provider="openai", model="gpt-5.2", context=(("service_tier", "flex"),), at=AT)
    with LedgerSink(path) as sink:
        sink.emit(call(usage=usage, cost=quote.cost, rates=quote.rates, service_tier="flex"))

    found = _reprice(run, str(path), "--model", "anthropic/claude-sonnet-4-5", "--write")

    # 1,000 at 3 and 100 at 15 USD per million.
    total = found["total"]
    assert (total["compared_calls"], total["after_usd"], total["partly_priced_calls"]) == (1, Decimal("0.0045"), 0)
    assert found["written_ratings"] == 1


def test_the_prices_of_another_day(run: Run, filled: str, tmp_path: Path) -> None:
    """``--date`` takes the prices in force on that day for every call."""
    path = tmp_path / "half.toml"
    path.write_text(HALF)

    before = _reprice(run, filled, "--rates", path, "--date", "2026-10-31")

    assert before["total"]["change_usd"] == 0


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("--model", "no-such-model"), 2, "--model is 'no-such-model', wanted a model with a known price"),
        (("--date", "soon"), 2, "--date is 'soon', wanted a day like 2026-11-30"),
        (("--rates", "absent.toml"), 2, "No such file or directory"),
        (("--since", "2020-01-01", "--until", "2020-01-02"), 1, "has no calls from 2020-01-01"),
    ],
    ids=["model", "date", "file", "empty"],
)
def test_bad_input_is_a_clear_error(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """Each mistake ends with its status and what to do."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        sink.emit(call())

    found, _, err = run("reprice", "--ledger", path, *arguments)

    assert (found, message in err) == (status, True), err


def test_what_a_provider_stated_stays_as_it_is(run: Run, tmp_path: Path) -> None:
    """A price list does not change what the provider said it charged; another model does."""
    path = tmp_path / "eco2.db"
    made = call()
    stated = Cost(output_usd=Decimal("0.003"), parts={"unsplit": Decimal("0.003")})
    with LedgerSink(path) as sink:
        sink.emit(call(cost=stated, computed_cost=made.cost, cost_source="provider"))

    same = _reprice(run, str(path))
    other = _reprice(run, str(path), "--model", "openai/gpt-5.2")

    assert (same["total"]["after_usd"], same["total"]["inexact_calls"]) == (Decimal("0.003"), 0)
    assert (other["total"]["after_usd"], other["total"]["inexact_calls"]) == (USD, 1)


def test_the_context_of_a_price_is_kept_with_the_rating(run: Run, tmp_path: Path) -> None:
    """A call in another tier costs the same again: its rating names the tier."""
    path = tmp_path / "eco2.db"
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    quote = PriceBook().quote(usage, provider="openai", model="gpt-5.2", context=(("service_tier", "priority"),), at=AT)
    assert quote.cost.total_usd != USD
    with LedgerSink(path) as sink:
        sink.emit(call(usage=usage, cost=quote.cost, rates=quote.rates))

    found = _reprice(run, str(path))

    assert found["total"]["after_usd"] == quote.cost.total_usd
    assert found["total"]["change_usd"] == 0
