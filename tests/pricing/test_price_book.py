"""PriceBook: exact dollars, worked out from the published rates and held against genai-prices' own sums."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import genai_prices
import pytest
from genai_prices.data_snapshot import get_snapshot, set_custom_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, Tier, TieredPrices, TimeOfDateConstraint
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eco2_callbacks import Cost, PriceBook, Rate, TokenUsage, UnknownModelError, UsageError
from eco2_callbacks.rates import PRICE_KEYS

AT = datetime(2026, 11, 1, 12, tzinfo=UTC)
MTOK = 1_000_000
SEOUL = timezone(timedelta(hours=9))


def usd(
    usage: TokenUsage, provider: str, model: str, *, book: PriceBook | None = None, at: datetime = AT, tier: str = ""
) -> Decimal:
    return (book or PriceBook()).price(usage, provider=provider, model=model, service_tier=tier, at=at).total_usd


def rate(prices: dict[str, Any], *, model: str = "gpt-5.2", provider: str = "openai", **about: Any) -> Rate:
    return Rate(
        **{"start": date(2026, 1, 1), "source": "contract 7"} | about, provider=provider, model=model, prices=prices
    )


def test_a_cached_token_is_billed_at_the_cache_rate_only() -> None:
    """A cached token is billed at the cache rate only."""
    usage = TokenUsage(input_tokens=1000, cache_read_tokens=400, output_tokens=100)

    cost = PriceBook().price(usage, provider="openai", model="gpt-5.2", at=AT)

    # gpt-5.2: $1.75 input, $0.175 cached, $14 output for a million tokens.
    # 600 x 1.75 = 1050; 400 x 0.175 = 70; 100 x 14 = 1400
    assert cost == Cost(
        input_usd=Decimal("0.00112"),
        output_usd=Decimal("0.0014"),
        parts={"input": Decimal("0.00105"), "cache_read": Decimal("0.00007"), "output": Decimal("0.0014")},
    )


@pytest.mark.parametrize(
    ("provider", "model", "usage", "expected", "parts"),
    [
        # claude-sonnet-4-5: $3 input, $3.75 written for 5 minutes, $6 for an hour, $0.30 read, $15 output.
        # 5000 x 3 + 3000 x 3.75 + 2000 x 6 = 15000 + 11250 + 12000
        (
            "anthropic",
            "claude-sonnet-4-5",
            TokenUsage(
                input_tokens=10_000,
                cache_creation_tokens=5000,
                cache_creation_5m_tokens=3000,
                cache_creation_1h_tokens=2000,
            ),
            "0.03825",
            {"input": "0.015", "cache_write": "0.02325"},
        ),
        # No lifetime told: all of it at the five-minute rate. 1000 x 3.75
        (
            "anthropic",
            "claude-sonnet-4-5",
            TokenUsage(input_tokens=1000, cache_creation_tokens=1000),
            "0.00375",
            {"input": "0", "cache_write": "0.00375"},
        ),
        # gemini-3-pro-preview: $12 output; 1000 x 12, of which 400 were thoughts.
        (
            "google_genai",
            "gemini-3-pro-preview",
            TokenUsage(output_tokens=1000, reasoning_tokens=400),
            "0.012",
            {"output": "0.0072", "reasoning": "0.0048"},
        ),
        # sonar-deep-research has a reasoning rate: $8 output, $3 reasoning. 600 x 8 + 400 x 3
        (
            "perplexity",
            "sonar-deep-research",
            TokenUsage(output_tokens=1000, reasoning_tokens=400),
            "0.006",
            {"output": "0.0048", "reasoning": "0.0012"},
        ),
        # gemini-3-pro-image-preview: $12 output, $120 image output. 100 x 12 + 1120 x 120
        (
            "google_genai",
            "gemini-3-pro-image-preview",
            TokenUsage(output_tokens=1220, output_image_tokens=1120, images=1, image_sizes=("1K",)),
            "0.1356",
            {"output": "0.0012", "image": "0.1344"},
        ),
        # gemini-2.5-flash: $0.30 input, $1 audio, $0.03 cached, $0.10 cached audio.
        # 1000 in: 300 audio of which 100 cached, 250 cached in all: 200 x 1 + 100 x 0.1 + 150 x 0.03 + 550 x 0.3
        (
            "google_genai",
            "gemini-2.5-flash",
            TokenUsage(input_tokens=1000, input_audio_tokens=300, cache_read_tokens=250, cache_read_audio_tokens=100),
            "0.0003795",
            {"input": "0.000165", "audio": "0.0002", "cache_read": "0.0000145"},
        ),
        # gpt-5.2: $10 for 1000 web searches, $2.50 for 1000 file searches.
        (
            "openai",
            "gpt-5.2",
            TokenUsage(web_searches=3, file_searches=2),
            "0.035",
            {"web_search": "0.03", "file_search": "0.005"},
        ),
        # gemini-2.5-flash: $35 for 1000 grounded prompts.
        ("google_genai", "gemini-2.5-flash", TokenUsage(web_searches=1), "0.035", {"web_search": "0.035"}),
        # $0.03 for each container.
        (
            "openai",
            "gpt-5.2",
            TokenUsage(code_interpreter_sessions=2),
            "0.06",
            {"code_interpreter": "0.06"},
        ),
        ("azure", "gpt-5.2", TokenUsage(code_interpreter_sessions=1), "0.03", {"code_interpreter": "0.03"}),
        # $25 for 1000 prompts grounded in Maps, from Gemini 3 on $14 for 1000 queries.
        ("google_genai", "gemini-2.5-flash", TokenUsage(maps_groundings=1), "0.025", {"maps_grounding": "0.025"}),
        ("google_genai", "gemini-3-pro-preview", TokenUsage(maps_groundings=2), "0.028", {"maps_grounding": "0.028"}),
        # A fee that nobody published for this model is not made up.
        ("anthropic", "claude-sonnet-4-5", TokenUsage(code_interpreter_sessions=1), "0", {}),
        # A unit without a rate of its own is billed as what it lies in: gpt-5.2 has no audio rate. 100 x 1.75
        ("openai", "gpt-5.2", TokenUsage(input_tokens=100, input_audio_tokens=60), "0.000175", {"input": "0.000175"}),
        # sonar: $12 for 1000 requests, whatever the tokens.
        ("perplexity", "sonar", TokenUsage(), "0.012", {"input": "0.012"}),
    ],
    ids=[
        "anthropic_cache_write",
        "anthropic_cache_write_no_lifetime",
        "gemini_reasoning",
        "perplexity_reasoning",
        "gemini_image",
        "gemini_cached_audio",
        "openai_searches",
        "gemini_search",
        "openai_containers",
        "azure_containers",
        "gemini_2_maps",
        "gemini_3_maps",
        "no_fee_known",
        "no_audio_rate",
        "perplexity_request",
    ],
)
def test_each_unit_is_billed_at_its_own_rate(
    provider: str, model: str, usage: TokenUsage, expected: str, parts: dict[str, str]
) -> None:
    """Every billed unit costs its published rate and nothing else besides."""
    cost = PriceBook().price(usage, provider=provider, model=model, at=AT)

    assert cost.total_usd == Decimal(expected)
    assert {part: share for part, share in cost.parts.items() if share} == {
        part: Decimal(share) for part, share in parts.items() if Decimal(share)
    }


@pytest.mark.parametrize(
    ("input_tokens", "cached", "expected_input", "expected_output"),
    [
        # $2 input, $0.20 cached, $12 output; above 200,000 input tokens $4, $0.40 and $18 for all of them.
        (199_999, 0, "0.399998", "0.012"),
        (200_000, 0, "0.4", "0.012"),
        (200_001, 0, "0.800004", "0.018"),
        # Cached tokens count towards the length. 100,000 x 2 + 100,000 x 0.2; 100,001 x 4 + 100,000 x 0.4
        (200_000, 100_000, "0.22", "0.012"),
        (200_001, 100_000, "0.440004", "0.018"),
    ],
    ids=["one_below", "at", "one_above", "cached_at", "cached_one_above"],
)
def test_a_long_context_costs_more_from_one_token_above_the_threshold(
    input_tokens: int, cached: int, expected_input: str, expected_output: str
) -> None:
    """Above 200,000 input tokens every token of gemini-3-pro-preview is billed at the higher rate, not before."""
    usage = TokenUsage(input_tokens=input_tokens, cache_read_tokens=cached, output_tokens=1000)

    cost = PriceBook().price(usage, provider="google_genai", model="gemini-3-pro-preview", at=AT)

    assert (cost.input_usd, cost.output_usd) == (Decimal(expected_input), Decimal(expected_output))


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        # o3: $10 input and $40 output, from 2025-06-10 on $2 and $8.
        (datetime(2025, 6, 9, 23, 59, 59, tzinfo=UTC), "50"),
        (datetime(2025, 6, 10, tzinfo=UTC), "10"),
        (datetime(2025, 6, 11, tzinfo=UTC), "10"),
        (datetime(2025, 6, 10, 8, 59, tzinfo=SEOUL), "50"),
        (datetime(2025, 6, 10, 9, 0, tzinfo=SEOUL), "10"),
        (datetime(2025, 6, 10), "10"),  # noqa: DTZ001
    ],
    ids=["last_second_before", "first_second", "day_after", "seoul_before", "seoul_from", "naive_is_utc"],
)
def test_the_price_of_the_day_of_the_call_holds(at: datetime, expected: str) -> None:
    """A call costs what its UTC day's price was, whatever the time zone it is told in."""
    assert usd(TokenUsage(input_tokens=MTOK, output_tokens=MTOK), "openai", "o3", at=at) == Decimal(expected)


