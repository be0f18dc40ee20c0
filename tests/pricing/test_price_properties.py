"""PriceBook agrees with genai-prices to the last digit and prices every consistent usage."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal

import genai_prices
from genai_prices.data_snapshot import get_snapshot
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from eco2_callbacks import PriceBook, TokenUsage, UnknownModelError
from eco2_callbacks.pricing.rates import PRICE_KEYS
from tests.support.examples import examples
from tests.support.prices import AT, MTOK, custom_rate

# A custom rate with a different price for every unit.
EVERY_UNIT = custom_rate(
    {key: Decimal(number) for number, key in enumerate(sorted(PRICE_KEYS), start=1)}, provider="own", model="*"
)


BOOK = PriceBook([EVERY_UNIT])


PUBLIC = [
    (provider.id, model.id)
    for provider in get_snapshot().providers
    if provider.id in ("openai", "google", "anthropic", "azure")
    for model in provider.models
]


# Models of OpenAI and Anthropic that Azure sells.
PUBLIC += [("azure", "gpt-5.2"), ("azure", "o3"), ("azure", "claude-opus-4-5"), ("google", "claude-sonnet-4-5")]


@st.composite
def usages(draw: st.DrawFn) -> TokenUsage:
    """Draw consistent counts, often at a context threshold."""
    input_tokens = draw(st.sampled_from([0, 128_000, 200_000, 200_001, 272_001]) | st.integers(0, 3 * MTOK))
    read = draw(st.integers(0, input_tokens))
    written = draw(st.integers(0, input_tokens - read))
    one_hour = draw(st.integers(0, written))
    audio = draw(st.integers(0, input_tokens - written))
    output_tokens = draw(st.integers(0, MTOK))
    reasoning = draw(st.integers(0, output_tokens))
    output_audio = draw(st.integers(0, output_tokens - reasoning))
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
        output_audio_tokens=output_audio,
        output_image_tokens=draw(st.integers(0, output_tokens - reasoning - output_audio)),
        web_searches=draw(st.integers(0, 20)),
        file_searches=draw(st.integers(0, 20)),
    )


def publicly_priced(usage: TokenUsage, provider: str, model: str, tier: str | None, at: datetime) -> Decimal | None:
    """Return the total that genai-prices itself computes, None where it has no price."""
    public_usage = genai_prices.Usage(
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
            public_usage,
            model,
            provider_id=provider,
            genai_request_timestamp=at,
            price_context={"service_tier": tier} if tier else None,
        ).total_price
    except (LookupError, ValueError):
        return None


@settings(max_examples=examples(400), deadline=None, derandomize=True)
@given(
    named=st.sampled_from(PUBLIC),
    usage=usages(),
    tier=st.sampled_from([None, "default", "flex", "priority", "scale"]),
    at=st.datetimes(datetime(2025, 1, 1), datetime(2027, 6, 1), timezones=st.just(UTC)),  # noqa: DTZ001
)
def test_the_total_equals_genai_prices(
    named: tuple[str, str], usage: TokenUsage, tier: str | None, at: datetime
) -> None:
    """On the same day and tier a usage costs exactly what genai-prices computes, and the parts sum to it."""
    provider, model = named
    public = publicly_priced(usage, provider, model, tier, at)
    assume(public is not None)

    try:
        cost = BOOK.price(usage, provider=provider, model=model, service_tier=tier, at=at)
    except UnknownModelError:
        # Priced by the hour or by the character only: its tokens have no price.
        assert public == 0
        return

    assert cost.total_usd == public
    assert cost.input_usd + cost.output_usd == cost.total_usd == sum(cost.parts.values())
    assert min([cost.input_usd, cost.output_usd, *cost.parts.values()]) >= 0


@settings(max_examples=examples(200), deadline=None, derandomize=True)
@given(named=st.sampled_from([("own", "every-unit"), ("perplexity", "sonar-deep-research"), *PUBLIC]), usage=usages())
def test_no_consistent_usage_is_refused(named: tuple[str, str], usage: TokenUsage) -> None:
    """Consistent counts always have a price of zero dollars or more, and the parts sum to it."""
    provider, model = named

    try:
        cost = BOOK.price(usage, provider=provider, model=model, at=AT)
    except UnknownModelError:
        assume(False)

    assert cost.input_usd + cost.output_usd == cost.total_usd == sum(cost.parts.values())
    assert min([cost.input_usd, cost.output_usd, *cost.parts.values()]) >= 0
