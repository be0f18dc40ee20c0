"""PriceBook: exact dollars, worked out from the published rates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal

import pytest
from genai_prices.data_snapshot import get_snapshot, set_custom_snapshot
from genai_prices.types import ConditionalPrice, ModelPrice, TimeOfDateConstraint

from eco2_callbacks import Cost, PriceBook, TokenUsage, UnknownModelError, UsageError
from tests.support.prices import AT, MTOK, usd

SEOUL = timezone(timedelta(hours=9))


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
        # No lifetime given: all of it at the five-minute rate. 1000 x 3.75
        (
            "anthropic",
            "claude-sonnet-4-5",
            TokenUsage(input_tokens=1000, cache_creation_tokens=1000),
            "0.00375",
            {"input": "0", "cache_write": "0.00375"},
        ),
        # gemini-3-pro-preview: $12 output, reasoning included; 1000 x 12
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
        # 1000 in: 300 audio (100 cached) and 250 cached in all: 200 x 1 + 100 x 0.1 + 150 x 0.03 + 550 x 0.3
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
        # No fee is published for this model, so none is billed.
        ("anthropic", "claude-sonnet-4-5", TokenUsage(code_interpreter_sessions=1), "0", {}),
        # gpt-5.2 has no audio rate, so audio costs the input rate. 100 x 1.75
        ("openai", "gpt-5.2", TokenUsage(input_tokens=100, input_audio_tokens=60), "0.000175", {"input": "0.000175"}),
        # sonar: $12 for 1000 requests, whatever the tokens.
        ("perplexity", "sonar", TokenUsage(), "0.012", {"request": "0.012"}),
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
    """Every billed unit costs its published rate, and nothing else is billed."""
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
    """One token above 200,000 input tokens, all tokens of gemini-3-pro-preview cost the higher rate."""
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
    """A call costs the price of its UTC day, whatever time zone its start is given in."""
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
    """Maps grounding costs nothing on the day before its fee starts."""
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
    """A flex or priority answer costs its tier's rate from its start date, any other the standard rate."""
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
    """A provider is found by LangChain's name for it, or by the model's name alone."""
    assert usd(TokenUsage(input_tokens=MTOK), provider, model) == Decimal(expected)


def test_azure_does_not_sell_openai_tiers() -> None:
    """A tier that OpenAI publishes does not change the price on Azure."""
    assert usd(TokenUsage(input_tokens=MTOK), "azure", "gpt-5.2", tier="flex") == Decimal("1.75")


def test_a_price_by_the_hour_changes_by_the_minute() -> None:
    """The price of deepseek-chat depends on the minute of the day."""
    book = PriceBook()
    usage = TokenUsage(input_tokens=MTOK)
    # $0.27, from 16:30 to 00:30 UTC half of it.
    times = {"00:29": "0.135", "00:30": "0.27", "16:29": "0.27", "16:30": "0.135"}

    prices = {
        at: usd(usage, "deepseek", "deepseek-chat", book=book, at=datetime.combine(AT, time.fromisoformat(at), UTC))
        for at in times
    }

    assert prices == {at: Decimal(price) for at, price in times.items()}


def test_the_time_of_the_call_defaults_to_now() -> None:
    """Without a time today's prices count: o3 costs what it has cost since 2025-06-10."""
    usage = TokenUsage(input_tokens=MTOK)

    assert PriceBook().price(usage, provider="openai", model="o3").total_usd == Decimal(2)


@pytest.mark.parametrize(
    ("provider", "model"),
    [("openai", "gpt-x"), ("no-such-provider", "gpt-5.2"), ("", "no-such-model"), ("openai", "")],
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
    """The day in the message is the UTC day of the price look-up."""
    with pytest.raises(UnknownModelError) as raised:
        PriceBook().price(TokenUsage(), provider="openai", model="gpt-x", at=datetime(2026, 11, 1, 8, tzinfo=SEOUL))

    assert raised.value.day == "2026-10-31"


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
    """Parts may add up to their whole; nothing is then billed at the plain rate."""
    usage = TokenUsage(input_tokens=10, cache_read_tokens=4, cache_creation_tokens=6)

    # 4 x 0.3 + 6 x 3.75 = 23.7
    assert usd(usage, "anthropic", "claude-sonnet-4-5") == Decimal("0.0000237")


@pytest.fixture
def restored_snapshot() -> Iterator[None]:
    yield
    set_custom_snapshot(None)


@pytest.mark.usefixtures("restored_snapshot")
def test_the_book_follows_fresh_price_data() -> None:
    """Price data that genai-prices updates at run time counts from the next call on."""
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


@pytest.mark.usefixtures("restored_snapshot")
def test_a_daily_price_holds_to_the_minute_in_every_zone() -> None:
    """A price for part of the day is chosen by the UTC minute, whatever the caller's time zone."""
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