@pytest.mark.parametrize(
    ("model", "at", "expected"),
    [
        ("gemini-2.5-flash", datetime(2025, 10, 16, tzinfo=UTC), "0"),
        ("gemini-2.5-flash", datetime(2025, 10, 17, tzinfo=UTC), "0.025"),
        ("gemini-3-pro-preview", datetime(2026, 1, 4, tzinfo=UTC), "0"),
        ("gemini-3-pro-preview", datetime(2026, 1, 5, tzinfo=UTC), "0.014"),
    ],
    ids=["gemini_2_before", "gemini_2_from", "gemini_3_before", "gemini_3_from"],
)
def test_a_fee_is_billed_from_its_start_date(model: str, at: datetime, expected: str) -> None:
    """Maps grounding costs nothing the day before its fee began, and the fee from that day on."""
    assert usd(TokenUsage(maps_groundings=1), "google_genai", model, at=at) == Decimal(expected)


@pytest.mark.parametrize(
    ("tier", "day", "expected"),
    [
        # gpt-5.2: $1.75 + $14; flex $0.875 + $7, priority $3.50 + $28, both published from 2026-10-12 on.
        ("", date(2026, 11, 1), "15.75"),
        ("default", date(2026, 11, 1), "15.75"),
        ("auto", date(2026, 11, 1), "15.75"),
        ("scale", date(2026, 11, 1), "15.75"),
        ("flex", date(2026, 11, 1), "7.875"),
        ("priority", date(2026, 11, 1), "31.5"),
        ("flex", date(2026, 10, 11), "15.75"),
        ("flex", date(2026, 10, 12), "7.875"),
        ("flex", date(2026, 10, 13), "7.875"),
    ],
    ids=["none", "default", "auto", "unpriced", "flex", "priority", "day_before", "first_day", "day_after"],
)
def test_the_tier_of_the_answer_decides_the_rate(tier: str, day: date, expected: str) -> None:
    """A flex or priority answer costs its tier's rate from the day it was published, any other the standard one."""
    at = datetime.combine(day, time(), UTC)

    assert usd(TokenUsage(input_tokens=MTOK, output_tokens=MTOK), "openai", "gpt-5.2", at=at, tier=tier) == Decimal(
        expected
    )


