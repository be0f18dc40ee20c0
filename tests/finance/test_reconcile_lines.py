"""Exact books agree: fees on lines of their own, answers from the cache, pages, sellers and credits."""

from __future__ import annotations

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import Cost, TokenUsage
from eco2_callbacks.finance.reconcile.books import Book, ledger_book
from eco2_callbacks.ledger import Period, backend_of
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, BOOK, call
from tests.support.other_books import DAY, PERIOD, USD, costs, fill, reconcile, usage

_DAYS = [{"starting_at": f"2026-11-0{day}T00:00:00Z", "ending_at": f"2026-11-0{day + 1}T00:00:00Z"} for day in (2, 3)]


def _anthropic(*pages: tuple[int, bool, dict[str, Any]]) -> str:
    """Return pages of a report: the number of its day, whether there are more, and its result."""
    return "\n".join(
        json.dumps({"data": [{**_DAYS[day], "results": [result]}], "has_more": more, "next_page": None})
        for day, more, result in pages
    )


def _paid(cents: object, **about: Any) -> dict[str, Any]:
    model = {"model": "claude-sonnet-4-5-20250929", "cost_type": "tokens"}
    return {"amount": str(cents), "currency": "USD", **(model | about)}


def test_a_tool_s_fees_meet_their_own_line(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """What a bill has on a line of its own is taken from the ledger's model, and compared with that line."""
    searched = TokenUsage(input_tokens=1000, output_tokens=100, web_searches=10)
    quotes = {
        provider: BOOK.quote(searched, provider=provider, model=model, at=AT)
        for provider, model in (("anthropic", "claude-sonnet-4-5"), ("openai", "gpt-5.2"))
    }
    anthropic, openai = (quotes[name] for name in ("anthropic", "openai"))
    claude = {"provider": "anthropic", "model": "claude-sonnet-4-5", "cost": anthropic.cost, "rates": anthropic.rates}
    fill(
        ledger_url,
        [call(usage=searched, **claude), call(usage=searched, cost=openai.cost, rates=openai.rates), call()],
    )
    # Ten searches at 10 USD a thousand.
    fee = Decimal("0.1")
    assert anthropic.cost.parts["web_search"] == openai.cost.parts["web_search"] == fee
    (tmp_path / "openai.json").write_text(
        costs(
            (AT, "gpt-5.2-2025-12-11, input", "0.0035"),
            (AT, "gpt-5.2-2025-12-11, output", "0.0028"),
            (AT, "web search tool calls, gpt-5.2", fee),
        )
    )
    tokens_usd = anthropic.cost.total_usd - fee
    (tmp_path / "anthropic.json").write_text(
        _anthropic((0, False, _paid(tokens_usd * 100)), (0, False, _paid(10, model=None, cost_type="web_search")))
    )

    for name in ("openai", "anthropic"):
        book = reconcile(run, ledger_url, f"--{name}", tmp_path / f"{name}.json")
        assert (book["compared"], book["differences"]) == (2, [])
        assert book["capture_rate_usd"] == pytest.approx(1.0)


def test_fees_stay_with_the_model_where_the_bill_has_them_there(run: Run, tmp_path: Path) -> None:
    """A bill without such a line holds the fees in its model's."""
    path = tmp_path / "eco2.db"
    searched = TokenUsage(input_tokens=1000, output_tokens=100, web_searches=10)
    quote = BOOK.quote(searched, provider="openai", model="gpt-5.2", at=AT)
    fill(path, [call(usage=searched, cost=quote.cost, rates=quote.rates)])
    (tmp_path / "costs.json").write_text(costs((AT, "gpt-5.2", "0.10315")))

    assert reconcile(run, path, "--openai", tmp_path / "costs.json")["differences"] == []


def test_answers_from_the_cache_are_counted_as_there(run: Run, tmp_path: Path) -> None:
    """LangSmith has a run with tokens for each of them, and a provider's bill has nothing."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), *(call(from_cache=True, cost=Cost(), rates=None) for _ in range(3))])
    runs = [
        {
            "run_type": "llm",
            "start_time": AT.isoformat(),
            "extra": {"metadata": {"ls_model_name": "gpt-5.2"}},
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "total_cost": total,
        }
        for total in (0.00315, 0, 0, 0)
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(map(json.dumps, runs)))
    (tmp_path / "usage.json").write_text(usage(AT, "gpt-5.2", 1, 1000, 100))

    for option, file, calls in (("--langsmith", "runs.jsonl", 4), ("--openai", "usage.json", 1)):
        book = reconcile(run, path, option, tmp_path / file)
        assert (book["differences"], book["ledger"]["calls"], book["other"]["calls"]) == ([], calls, calls)


def test_a_counter_of_calls_counts_those_from_the_cache(tmp_path: Path) -> None:
    """``llm_calls_total`` counts an answer from the cache, and ``llm_tokens_total`` does not count its tokens."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), *(call(from_cache=True, cost=Cost(), rates=None) for _ in range(3))])
    backend = backend_of(path)

    book = ledger_book(backend, Period.parse(*PERIOD[1::2], "UTC"), Book("prometheus", counts_cached="call"))

    (amounts,) = book.amounts.values()
    assert (amounts.calls, amounts.input_tokens, amounts.output_tokens, amounts.usd) == (4, 1000, 100, USD)
    backend.close()


def test_openai_s_pages_are_read_to_the_last(run: Run, tmp_path: Path) -> None:
    """A page that says that there are more is fine where the next one follows."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), call(started_at=AT + DAY)])
    first = costs((AT, "gpt-5.2", USD)).replace('"has_more": false', '"has_more": true')
    (tmp_path / "costs.json").write_text(f"{first}\n{costs((AT + DAY, 'gpt-5.2', USD))}")

    book = reconcile(run, path, "--openai", tmp_path / "costs.json")

    assert (book["compared"], book["differences"]) == (2, [])


@pytest.mark.parametrize(
    ("option", "text"),
    [
        ("--openai", "\n".join(costs((AT, "gpt-5.2", USD)).replace("false", "true") for _ in range(2))),
        ("--openai", f"{costs((AT, 'gpt-5.2', USD)).replace('false', 'true')}\n{usage(AT, 'gpt-5.2', 1, 1, 1)}"),
        ("--anthropic", _anthropic((0, True, _paid(1)), (1, True, _paid(1)))),
    ],
    ids=["openai, no last one", "openai, the other report follows", "anthropic, no last one"],
)
def test_a_missing_last_page_is_an_error(run: Run, tmp_path: Path, option: str, text: str) -> None:
    """Each report of a file must be there to its last page."""
    path = tmp_path / "eco2.db"
    fill(path, [call()])
    (tmp_path / "pages").write_text(text)

    status, _, err = run("reconcile", "--ledger", path, *PERIOD, option, tmp_path / "pages")

    assert (status, "it is not the last page; export all pages, one JSON a line" in err) == (2, True), err


def test_a_seller_s_bill_holds_that_seller_s_calls(run: Run, tmp_path: Path) -> None:
    """Claude on Bedrock and on Vertex AI is on the bills of AWS and Google, not on Anthropic's."""
    path = tmp_path / "eco2.db"
    model = {"model": "claude-sonnet-4-5"}
    names = ("anthropic", "anthropic-bedrock", "anthropicvertex", "openai-mantle")
    fill(path, [call(provider=name, **model) for name in names])
    (tmp_path / "report.json").write_text(_anthropic((0, False, _paid(USD * 100))))

    book = reconcile(run, path, "--anthropic", tmp_path / "report.json")

    assert (book["differences"], book["ledger"]["usd"]) == ([], USD)


@pytest.mark.parametrize(
    ("credits_", "message"),
    [('[{"name": "promotion", "amount": -0.00315}]', ""), ("promotion", "credits is 'promotion', wanted a list")],
    ids=["json", "text"],
)
def test_credits_in_a_csv_are_taken_off(run: Run, tmp_path: Path, credits_: str, message: str) -> None:
    """BigQuery writes the list of credits as JSON; what cannot be read is an error, for it changes the amount."""
    path, export = tmp_path / "eco2.db", tmp_path / "billing.csv"
    fill(path, [call(provider="google_genai", model="gemini-2.5-flash")])
    with export.open("w", newline="") as file:
        writer = csv.writer(file)
        columns = ("service.description", "sku.description", "usage_start_time", "cost", "currency", "credits")
        writer.writerow(columns)
        sku, at = "Gemini 2.5 Flash input tokens", "2026-11-02 09:00:00 UTC"
        writer.writerow(["Gemini API", sku, at, "0.0063", "USD", credits_])

    if message:
        status, _, err = run("reconcile", "--ledger", path, *PERIOD, "--google", export)
        assert (status, message in err) == (2, True), err
        return
    book = reconcile(run, path, "--google", export)
    assert (book["differences"], book["other"]["usd"]) == ([], USD)
