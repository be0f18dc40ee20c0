"""``eco2 reprice`` looks a price up as the handler did: by the same name, and for as many samplings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, LedgerSink, LLMCall, PriceBook, TokenUsage
from eco2_callbacks.testing import FakeChatModel
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call, query
from tests.support.record_sink import Records

_SEARCHES = 4
_SONNET = "claude-sonnet-4-5-20250929"
_PROFILE = "anthropic.claude-haiku-4-5-20251001-v1:0"
_USAGE = {"input_tokens": 300_000, "output_tokens": 1000, "total_tokens": 301_000}
_LOOP = [
    *({"type": "server_tool_use", "id": f"s{n}", "name": "web_search", "input": {}} for n in range(_SEARCHES)),
    *({"type": "web_search_tool_result", "tool_use_id": f"s{n}", "content": []} for n in range(_SEARCHES)),
    {"type": "text", "text": "done"},
]
_REPORTED = {**_USAGE, "server_tool_use": {"web_search_requests": _SEARCHES}}
_DISCOUNT = '[[discounts]]\nstart = 2026-01-01\npercent = 10\nsource = "contract"\n'


def _answer(model: str, content: Any = "fine", usage: Mapping[str, Any] = _USAGE) -> AIMessage:
    return AIMessage(content, usage_metadata=_USAGE, response_metadata={"model_name": model, "usage": usage})


def _advised(main: tuple[int, int] = (2000, 200), advisor: Mapping[str, int] | None = None) -> AIMessage:
    """Return an answer with a sampling of another model beside Sonnet's: by default 1,000 and 100 tokens of Opus."""
    counts = {"input_tokens": main[0], "output_tokens": main[1]}
    advice = advisor or {"input_tokens": 1000, "output_tokens": 100}
    iterations = [
        {"type": "message", **counts},
        {"type": "advisor_message", "model": "claude-opus-4-5-20251101", **advice},
    ]
    metadata = {"model_name": _SONNET, "usage": {**counts, "iterations": iterations}}
    return AIMessage("fine", usage_metadata={**counts, "total_tokens": sum(main)}, response_metadata=metadata)


def _play(url: str, provider: str, requested: str, answer: AIMessage) -> LLMCall:
    """Return the record of a call that a handler with a ledger priced."""
    sink = Records()
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=url, sinks=[sink]) as handler:
        model = FakeChatModel(model=requested, provider=provider, answers=[answer], usage=None)
        model.invoke("Where does a bottle go?", {"callbacks": handler.callbacks})
        assert handler.flush(60)
    (made,) = sink.of(LLMCall)
    assert isinstance(made, LLMCall)
    assert made.cost is not None, made
    return made


def _reprice(run: Run, url: str, *arguments: object) -> dict[str, Any]:
    status, out, err = run("reprice", "--json", "--ledger", url, "--since", "3650d", *arguments)
    assert status == 0, err
    found: dict[str, Any] = json.loads(out, parse_float=Decimal)
    return found


@pytest.mark.parametrize(
    ("provider", "requested", "answer"),
    [
        ("anthropic", "claude-sonnet-4-5", _answer(_SONNET, _LOOP, _REPORTED)),
        ("anthropic", "claude-sonnet-4-5", _advised()),
        ("anthropic-bedrock", f"us.{_PROFILE}", _answer("claude-haiku-4-5-20251001")),
        ("anthropic-bedrock", f"global.{_PROFILE}", _answer("claude-haiku-4-5-20251001")),
        ("azure", "gpt-5.2", _answer("prod-eu-1")),
        ("openai", "gpt-5.2", _answer("team-a/fast")),
        ("google_genai", "gemini-2.5-pro", _answer("internal-alias")),
    ],
    ids=["several prompts", "an advisor", "regional", "global", "deployment", "gateway", "alias"],
)
def test_the_handlers_own_prices_change_nothing(
    run: Run, ledger_url: str, tmp_path: Path, provider: str, requested: str, answer: AIMessage
) -> None:
    """Whatever name and tier the handler found, the same call costs the same again; a discount reaches it."""
    made = _play(ledger_url, provider, requested, answer)
    assert made.cost is not None
    discount = tmp_path / "discount.toml"
    discount.write_text(_DISCOUNT)

    same = _reprice(run, ledger_url, "--write")
    reduced = _reprice(run, ledger_url, "--rates", discount)

    total = same["total"]
    assert (total["compared_calls"], total["unpriced_calls"], total["inexact_calls"]) == (1, 0, 0)
    assert (total["before_usd"], total["change_usd"]) == (made.cost.total_usd, 0)
    assert same["written_ratings"] == 0
    if made.rates is not None and not made.rates.other_models:
        assert reduced["total"]["after_usd"] == made.cost.total_usd * Decimal("0.9")