def test_no_tier_is_the_standard_tier() -> None:
    """A service tier of None is the standard one."""
    usage = TokenUsage(input_tokens=MTOK)

    assert PriceBook().price(usage, provider="openai", model="gpt-5.2", service_tier=None, at=AT).total_usd == Decimal(
        "1.75"
    )


@pytest.mark.parametrize(
    ("provider", "model", "expected"),
    [
        # $1 million input tokens each: gpt-5.2 $1.75, gemini-2.5-flash $0.30, claude-opus-4-5 $5.
        ("azure", "gpt-5.2", "1.75"),
        ("azure_openai", "gpt-5.2", "1.75"),
        ("azure_ai", "gpt-5.2", "1.75"),
        ("google_genai", "gemini-2.5-flash", "0.3"),
        ("google_vertexai", "gemini-2.5-flash", "0.3"),
        ("google_vertexai", "claude-opus-4-5", "5"),
        ("google_anthropic_vertex", "claude-opus-4-5", "5"),
        ("anthropic", "claude-opus-4-5", "5"),
        ("openai", "gpt-5.2-2025-12-11", "1.75"),
        ("openai", "GPT-5.2", "1.75"),
        ("", "gpt-5.2", "1.75"),
        ("", "gemini-2.5-flash", "0.3"),
    ],
    ids=[
        "azure",
        "azure_openai",
        "azure_ai",
        "google_genai",
        "vertex",
        "vertex_claude",
        "anthropic_on_vertex",
        "anthropic",
        "dated_name",
        "upper_case",
        "no_provider_openai",
        "no_provider_google",
    ],
)
def test_langchain_names_of_providers_find_their_prices(provider: str, model: str, expected: str) -> None:
    """A provider is found by LangChain's name for it, and by the model's name where there is none."""
    assert usd(TokenUsage(input_tokens=MTOK), provider, model) == Decimal(expected)


