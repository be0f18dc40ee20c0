"""Margins on what a provider states as its charge: a price is not needed for them, and a discount changes nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LLMCall, PriceBook
from eco2_callbacks.testing import FakeChatModel
from tests.cli.conftest import Run
from tests.support.ledger_records import query
from tests.support.record_sink import Records

_STATED = Decimal("0.5")
_MODELS = pytest.mark.parametrize(
    "model", ["openai/gpt-5.2", "nobody/unknown-model-x"], ids=["with a price", "without a price"]
)


def _margin(folder: Path, percent: int, *, about: str = "") -> Path:
    path = folder / f"margin-{percent}.toml"
    path.write_text(f'[[margins]]\nstart = 2026-01-01\npercent = {percent}\nsource = "price list"\n{about}')
    return path


def _play(url: str, model: str, prices: PriceBook) -> LLMCall:
    """Return the record of a call that OpenRouter says it charged half a dollar for."""
    counts = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100, "cost": float(_STATED)}
    answer = AIMessage(
        "fine",
        usage_metadata={"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
        response_metadata={"token_usage": counts},
    )
    sink = Records()
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=url, prices=prices, sinks=[sink]) as handler:
        fake = FakeChatModel(model=model, provider="openrouter", answers=[answer], usage=None)
        fake.invoke("Where does a bottle go?", {"callbacks": handler.callbacks, "metadata": {"tenant_id": "acme"}})
        assert handler.flush(60)
    (made,) = sink.of(LLMCall)
    assert isinstance(made, LLMCall)
    assert (made.cost_source, made.cost and made.cost.total_usd) == ("provider", _STATED)
    return made


def _billed(url: str) -> list[tuple[Decimal, Decimal]]:
    """Return contracted and billed dollars of each call."""
    rows = query(url, "SELECT usd, billed_usd FROM rated_calls")
    return [(round(Decimal(str(usd)), 9), round(Decimal(str(billed)), 9)) for usd, billed in rows]


def _reprice(run: Run, url: str, *arguments: object) -> dict[str, Any]:
    status, out, err = run("reprice", "--json", "--ledger", url, "--since", "2d", *arguments)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out, parse_float=Decimal)
    return found


@_MODELS
def test_a_stated_cost_has_its_margin(run: Run, ledger_url: str, tmp_path: Path, model: str) -> None:
    """A margin without provider, model and tenant holds for any call; a new one holds when it is written."""
    made = _play(ledger_url, model, PriceBook.from_toml(_margin(tmp_path, 20)))
    before = _billed(ledger_url)

    found = _reprice(run, ledger_url, "--rates", _margin(tmp_path, 50), "--write")
    again = _reprice(run, ledger_url, "--rates", _margin(tmp_path, 50), "--write")

    assert made.margin_usd == Decimal("0.1")
    assert before == [(_STATED, Decimal("0.6"))]
    assert _billed(ledger_url) == [(_STATED, Decimal("0.75"))]
    assert (found["total"]["change_usd"], found["total"]["unpriced_calls"]) == (0, 0)
    assert (found["written_ratings"], again["written_ratings"]) == (1, 0)


@_MODELS
def test_a_discount_does_not_change_a_stated_cost(run: Run, ledger_url: str, tmp_path: Path, model: str) -> None:
    """What a provider states as its charge gets no discount, neither at once nor later."""
    discount = tmp_path / "discount.toml"
    discount.write_text('[[discounts]]\nstart = 2026-01-01\npercent = 10\nsource = "contract"\n')
    _play(ledger_url, model, PriceBook.from_toml(discount))

    found = _reprice(run, ledger_url, "--rates", discount, "--write")

    assert (found["total"]["compared_calls"], found["total"]["change_usd"]) == (1, 0)
    assert _billed(ledger_url) == [(_STATED, _STATED)]


def test_a_stated_cost_comes_back_after_another_model(run: Run, ledger_url: str) -> None:
    """``eco2 reprice --write`` takes back what ``--model`` had written."""
    _play(ledger_url, "openai/gpt-5.2", PriceBook())

    other = _reprice(run, ledger_url, "--model", "openai/gpt-5.2", "--write")
    back = _reprice(run, ledger_url, "--write")

    assert (other["written_ratings"], back["written_ratings"]) == (1, 1)
    assert _billed(ledger_url) == [(_STATED, _STATED)]


@pytest.mark.parametrize(
    ("about", "expected"),
    [
        ('provider = "openrouter"\n', "0.1"),
        ('model = "nobody/*"\n', "0.1"),
        ('tenant = "acme"\n', "0.1"),
        ('provider = "openai"\n', "0"),
        ('model = "gpt-5*"\n', "0"),
        ('tenant = "zoo"\n', "0"),
    ],
    ids=["provider", "model", "tenant", "another provider", "another model", "another tenant"],
)
def test_a_margin_names_whose_calls_it_is_for(tmp_path: Path, about: str, expected: str) -> None:
    """Without a price too a margin holds for its provider, model and tenant alone."""
    made = _play(
        str(tmp_path / "ledger.db"), "nobody/unknown-model-x", PriceBook.from_toml(_margin(tmp_path, 20, about=about))
    )

    assert made.margin_usd == Decimal(expected)