@pytest.mark.parametrize(
    ("main", "advisor", "usd"),
    [
        # 2,000 x 3 + 200 x 15 + 1,000 x 5 + 20,000 x 0.5 + 100 x 25 a million
        ((2000, 200), {"input_tokens": 1000, "output_tokens": 100, "cache_read_input_tokens": 20_000}, "0.0265"),
        # 150,000 x 3 + 200 x 15 + 100,000 x 5 + 100 x 25 a million: together longer than 200,000
        ((150_000, 200), {"input_tokens": 100_000, "output_tokens": 100}, "0.9555"),
        # 250,000 x 6 + 200 x 22.5 + 1,000 x 5 + 100 x 25 a million: long by itself
        ((250_000, 200), {"input_tokens": 1000, "output_tokens": 100}, "1.512"),
    ],
    ids=["other_units", "long_together", "long_alone"],
)
def test_a_call_of_several_models_changes_with_a_price_alone(
    run: Run, ledger_url: str, tmp_path: Path, main: tuple[int, int], advisor: Mapping[str, int], usd: str
) -> None:
    """Units that the advisor alone bills, and a sum that is a long prompt, are no other price; a discount is one."""
    made = _play(ledger_url, "anthropic", "claude-sonnet-4-5", _advised(main, advisor))
    assert made.cost is not None
    assert made.cost.total_usd == Decimal(usd)
    discount = tmp_path / "discount.toml"
    discount.write_text(_DISCOUNT)

    same = _reprice(run, ledger_url, "--write")
    reduced = _reprice(run, ledger_url, "--write", "--rates", discount)

    assert (same["total"]["change_usd"], same["written_ratings"]) == (0, 0)
    assert (reduced["total"]["inexact_calls"], reduced["written_ratings"]) == (1, 1)


def test_what_another_model_would_cost_is_taken_back(run: Run, ledger_url: str) -> None:
    """After ``--model`` the call's own name and samplings count again, not those of the other model."""
    made = _play(ledger_url, "anthropic", "claude-sonnet-4-5", _answer(_SONNET, _LOOP, _REPORTED))
    assert made.cost is not None

    other = _reprice(run, ledger_url, "--model", "openai/gpt-5.2", "--write")
    back = _reprice(run, ledger_url, "--write")

    assert other["total"]["after_usd"] != made.cost.total_usd
    assert (back["total"]["after_usd"], back["written_ratings"]) == (made.cost.total_usd, 1)


def _older(sampled: int, *, model: str = "claude-sonnet-4-5", **about: Any) -> LLMCall:
    """Return a call of 300,000 tokens whose rating lacks what an older version did not keep."""
    usage = TokenUsage(input_tokens=300_000, output_tokens=1000, web_searches=sampled - 1)
    quote = PriceBook().quote(usage, provider="anthropic", model=model, at=AT, samplings=sampled)
    assert quote.rates is not None
    rates = replace(quote.rates, model="", samplings=1)
    named = {"provider": "anthropic", "model": model, "request_model": model}
    return call(usage=usage, cost=quote.cost, rates=rates, **{**named, **about})