def test_azure_does_not_sell_openai_tiers() -> None:
    """A tier published by OpenAI does not cheapen the same model on Azure."""
    assert usd(TokenUsage(input_tokens=MTOK), "azure", "gpt-5.2", tier="flex") == Decimal("1.75")


def test_a_price_by_the_hour_changes_by_the_minute() -> None:
    """Of deepseek-chat's two daily prices the one of the minute holds."""
    book = PriceBook()
    usage = TokenUsage(input_tokens=MTOK)
    # $0.27, from 16:30 to 00:30 UTC half of it.
    times = {"00:29": "0.135", "00:30": "0.27", "16:29": "0.27", "16:30": "0.135"}

    prices = {
        at: usd(usage, "deepseek", "deepseek-chat", book=book, at=datetime.combine(AT, time.fromisoformat(at), UTC))
        for at in times
    }

    assert prices == {at: Decimal(price) for at, price in times.items()}


def test_the_time_of_the_call_is_now_unless_told() -> None:
    """Without a time the prices of today hold: o3 costs what it has cost since 2025-06-10."""
    usage = TokenUsage(input_tokens=MTOK)

    assert PriceBook().price(usage, provider="openai", model="o3").total_usd == Decimal(2)


def test_an_own_rate_wins_key_by_key() -> None:
    """An own rate replaces the public price of its key and leaves the others."""
    book = PriceBook([rate({"input_mtok": Decimal(1)})])
    usage = TokenUsage(input_tokens=MTOK, output_tokens=MTOK)

    # $1 own input + $14 public output
    assert usd(usage, "openai", "gpt-5.2", book=book) == Decimal(15)


def test_an_own_rate_is_meant_for_the_dated_name_too() -> None:
    """A rate for gpt-5.2 holds for an answer of gpt-5.2-2025-12-11, and for no other model."""
    book = PriceBook([rate({"input_mtok": Decimal(1)})])
    usage = TokenUsage(input_tokens=MTOK)

    assert usd(usage, "openai", "gpt-5.2-2025-12-11", book=book) == Decimal(1)
    assert usd(usage, "openai", "gpt-5-mini", book=book) == usd(usage, "openai", "gpt-5-mini") != Decimal(1)


def test_an_own_rate_is_found_by_either_name_of_the_provider() -> None:
    """A rate for LangChain's google_genai or for genai-prices' google holds for both."""
    usage = TokenUsage(input_tokens=MTOK)

    for name in ("google", "google_genai", "*"):
        book = PriceBook([rate({"input_mtok": Decimal(7)}, provider=name, model="gemini-2.5-flash")])
        assert usd(usage, "google_genai", "gemini-2.5-flash", book=book) == Decimal(7)


