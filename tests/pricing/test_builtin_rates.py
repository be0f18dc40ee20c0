"""The built-in rows: each fills a gap of genai-prices, names its source, and gives way once the gap is closed."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib.resources import as_file, files

import pytest
from genai_prices.data_snapshot import get_snapshot
from genai_prices.types import ModelInfo

from eco2_callbacks import PriceBook, TokenUsage
from eco2_callbacks.pricing.rates import Rate, read_rates

AT = datetime(2026, 11, 29, 18, tzinfo=UTC)
# genai-prices' ids of LangChain's names.
PROVIDERS = {"google_genai": "google"}


def rows() -> tuple[Rate, ...]:
    with as_file(files("eco2_callbacks.pricing") / "builtin_fees.toml") as path:
        return read_rates(path)


def models(row: Rate) -> Iterator[ModelInfo]:
    wanted = PROVIDERS.get(row.provider, row.provider)
    for provider in get_snapshot().providers:
        if provider.id == wanted:
            yield from (model for model in provider.models if row.is_for(row.provider, model.id))


def is_needless(row: Rate) -> bool:
    """Return whether genai-prices has all that a row gives, for every model that it is for."""
    found = list(models(row))
    keys = [*row.prices, *(["cache_read_mtok"] if row.cache_read_factor is not None else [])]
    conditions = {*row.context, *(["service_tier"] if row.service_tier is not None else [])}
    if not found or row.token_cost_step is not None:
        return False  # nothing of the kind there yet

    def has(model: ModelInfo) -> bool:
        if conditions:
            return any(conditions & variant.when.keys() for variant in model.price_variants or [])
        prices = model.get_prices(AT).__dict__
        return all(prices.get(key) is not None for key in keys)

    return all(map(has, found))


def test_no_built_in_row_has_become_needless() -> None:
    """A row that genai-prices has made needless is listed here: delete it."""
    assert [(row.provider, row.model, dict(row.context)) for row in rows() if is_needless(row)] == []


def test_every_built_in_row_names_where_it_comes_from() -> None:
    """A row's source is a page, with the day on which it was read."""
    assert [row for row in rows() if "https://" not in row.source or "checked" not in row.source] == []


@pytest.mark.parametrize(
    ("provider", "model", "context", "expected"),
    [
        # 1,000,000 input tokens
        ("openai", "gpt-5.4", {"region": "eu"}, "2.75"),
        ("openai", "gpt-5.2", {"region": "eu"}, "1.75"),
        ("anthropic", "claude-opus-4-8", {"inference_geo": "us"}, "5.5"),
        ("anthropic", "claude-opus-4-5", {"inference_geo": "us"}, "5"),
        ("anthropic", "claude-opus-4-8", {"inference_geo": "us", "speed": "fast"}, "11"),
        ("perplexity", "sonar-pro", {"search_context_size": "medium"}, "3.01"),
        ("perplexity", "sonar-pro", {}, "3.014"),
        ("mistral", "mistral-large-2512", {"region": "eu"}, "0.55"),
        ("xai", "grok-3", {"region": "us"}, "3.3"),
        ("xai", "grok-3", {"region": "eu-west-1"}, "3"),
        ("google_genai", "gemma-3-27b-it", {}, "0"),
    ],
)
def test_a_context_changes_the_price(provider: str, model: str, context: dict[str, str], expected: str) -> None:
    """A row for a context holds in it, and only for the models that it is for."""
    usage = TokenUsage(input_tokens=1_000_000)

    cost = PriceBook().price(usage, provider=provider, model=model, context=context, at=AT)

    # gpt-5.4 has long-context rates: a million tokens cost twice the plain rate.
    plain = 2 if model == "gpt-5.4" else 1
    assert cost.total_usd == plain * Decimal(expected)


def test_custom_rates_express_every_context() -> None:
    """A custom rate may be for a speed, a region or a size, and may be a factor."""
    when = {"start": AT.date(), "source": "contract 7"}
    book = PriceBook(
        [
            Rate("acme", "m", prices={"input_mtok": Decimal(2)}, **when),
            Rate("acme", "m", prices={"input_mtok": Decimal(5)}, context={"speed": "fast"}, **when),
            Rate("acme", "m", prices={}, context={"region": "?*"}, token_factor=Decimal("1.5"), **when),
        ]
    )
    million = TokenUsage(input_tokens=1_000_000)

    def price(**context: str) -> Decimal:
        return book.price(million, provider="acme", model="m", context=context, at=AT).total_usd

    assert (price(), price(speed="fast"), price(region="eu"), price(region="eu", speed="fast")) == (
        Decimal(2),
        Decimal(5),
        Decimal(3),
        Decimal("7.5"),
    )


def test_a_counted_unit_without_a_rate_is_named() -> None:
    """A quote lists the counts that nothing prices, and what the cache saved."""
    usage = TokenUsage(input_tokens=1000, cache_read_tokens=500, x_searches=1, web_searches=1)

    quote = PriceBook().quote(usage, provider="openai", model="gpt-5.2", at=AT)

    assert quote.unpriced == ("x_searches",)
    # $1.75 a million plain, $0.175 cached: 500 x 1.575
    assert (quote.cache_savings_usd, quote.cache_surcharge_usd) == (Decimal("0.0007875"), 0)


@pytest.mark.parametrize(("answered", "unpriced"), [(0, ()), (1000, ("output_tokens",))])
def test_output_that_a_price_of_input_alone_leaves_out_is_named(answered: int, unpriced: tuple[str, ...]) -> None:
    """A model with a price of its input alone has no free output; an embedding has none to bill."""
    usage = TokenUsage(input_tokens=1000, output_tokens=answered)

    quote = PriceBook().quote(usage, provider="azure", model="davinci-002", at=AT)

    # $2 a million
    assert (quote.cost.total_usd, quote.unpriced) == (Decimal("0.002"), unpriced)


def test_a_cache_write_costs_more_than_plain_input() -> None:
    """The surcharge is counted by lifetime: $3.75 for five minutes and $6 for an hour above $3."""
    usage = TokenUsage(
        input_tokens=1000, cache_creation_tokens=300, cache_creation_5m_tokens=200, cache_creation_1h_tokens=100
    )

    quote = PriceBook().quote(usage, provider="anthropic", model="claude-sonnet-4-5", at=AT)

    # 200 x 0.75 + 100 x 3
    assert (quote.cache_savings_usd, quote.cache_surcharge_usd) == (0, Decimal("0.00045"))
