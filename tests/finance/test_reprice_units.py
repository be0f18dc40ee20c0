"""``eco2 reprice`` where a unit has no price: nothing is taken for whole that leaves out a fee."""

from __future__ import annotations

import json
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import LedgerSink, PriceBook, TokenUsage
from eco2_callbacks.finance import OtherPrices
from eco2_callbacks.finance import reprice as price_again
from eco2_callbacks.ledger import Period, backend_of
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")
_SEARCHED = TokenUsage(input_tokens=1000, output_tokens=100, web_searches=10)
_TOKENS = """
[[rates]]
provider = "openai"
model = "nova"
start = 2026-01-01
source = "contract"
input_mtok = 1
output_mtok = 2
"""
# 1,000 at a dollar and 100 at two a million; ten searches at ten dollars a thousand.
_PART, _WHOLE = Decimal("0.0012"), Decimal("0.1012")


def _rates(folder: Path, *, fee: bool) -> Path:
    path = folder / f"rates-{fee}.toml"
    path.write_text(_TOKENS + ("web_searches_kcount = 10\n" if fee else ""))
    return path


def _emit(url: str, **about: Any) -> None:
    with LedgerSink(url) as sink:
        sink.emit(call(usage=_SEARCHED, tenant_id="acme", **about))
        sink.flush(60)


def _json(run: Run, *arguments: object) -> dict[str, Any]:
    status, out, err = run(*arguments, "--json")
    assert status == 0, err
    found: dict[str, Any] = json.loads(out, parse_float=Decimal)
    return found


def _reported(run: Run, url: str) -> tuple[Decimal, int]:
    total = _json(run, "report", "--ledger", url, *_PERIOD)["total"]
    return total["cost_usd"], total["unpriced_calls"]


def test_a_model_without_the_fee_is_left_out(run: Run, ledger_url: str) -> None:
    """Ten searches of gpt-5.2 cost nothing with a model that sells none: that is no saving, and is not written."""
    _emit(ledger_url)
    before = _reported(run, ledger_url)

    found = _json(run, "reprice", "--ledger", ledger_url, *_PERIOD, "--model", "deepseek/deepseek-chat", "--write")

    total = found["total"]
    assert (total["compared_calls"], total["unpriced_calls"], found["written_ratings"]) == (0, 1, 0)
    # 0.00315 for the tokens and 0.1 for the searches.
    assert total["unpriced_usd"] == Decimal("0.10315")
    assert _reported(run, ledger_url) == before == (Decimal("0.10315"), 0)


def test_a_first_price_without_the_fee_is_marked_until_the_fee_has_one(
    run: Run, ledger_url: str, tmp_path: Path
) -> None:
    """Custom rates price the tokens of an unknown model, later its searches; the mark goes with the last of them."""
    unpriced = {"cost": None, "rates": None, "unpriced_reason": "unknown_model"}
    _emit(ledger_url, model="nova", request_model="nova", **unpriced)
    arguments = ("reprice", "--ledger", ledger_url, *_PERIOD, "--write", "--rates")

    first = _json(run, *arguments, _rates(tmp_path, fee=False))
    partly = _reported(run, ledger_url)
    second = _json(run, *arguments, _rates(tmp_path, fee=True))
    wholly = _reported(run, ledger_url)
    again = _json(run, *arguments, _rates(tmp_path, fee=False))

    assert (first["total"]["newly_priced_calls"], first["total"]["partly_priced_calls"]) == (1, 1)
    assert partly == (_PART, 1)
    assert (second["total"]["compared_calls"], second["total"]["partly_priced_calls"]) == (1, 0)
    assert wholly == (_WHOLE, 0)
    # What has its fee keeps it.
    assert (again["total"]["unpriced_calls"], again["written_ratings"]) == (1, 0)
    assert _reported(run, ledger_url) == (_WHOLE, 0)


def test_a_call_that_its_handler_priced_in_part_loses_its_mark(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """The fee's price is added: the call is whole."""
    book = PriceBook.from_toml(_rates(tmp_path, fee=False))
    quote = book.quote(_SEARCHED, provider="openai", model="nova", at=AT)
    assert (quote.cost.total_usd, quote.unpriced) == (_PART, ("web_searches",))
    own = {"cost": quote.cost, "rates": quote.rates, "unpriced_reason": "unpriced_unit"}
    _emit(ledger_url, model="nova", request_model="nova", **own)
    assert _reported(run, ledger_url) == (_PART, 1)

    _json(run, "reprice", "--ledger", ledger_url, *_PERIOD, "--write", "--rates", _rates(tmp_path, fee=True))

    assert _reported(run, ledger_url) == (_WHOLE, 0)


@pytest.mark.parametrize("fee", [False, True], ids=["without the fee", "with the fee"])
def test_a_file_says_what_its_ratings_leave_out(run: Run, ledger_url: str, tmp_path: Path, fee: bool) -> None:
    """FOCUS counts calls whose rating of the month is not whole."""
    unpriced = {"cost": None, "rates": None, "unpriced_reason": "unknown_model"}
    _emit(ledger_url, model="nova", request_model="nova", **unpriced)
    backend = backend_of(ledger_url)
    prices = OtherPrices(PriceBook.from_toml(_rates(tmp_path, fee=fee)))
    period = Period(AT - timedelta(days=1), AT + timedelta(days=1), "UTC")
    price_again(backend, period, prices, writes=True, now=AT + timedelta(days=3))
    backend.close()

    status, _, err = run("focus", "--ledger", ledger_url, "--month", "2026-11")

    assert status == 0, err
    assert ("1 calls have no price" in " ".join(err.split())) is not fee, err
