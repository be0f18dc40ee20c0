"""Custom rates: the application's own prices, by key, date, tier and context length."""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import genai_prices
import pytest
from genai_prices.types import Tier, TieredPrices

from eco2_callbacks import Cost, PriceBook, Rate, TokenUsage, UnknownModelError
from tests.support.prices import AT, MTOK, custom_rate, usd


def test_a_custom_rate_wins_key_by_key() -> None:
    """A custom rate replaces the public price of its key and leaves the others."""
    book = PriceBook([custom_rate({"input_mtok": Decimal(1)})])
    usage = TokenUsage(input_tokens=MTOK, output_tokens=MTOK)

    # $1 custom input + $14 public output
    assert usd(usage, "openai", "gpt-5.2", book=book) == Decimal(15)


def test_a_custom_rate_applies_to_the_dated_name() -> None:
    """A rate for gpt-5.2 applies to gpt-5.2-2025-12-11 and to no other model."""
    book = PriceBook([custom_rate({"input_mtok": Decimal(1)})])
    usage = TokenUsage(input_tokens=MTOK)

    assert usd(usage, "openai", "gpt-5.2-2025-12-11", book=book) == Decimal(1)
    assert usd(usage, "openai", "gpt-5-mini", book=book) == usd(usage, "openai", "gpt-5-mini") != Decimal(1)


def test_a_custom_rate_is_found_by_either_name_of_the_provider() -> None:
    """A rate for LangChain's google_genai or for genai-prices' google applies to both."""
    usage = TokenUsage(input_tokens=MTOK)

    for name in ("google", "google_genai", "*"):
        book = PriceBook([custom_rate({"input_mtok": Decimal(7)}, provider=name, model="gemini-2.5-flash")])
        assert usd(usage, "google_genai", "gemini-2.5-flash", book=book) == Decimal(7)


@pytest.mark.parametrize(
    ("day", "expected"),
    [(date(2026, 2, 28), "1.75"), (date(2026, 3, 1), "1"), (date(2026, 5, 31), "1"), (date(2026, 6, 1), "0.5")],
    ids=["before_any", "first_day", "last_day_of_first", "first_day_of_second"],
)
def test_the_latest_rate_that_has_started_applies(day: date, expected: str) -> None:
    """Of two rates the later one applies from its start, in any order; before both the public price does."""
    book = PriceBook(
        [
            custom_rate({"input_mtok": Decimal("0.5")}, start=date(2026, 6, 1)),
            custom_rate({"input_mtok": Decimal(1)}, start=date(2026, 3, 1)),
        ]
    )

    at = datetime.combine(day, time(), UTC)

    assert usd(TokenUsage(input_tokens=MTOK), "openai", "gpt-5.2", book=book, at=at) == Decimal(expected)


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("", "1"), ("default", "1"), ("flex", "0.4"), ("priority", "3.5")],
    ids=["none", "default", "custom_flex", "public_priority"],
)
def test_a_custom_rate_applies_to_its_tier_only(tier: str, expected: str) -> None:
    """A custom rate applies to the standard tier, or to its service_tier; other tiers stay public."""
    book = PriceBook(
        [custom_rate({"input_mtok": Decimal("0.4")}, service_tier="flex"), custom_rate({"input_mtok": Decimal(1)})]
    )

    assert usd(TokenUsage(input_tokens=MTOK), "openai", "gpt-5.2", book=book, tier=tier) == Decimal(expected)


def test_a_custom_model_costs_its_rate_in_every_tier() -> None:
    """Without a public price a custom rate without a tier applies to every tier."""
    book = PriceBook([custom_rate({"input_mtok": Decimal(1)}, provider="vllm", model="llama-*")])

    assert usd(TokenUsage(input_tokens=MTOK), "vllm", "llama-4", book=book, tier="flex") == Decimal(1)


@pytest.mark.parametrize(
    ("input_tokens", "expected"),
    [(99_999, "0.099999"), (100_000, "0.1"), (100_001, "0.200002"), (300_001, "0.900003")],
    ids=["one_below", "at", "one_above", "second_tier"],
)
def test_a_custom_rate_may_rise_with_the_context(input_tokens: int, expected: str) -> None:
    """A tiered custom rate bills every token at the highest tier that the input exceeds."""
    tiered = TieredPrices(
        base=Decimal(1), tiers=[Tier(start=100_000, price=Decimal(2)), Tier(start=300_000, price=Decimal(3))]
    )
    book = PriceBook([custom_rate({"input_mtok": tiered})])

    assert usd(TokenUsage(input_tokens=input_tokens), "openai", "gpt-5.2", book=book) == Decimal(expected)


def test_an_image_may_have_a_price_per_image() -> None:
    """A custom rate per image bills each image, as part of the output."""
    book = PriceBook([custom_rate({"image_each": Decimal("0.04")})])

    cost = book.price(TokenUsage(images=3), provider="openai", model="gpt-5.2", at=AT)

    assert cost == Cost(output_usd=Decimal("0.12"), parts={"image": Decimal("0.12")})


def test_a_custom_fee_wins_over_the_built_in_fee() -> None:
    """A negotiated container fee replaces the published one."""
    book = PriceBook([custom_rate({"code_interpreter_each": Decimal("0.01")})])

    assert usd(TokenUsage(code_interpreter_sessions=1), "openai", "gpt-5.2", book=book) == Decimal("0.01")


