"""RatesUsed: a cost names the prices that made it, with their version, source and date."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.metadata import version
from pathlib import Path

import pytest
from genai_prices.data_snapshot import DataSnapshot, get_snapshot, set_custom_snapshot

from eco2_callbacks import PriceBook, RatesUsed, TokenUsage

AT = datetime(2026, 11, 1, tzinfo=UTC)
VERSION = version("genai-prices")


def rates(book: PriceBook, usage: TokenUsage, model: str = "gpt-4.1-mini", provider: str = "openai") -> RatesUsed:
    used = book.quote(usage, provider=provider, model=model, at=AT).rates
    assert used is not None
    return used


def custom(tmp_path: Path, text: str) -> PriceBook:
    path = tmp_path / "rates.toml"
    path.write_text(f'[[rates]]\nprovider = "openai"\nmodel = "gpt-4.1-mini"\nstart = 2026-01-01\n{text}\n')
    return PriceBook.from_toml(path)


def test_public_prices_are_named() -> None:
    """Only the prices that billed something are listed, in USD a million tokens."""
    used = rates(PriceBook(), TokenUsage(input_tokens=100, cache_read_tokens=40, output_tokens=10))

    # gpt-4.1-mini: $0.40 in, $0.10 cached, $1.60 out.
    usd = {"cache_read_mtok": Decimal("0.1"), "input_mtok": Decimal("0.4"), "output_mtok": Decimal("1.6")}
    assert used == RatesUsed(version=VERSION, source="genai-prices", usd=usd, model="gpt-4.1-mini")


def test_built_in_fees_name_their_page_and_its_date() -> None:
    """A code interpreter session names the fee's page and the day on which it was checked."""
    used = rates(PriceBook(), TokenUsage(input_tokens=100, code_interpreter_sessions=1))

    assert used.usd["code_interpreter_each"] == Decimal("0.03")
    assert used.source.startswith("genai-prices; built-in fees: https://")
    assert used.checked_on == date(2026, 3, 31)


def test_a_custom_rate_names_its_contract(tmp_path: Path) -> None:
    """A custom price stands beside the public ones that it leaves, each with its source."""
    book = custom(tmp_path, 'source = "contract 12, checked 2026-10-05"\ninput_mtok = "0.20"')

    used = rates(book, TokenUsage(input_tokens=100, output_tokens=10))

    assert used.version == f"{VERSION}+1"
    assert used.source == "contract 12, checked 2026-10-05; genai-prices"
    assert used.checked_on == date(2026, 10, 5)
    assert used.usd == {"input_mtok": Decimal("0.20"), "output_mtok": Decimal("1.6")}


def test_a_factor_is_in_the_price_and_in_the_source(tmp_path: Path) -> None:
    """A discount on all tokens changes the prices as applied, and its contract is named."""
    book = custom(tmp_path, 'source = "discount"\ntoken_factor = "0.5"')

    used = rates(book, TokenUsage(input_tokens=100))

    assert (used.usd, used.source) == ({"input_mtok": Decimal("0.20")}, "genai-prices; discount")


@pytest.mark.parametrize(("prompt", "usd"), [(200_000, "1.25"), (200_001, "2.5")], ids=["short", "long"])
def test_a_long_prompt_names_the_price_of_its_tier(prompt: int, usd: str) -> None:
    """Gemini 2.5 Pro: $1.25 up to 200,000 input tokens, $2.50 beyond."""
    used = rates(PriceBook(), TokenUsage(input_tokens=prompt), "gemini-2.5-pro", "google")

    assert used.usd == {"input_mtok": Decimal(usd)}


def test_the_prices_make_the_cost() -> None:
    """Counts times the named prices give the cost to the last digit."""
    usage = TokenUsage(input_tokens=1234, output_tokens=77)

    quote = PriceBook().quote(usage, provider="openai", model="gpt-4.1-mini", at=AT)

    assert quote.rates is not None
    usd = quote.rates.usd
    assert quote.cost.total_usd == (1234 * usd["input_mtok"] + 77 * usd["output_mtok"]) / 1_000_000


def test_fetched_price_data_names_its_day() -> None:
    """Where the application keeps genai-prices fresh, the version names the day of the data."""
    book = PriceBook()
    snapshot = DataSnapshot(providers=get_snapshot().providers, from_auto_update=True)
    snapshot.timestamp = datetime(2026, 11, 20) + timedelta(hours=5)  # noqa: DTZ001 - as genai-prices writes it
    set_custom_snapshot(snapshot)
    try:
        used = rates(book, TokenUsage(input_tokens=1))
    finally:
        set_custom_snapshot(None)

    assert used.version == f"{VERSION}@2026-11-20"
    assert book.version == f"{VERSION}@2026-11-20"
    assert rates(book, TokenUsage(input_tokens=1)).version == VERSION