@pytest.mark.parametrize(
    ("day", "expected"),
    [(date(2026, 2, 28), "1.75"), (date(2026, 3, 1), "1"), (date(2026, 5, 31), "1"), (date(2026, 6, 1), "0.5")],
    ids=["before_any", "first_day", "last_day_of_first", "first_day_of_second"],
)
def test_the_latest_rate_that_has_begun_holds(day: date, expected: str) -> None:
    """Of two rates the later start holds from its day on, in whatever order they stand; before both the public one."""
    book = PriceBook(
        [
            rate({"input_mtok": Decimal("0.5")}, start=date(2026, 6, 1)),
            rate({"input_mtok": Decimal(1)}, start=date(2026, 3, 1)),
        ]
    )

    at = datetime.combine(day, time(), UTC)

    assert usd(TokenUsage(input_tokens=MTOK), "openai", "gpt-5.2", book=book, at=at) == Decimal(expected)


@pytest.mark.parametrize(
    ("tier", "expected"),
    [("", "1"), ("default", "1"), ("flex", "0.4"), ("priority", "3.5")],
    ids=["none", "default", "own_flex", "public_priority"],
)
def test_an_own_rate_holds_for_its_tier_only(tier: str, expected: str) -> None:
    """An own standard rate is for the standard tier, one with service_tier for that tier; others stay public."""
    book = PriceBook([rate({"input_mtok": Decimal("0.4")}, service_tier="flex"), rate({"input_mtok": Decimal(1)})])

    assert usd(TokenUsage(input_tokens=MTOK), "openai", "gpt-5.2", book=book, tier=tier) == Decimal(expected)


def test_an_own_model_costs_its_rate_in_every_tier() -> None:
    """Where no public price is known, an own rate without a tier holds for every tier."""
    book = PriceBook([rate({"input_mtok": Decimal(1)}, provider="vllm", model="llama-*")])

    assert usd(TokenUsage(input_tokens=MTOK), "vllm", "llama-4", book=book, tier="flex") == Decimal(1)


@pytest.mark.parametrize(
    ("input_tokens", "expected"),
    [(99_999, "0.099999"), (100_000, "0.1"), (100_001, "0.200002"), (300_001, "0.900003")],
    ids=["one_below", "at", "one_above", "second_tier"],
)
def test_an_own_rate_may_rise_with_the_context(input_tokens: int, expected: str) -> None:
    """An own tiered rate bills every token at the highest tier that the input exceeds."""
    tiered = TieredPrices(
        base=Decimal(1), tiers=[Tier(start=100_000, price=Decimal(2)), Tier(start=300_000, price=Decimal(3))]
    )
    book = PriceBook([rate({"input_mtok": tiered})])

    assert usd(TokenUsage(input_tokens=input_tokens), "openai", "gpt-5.2", book=book) == Decimal(expected)


def test_an_image_may_cost_by_the_piece() -> None:
    """An own rate by the image bills each image, and is part of the output."""
    book = PriceBook([rate({"image_each": Decimal("0.04")})])

    cost = book.price(TokenUsage(images=3), provider="openai", model="gpt-5.2", at=AT)

    assert cost == Cost(output_usd=Decimal("0.12"), parts={"image": Decimal("0.12")})


def test_an_own_fee_wins_over_the_shipped_one() -> None:
    """A negotiated container fee replaces the published one."""
    book = PriceBook([rate({"code_interpreter_each": Decimal("0.01")})])

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


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-x"), ("nobody", "gpt-5.2"), ("", "no-such-model"), ("openai", "")],
    ids=["model", "provider", "no_provider", "no_model"],
)
def test_an_unknown_model_raises(provider: str, model: str) -> None:
    """A model without a price is an error that says what to do, never zero dollars."""
    with pytest.raises(UnknownModelError) as raised:
        PriceBook().price(TokenUsage(input_tokens=1), provider=provider, model=model, at=AT)

    assert str(raised.value) == (
        f"No price for model {model!r} of provider {provider!r} on 2026-11-01; "
        "add it to the file named by ECO2_PRICES or pass prices=."
    )