@pytest.mark.parametrize("sampled", [1, 5], ids=["one long prompt", "several short ones"])
def test_an_older_rating_tells_a_long_prompt_from_several(
    run: Run, ledger_url: str, tmp_path: Path, sampled: int
) -> None:
    """Its prices are those of one of the two: nothing changes, and a discount is taken from these."""
    made = _older(sampled)
    with LedgerSink(ledger_url) as sink:
        sink.emit(made)
        sink.flush(60)
    discount = tmp_path / "discount.toml"
    discount.write_text(_DISCOUNT)

    same = _reprice(run, ledger_url, "--write")
    reduced = _reprice(run, ledger_url, "--rates", discount)

    assert made.cost is not None
    assert (same["total"]["after_usd"], same["written_ratings"]) == (made.cost.total_usd, 0)
    assert reduced["total"]["after_usd"] == made.cost.total_usd * Decimal("0.9")


def test_an_older_rating_of_unknown_tier_is_left_out(run: Run, ledger_url: str) -> None:
    """At prices that are neither those of a long prompt nor of several short ones nothing is written."""
    made = _older(5)
    assert made.rates is not None
    with LedgerSink(ledger_url) as sink:
        sink.emit(replace(made, rates=replace(made.rates, usd={**made.rates.usd, "input_mtok": Decimal("2.5")})))
        sink.flush(60)

    found = _reprice(run, ledger_url, "--write")

    assert (found["total"]["unpriced_calls"], found["written_ratings"]) == (1, 0)


def test_an_older_rating_is_looked_up_by_the_requested_name(run: Run, ledger_url: str) -> None:
    """On Bedrock the requested profile has the price, elsewhere it does where the answer names an alias."""
    usage = TokenUsage(input_tokens=1000, output_tokens=100)
    calls = []
    for provider, requested, model in (
        ("anthropic-bedrock", f"global.{_PROFILE}", "claude-haiku-4-5-20251001"),
        ("azure", "gpt-5.2", "prod-eu-1"),
    ):
        quote = PriceBook().quote(usage, provider=provider, model=requested, at=AT)
        assert quote.rates is not None
        about = {"provider": provider, "model": model, "request_model": requested}
        calls.append(call(usage=usage, cost=quote.cost, rates=replace(quote.rates, model=""), **about))
    with LedgerSink(ledger_url) as sink:
        for each in calls:
            sink.emit(each)
        sink.flush(60)

    found = _reprice(run, ledger_url, "--write")

    expected = Cost.sum(each.cost for each in calls if each.cost is not None).total_usd
    assert (found["total"]["after_usd"], found["total"]["change_usd"]) == (expected, 0)
    assert (found["total"]["unpriced_calls"], found["written_ratings"]) == (0, 0)


def test_a_rate_for_the_name_that_reports_show_holds(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """A deployment was priced as the model that was requested; a contract can name the deployment."""
    _play(ledger_url, "azure", "gpt-5.2", _answer("prod-eu-1"))
    rates = tmp_path / "rates.toml"
    rates.write_text(
        '[[rates]]\nprovider = "azure"\nmodel = "prod-eu-1"\nstart = 2026-01-01\nsource = "contract"\n'
        "input_mtok = 1\noutput_mtok = 1\n"
    )

    found = _reprice(run, ledger_url, "--rates", rates)

    # 301,000 tokens at a dollar a million.
    assert found["total"]["after_usd"] == Decimal("0.301")


def test_a_model_named_with_a_nul_is_stored(ledger_url: str) -> None:
    """No backend refuses the rating of an answer whose name of the model has a character that is no text."""
    made = call()
    assert made.rates is not None
    with LedgerSink(ledger_url) as sink:
        sink.emit(replace(made, rates=replace(made.rates, model="gpt-5.2\x00", other_models=("a\x00",))))
        sink.flush(60)

    assert query(ledger_url, "SELECT count(*) FROM ratings") == [(1,)]