def test_rates_come_from_a_file(tmp_path: Path) -> None:
    """A book made from a file prices with its rates and counts them in its version."""
    path = tmp_path / "rates.toml"
    path.write_text(
        '[[rates]]\nprovider = "openai"\nmodel = "gpt-x"\nstart = 2026-01-01\nsource = "contract 7"\ninput_mtok = 2\n'
    )

    book = PriceBook.from_toml(path)

    assert usd(TokenUsage(input_tokens=MTOK), "openai", "gpt-x", book=book) == Decimal(2)
    assert book.version == f"{genai_prices.__version__}+1"
    assert PriceBook().version == genai_prices.__version__


def test_a_custom_model_is_unknown_before_its_rate_starts() -> None:
    """A model that only a custom rate prices has no price on the day before its start."""
    book = PriceBook([custom_rate({"input_mtok": Decimal(1)}, model="gpt-x")])
    usage = TokenUsage(input_tokens=MTOK)

    assert usd(usage, "openai", "gpt-x", book=book, at=datetime(2026, 1, 1, tzinfo=UTC)) == Decimal(1)
    with pytest.raises(UnknownModelError) as raised:
        usd(usage, "openai", "gpt-x", book=book, at=datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
    assert str(raised.value) == (
        "No price for model 'gpt-x' of provider 'openai' on 2025-12-31; "
        "add it to the file named by ECO2_PRICES or pass prices=."
    )


def test_a_book_stays_correct_past_its_cache() -> None:
    """A book still prices correctly after more models and days than its cache holds."""
    book = PriceBook([custom_rate({"input_mtok": Decimal(1)}, provider="vllm", model="*")])
    usage = TokenUsage(input_tokens=MTOK)

    totals = {usd(usage, "vllm", f"m{number}", book=book) for number in range(2100)}
    totals |= {usd(usage, "vllm", "m0", book=book, at=AT + timedelta(days=number)) for number in range(2100)}

    assert totals == {Decimal(1)}
    assert usd(usage, "openai", "gpt-5.2", book=book) == Decimal("1.75")


def test_a_custom_standard_rate_applies_to_a_tier_without_public_prices() -> None:
    """A tier without public prices is billed at the custom rate; a tier with public prices is not."""
    rate = Rate("openai", "gpt-5.2", date(2026, 1, 1), "contract", {"input_mtok": Decimal(1)})
    book = PriceBook([rate])
    usage = TokenUsage(input_tokens=1_000_000)
    day = datetime(2026, 11, 1, tzinfo=UTC)

    totals = {
        tier: book.price(usage, provider="openai", model="gpt-5.2", service_tier=tier, at=day).total_usd
        for tier in (None, "default", "scale", "flex")
    }

    # gpt-5.2 flex: 0.875 USD a million
    assert totals == {None: 1, "default": 1, "scale": 1, "flex": Decimal("0.875")}


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        ({}, "27"),
        ({"speed": "standard"}, "27"),
        ({"processing": "batch"}, "15"),
        ({"speed": "fast"}, "60"),
        ({"speed": "fast", "inference_geo": "us"}, "66"),
    ],
    ids=["plain", "standard_speed", "batch", "fast", "fast_in_the_us"],
)
def test_a_custom_standard_rate_leaves_batches_and_fast_mode_public(context: dict[str, str], expected: str) -> None:
    """A custom rate without processing and speed does not price a batch or fast mode that has public prices."""
    book = PriceBook([_opus_rate("4.5", "22.5")])

    assert _opus_usd(book, context) == Decimal(expected)


def test_a_custom_rate_for_batches_or_fast_mode_prices_these_alone() -> None:
    """A custom rate that names the batch or fast mode holds there; the plain call keeps the standard custom rate."""
    book = PriceBook(
        [_opus_rate("4.5", "22.5"), _opus_rate("2", "10", processing="batch"), _opus_rate("9", "45", speed="fast")]
    )

    contexts: list[dict[str, str]] = [{}, {"processing": "batch"}, {"speed": "fast"}]
    assert [_opus_usd(book, context) for context in contexts] == [Decimal(27), Decimal(12), Decimal(54)]


def _opus_rate(input_usd: str, output_usd: str, **context: str) -> Rate:
    prices = {"input_mtok": Decimal(input_usd), "output_mtok": Decimal(output_usd)}
    return custom_rate(prices, provider="anthropic", model="claude-opus-4-8", context=context)


def _opus_usd(book: PriceBook, context: dict[str, str]) -> Decimal:
    usage = TokenUsage(input_tokens=MTOK, output_tokens=MTOK)
    at = datetime(2026, 11, 30, tzinfo=UTC)
    return book.price(usage, provider="anthropic", model="claude-opus-4-8", context=context, at=at).total_usd


def test_a_custom_rate_for_the_tier_default_is_the_standard_rate() -> None:
    """``default`` is the provider's name for the standard tier."""
    rate = Rate("openai", "gpt-5.2", date(2026, 1, 1), "contract", {"input_mtok": Decimal(1)}, service_tier="default")

    cost = PriceBook([rate]).price(TokenUsage(input_tokens=1_000_000), provider="openai", model="gpt-5.2")

    assert cost.total_usd == 1


def test_a_price_per_image_replaces_the_price_of_its_tokens() -> None:
    """A custom price per image replaces the public price of the image's tokens."""
    rate = Rate("google", "gemini-3-pro-image*", date(2026, 1, 1), "contract", {"image_each": Decimal("0.10")})
    usage = TokenUsage(output_tokens=1120 + 10, output_image_tokens=1120, images=1, image_sizes=("1K",))

    cost = PriceBook([rate]).price(usage, provider="google_genai", model="gemini-3-pro-image-preview")

    # 0.10 for the image and 10 text tokens x 12 USD a million
    assert cost.total_usd == Decimal("0.10") + Decimal("0.00012")