def test_an_unknown_model_is_unpriced_on_the_utc_day() -> None:
    """The day in the message is the UTC day whose prices were looked for."""
    with pytest.raises(UnknownModelError) as raised:
        PriceBook().price(TokenUsage(), provider="openai", model="gpt-x", at=datetime(2026, 11, 1, 8, tzinfo=SEOUL))

    assert raised.value.day == "2026-10-31"


def test_an_own_model_is_unknown_before_its_rate_starts() -> None:
    """A model that only an own rate prices has no price the day before it starts."""
    book = PriceBook([rate({"input_mtok": Decimal(1)}, model="gpt-x")])
    usage = TokenUsage(input_tokens=MTOK)

    assert usd(usage, "openai", "gpt-x", book=book, at=datetime(2026, 1, 1, tzinfo=UTC)) == Decimal(1)
    with pytest.raises(UnknownModelError) as raised:
        usd(usage, "openai", "gpt-x", book=book, at=datetime(2025, 12, 31, 23, 59, tzinfo=UTC))
    assert str(raised.value) == (
        "No price for model 'gpt-x' of provider 'openai' on 2025-12-31; "
        "add it to the file named by ECO2_PRICES or pass prices=."
    )


@pytest.mark.parametrize(
    ("usage", "message"),
    [
        (
            TokenUsage(input_tokens=10, cache_read_tokens=11),
            "The parts of input_tokens sum to 11, more than the 10 it holds; pass counts that include their own parts.",
        ),
        (
            TokenUsage(input_tokens=10, cache_read_tokens=6, cache_creation_tokens=6),
            "The parts of input_tokens sum to 12, more than the 10 it holds; pass counts that include their own parts.",
        ),
        (
            TokenUsage(input_tokens=10, cache_creation_tokens=4, cache_creation_1h_tokens=5),
            "The parts of cache_creation_tokens sum to 5, more than the 4 it holds; "
            "pass counts that include their own parts.",
        ),
    ],
    ids=["cached", "cached_and_written", "lifetimes"],
)
def test_contradicting_counts_raise(usage: TokenUsage, message: str) -> None:
    """Parts that exceed their whole are an error, never a negative price."""
    with pytest.raises(UsageError) as raised:
        usd(usage, "anthropic", "claude-sonnet-4-5")

    assert str(raised.value) == message


def test_parts_that_just_fill_their_whole_are_billed() -> None:
    """Parts may hold all of their whole: nothing is left at the plain rate."""
    usage = TokenUsage(input_tokens=10, cache_read_tokens=4, cache_creation_tokens=6)

    # 4 x 0.3 + 6 x 3.75 = 23.7
    assert usd(usage, "anthropic", "claude-sonnet-4-5") == Decimal("0.0000237")


@pytest.fixture
def own_snapshot() -> Iterator[None]:
    yield
    set_custom_snapshot(None)


@pytest.mark.usefixtures("own_snapshot")
def test_the_book_follows_fresh_price_data() -> None:
    """Prices that genai-prices updates while the book is in use hold from the next call on."""
    book = PriceBook()
    usage = TokenUsage(input_tokens=MTOK)
    before = usd(usage, "openai", "gpt-5.2", book=book)
    snapshot = get_snapshot()
    openai = next(provider for provider in snapshot.providers if provider.id == "openai")
    (model,) = (model for model in openai.models if model.id == "gpt-5.2")
    dearer = replace(model, prices=ModelPrice(input_mtok=Decimal(9)))

    set_custom_snapshot(replace(snapshot, providers=[replace(openai, models=[dearer])]))
    after = usd(usage, "openai", "gpt-5.2", book=book)

    assert (before, after) == (Decimal("1.75"), Decimal(9))


@pytest.mark.usefixtures("own_snapshot")
def test_a_daily_price_holds_to_the_minute_in_every_zone() -> None:
    """A price for part of the day is chosen by the UTC minute, not by the caller's clock face."""
    snapshot = get_snapshot()
    openai = next(provider for provider in snapshot.providers if provider.id == "openai")
    model = replace(
        openai.models[0],
        price_variants=None,
        prices=[
            ConditionalPrice(prices=ModelPrice(input_mtok=Decimal(2))),
            ConditionalPrice(TimeOfDateConstraint(time(1), time(2)), prices=ModelPrice(input_mtok=Decimal(1))),
        ],
    )
    set_custom_snapshot(replace(snapshot, providers=[replace(openai, models=[model])]))
    book = PriceBook()

    prices = [
        usd(
            TokenUsage(input_tokens=MTOK),
            "openai",
            model.id,
            book=book,
            at=datetime(2026, 11, 1, 10, minute, tzinfo=SEOUL),
        )
        for minute in (0, 59)
    ]
    before = usd(
        TokenUsage(input_tokens=MTOK), "openai", model.id, book=book, at=datetime(2026, 11, 1, 9, 59, tzinfo=SEOUL)
    )

    assert (prices, before) == ([Decimal(1), Decimal(1)], Decimal(2))


def test_a_book_stays_right_past_its_cache() -> None:
    """A book asked for more models and days than it remembers still prices the first ones."""
    book = PriceBook([rate({"input_mtok": Decimal(1)}, provider="vllm", model="*")])
    usage = TokenUsage(input_tokens=MTOK)

    totals = {usd(usage, "vllm", f"m{number}", book=book) for number in range(2100)}
    totals |= {usd(usage, "vllm", "m0", book=book, at=AT + timedelta(days=number)) for number in range(2100)}

    assert totals == {Decimal(1)}
    assert usd(usage, "openai", "gpt-5.2", book=book) == Decimal("1.75")


# A rate for every unit there is, each a different one.
EVERY_UNIT = rate(
    {key: Decimal(number) for number, key in enumerate(sorted(PRICE_KEYS), start=1)}, provider="own", model="*"
)
BOOK = PriceBook([EVERY_UNIT])
PUBLIC = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in ("openai", "google", "anthropic", "azure")
    for model in provider.models
]
# Names that Azure sells of OpenAI's and Anthropic's.
PUBLIC += [("azure", "gpt-5.2"), ("azure", "o3"), ("azure", "claude-opus-4-5"), ("google", "claude-sonnet-4-5")]


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Draw counts that fit into each other, often at a context threshold."""
    input_tokens = draw(st.sampled_from([0, 128_000, 200_000, 200_001, 272_001]) | st.integers(0, 3 * MTOK))
    read = draw(st.integers(0, input_tokens))
    written = draw(st.integers(0, input_tokens - read))
    one_hour = draw(st.integers(0, written))
    audio = draw(st.integers(0, input_tokens - written))
    output_tokens = draw(st.integers(0, MTOK))
    reasoning = draw(st.integers(0, output_tokens))
    spoken = draw(st.integers(0, output_tokens - reasoning))
    return TokenUsage(
        input_tokens=input_tokens,
        cache_read_tokens=read,
        cache_creation_tokens=written,
        cache_creation_1h_tokens=one_hour,
        cache_creation_5m_tokens=draw(st.integers(0, written - one_hour)),
        input_audio_tokens=audio,
        cache_read_audio_tokens=draw(st.integers(max(0, read + written + audio - input_tokens), min(read, audio))),
        output_tokens=output_tokens,
        reasoning_tokens=reasoning,
        output_audio_tokens=spoken,
        output_image_tokens=draw(st.integers(0, output_tokens - reasoning - spoken)),
        web_searches=draw(st.integers(0, 20)),
        file_searches=draw(st.integers(0, 20)),
    )


def publicly_priced(usage: TokenUsage, provider: str, model: str, tier: str | None, at: datetime) -> Decimal | None:
    """Return genai-prices' own total, None where it cannot price such a usage."""
    told = genai_prices.Usage(
        input_tokens=usage.input_tokens,
        cache_read_tokens=usage.cache_read_tokens,
        cache_write_tokens=usage.cache_creation_tokens,
        cache_write_5m_tokens=usage.cache_creation_5m_tokens,
        cache_write_1h_tokens=usage.cache_creation_1h_tokens,
        input_audio_tokens=usage.input_audio_tokens,
        cache_audio_read_tokens=usage.cache_read_audio_tokens,
        output_tokens=usage.output_tokens,
        output_reasoning_tokens=usage.reasoning_tokens,
        output_audio_tokens=usage.output_audio_tokens,
        output_image_tokens=usage.output_image_tokens,
        web_searches=usage.web_searches,
        storage_searches=usage.file_searches,
    )
    try:
        return genai_prices.calc_price(
            told,
            model,
            provider_id=provider,
            genai_request_timestamp=at,
            price_context={"service_tier": tier} if tier else None,
        ).total_price
    except (LookupError, ValueError):
        return None


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    named=st.sampled_from(PUBLIC),
    usage=usages(),
    tier=st.sampled_from([None, "default", "flex", "priority", "scale"]),
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_total_is_genai_prices_own(
    named: tuple[str, str], usage: TokenUsage, tier: str | None, at: datetime
) -> None:
    """On the same day and tier a usage costs exactly what genai-prices itself says, split without a rest."""
    provider, model = named
    public = publicly_priced(usage, provider, model, tier, at)
    assume(public is not None)

    try:
        cost = BOOK.price(usage, provider=provider, model=model, service_tier=tier, at=at)
    except UnknownModelError:
        # Priced by the hour or by the character only: no token of it has a price.
        assert public == 0
        return

    assert cost.total_usd == public
    assert cost.input_usd + cost.output_usd == cost.total_usd == sum(cost.parts.values())
    assert min([cost.input_usd, cost.output_usd, *cost.parts.values()]) >= 0


@settings(max_examples=200, deadline=None, derandomize=True)
@given(named=st.sampled_from([("own", "every-unit"), ("perplexity", "sonar-deep-research"), *PUBLIC]), usage=usages())
def test_no_consistent_usage_is_refused(named: tuple[str, str], usage: TokenUsage) -> None:
    """Counts that fit into each other always have a price of zero dollars or more, whose parts sum to it."""
    provider, model = named

    try:
        cost = BOOK.price(usage, provider=provider, model=model, at=AT)
    except UnknownModelError:
        assume(False)

    assert cost.input_usd + cost.output_usd == cost.total_usd == sum(cost.parts.values())
    assert min([cost.input_usd, cost.output_usd, *cost.parts.values()]) >= 0


def test_an_own_standard_rate_holds_for_a_tier_that_nobody_prices() -> None:
    """A tier without public prices of its own is billed at the negotiated rate, one with them is not."""
    rate = Rate("openai", "gpt-5.2", date(2026, 1, 1), "contract", {"input_mtok": Decimal(1)})
    book = PriceBook([rate])
    usage = TokenUsage(input_tokens=1_000_000)
    day = datetime(2026, 11, 1, tzinfo=UTC)

    told = {
        tier: book.price(usage, provider="openai", model="gpt-5.2", service_tier=tier, at=day).total_usd
        for tier in (None, "default", "scale", "flex")
    }

    # gpt-5.2 flex: 0.875 USD a million
    assert told == {None: 1, "default": 1, "scale": 1, "flex": Decimal("0.875")}


def test_an_own_rate_for_the_tier_named_default_is_the_standard_rate() -> None:
    """``default`` is the provider's word for no tier at all."""
    rate = Rate("openai", "gpt-5.2", date(2026, 1, 1), "contract", {"input_mtok": Decimal(1)}, service_tier="default")

    cost = PriceBook([rate]).price(TokenUsage(input_tokens=1_000_000), provider="openai", model="gpt-5.2")

    assert cost.total_usd == 1


def test_an_image_by_the_piece_is_not_billed_by_its_tokens_too() -> None:
    """An own price for each image takes the place of the public price of its tokens."""
    rate = Rate("google", "gemini-3-pro-image*", date(2026, 1, 1), "contract", {"image_each": Decimal("0.10")})
    usage = TokenUsage(output_tokens=1120 + 10, output_image_tokens=1120, images=1, image_sizes=("1K",))

    cost = PriceBook([rate]).price(usage, provider="google_genai", model="gemini-3-pro-image-preview")

    # 0.10 for the image and 10 text tokens x 12 USD a million
    assert cost.total_usd == Decimal("0.10") + Decimal("0.00012")
