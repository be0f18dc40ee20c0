"""read_usage: LangChain's usage_metadata in every provider's dialect."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from eco2_callbacks import PriceBook, TokenUsage
from eco2_callbacks.usage import read_usage
from tests.support.answers import AT, REPORTED


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            REPORTED
            | {
                "input_token_details": {"cache_read": 4, "audio": 3},
                "output_token_details": {"reasoning": 2, "audio": 1},
            },
            TokenUsage(
                input_tokens=10,
                output_tokens=5,
                cache_read_tokens=4,
                input_audio_tokens=3,
                reasoning_tokens=2,
                output_audio_tokens=1,
            ),
        ),
        (
            REPORTED
            | {
                "input_token_details": {"flex_cache_read": 4, "flex": 6},
                "output_token_details": {"flex_reasoning": 2, "flex": 3},
            },
            TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2),
        ),
        (
            REPORTED
            | {
                "input_token_details": {"priority_cache_read": 4, "priority": 6},
                "output_token_details": {"priority_reasoning": 2, "priority": 3},
            },
            TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2),
        ),
        (
            REPORTED | {"input_token_details": {"cache_read": 0, "cache_creation": 0}, "output_token_details": {}},
            TokenUsage(input_tokens=10, output_tokens=5),
        ),
        (
            REPORTED | {"input_token_details": {"cache_creation": 6}},
            TokenUsage(input_tokens=10, output_tokens=5, cache_creation_tokens=6),
        ),
        (
            # langchain-anthropic sets cache_creation to 0 where it reports the lifetimes.
            REPORTED
            | {
                "input_token_details": {
                    "cache_read": 1,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 4,
                    "ephemeral_1h_input_tokens": 3,
                }
            },
            TokenUsage(
                input_tokens=10,
                output_tokens=5,
                cache_read_tokens=1,
                cache_creation_tokens=7,
                cache_creation_5m_tokens=4,
                cache_creation_1h_tokens=3,
            ),
        ),
        (
            # 8 cached and 5 audio tokens of 10: at least 3 are both.
            REPORTED | {"input_token_details": {"cache_read": 8, "audio": 5}},
            TokenUsage(
                input_tokens=10, output_tokens=5, cache_read_tokens=8, input_audio_tokens=5, cache_read_audio_tokens=3
            ),
        ),
        ({"input_tokens": 10.0, "output_tokens": 5.0}, TokenUsage(input_tokens=10, output_tokens=5)),
        ({"input_tokens": 10}, TokenUsage(input_tokens=10)),
        ({"output_tokens": 0}, TokenUsage()),
    ],
    ids=[
        "plain_details",
        "openai_flex",
        "openai_priority",
        "zero_details",
        "cache_write",
        "anthropic_cache_write",
        "cached_audio",
        "whole_floats",
        "input_only",
        "reported_zero",
    ],
)
def test_usage_metadata_is_read_in_every_dialect(raw: dict[str, Any], expected: TokenUsage) -> None:
    """Every dialect of usage_metadata becomes the same counts."""
    assert read_usage(raw) == expected


def test_anthropic_cache_writes_cost_their_lifetime() -> None:
    """A cache write for an hour costs the hour's rate although LangChain reports a cache_creation of 0."""
    usage = read_usage(
        {
            "input_tokens": 10_000,
            "output_tokens": 100,
            "input_token_details": {
                "cache_read": 2000,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 3000,
                "ephemeral_1h_input_tokens": 1000,
            },
        }
    )

    assert usage is not None
    cost = PriceBook().price(usage, provider="anthropic", model="claude-sonnet-4-5", at=AT)

    # $3 input, $0.30 read, $3.75 written for 5 minutes, $6 for an hour, $15 output:
    # 4000 x 3 + 2000 x 0.3 + 3000 x 3.75 + 1000 x 6 + 100 x 15 = 12000 + 600 + 11250 + 6000 + 1500
    assert cost.total_usd == Decimal("0.03135")


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cache_read": 9}, TokenUsage(input_tokens=10, cache_read_tokens=9)),
        ({"cache_read": 10}, TokenUsage(input_tokens=10, cache_read_tokens=10)),
        ({"cache_read": 11}, TokenUsage(input_tokens=10, cache_read_tokens=10)),
        (
            {"cache_read": 6, "cache_creation": 6},
            TokenUsage(input_tokens=10, cache_read_tokens=6, cache_creation_tokens=4),
        ),
        (
            {"cache_creation": 4, "ephemeral_1h_input_tokens": 11},
            TokenUsage(input_tokens=10, cache_creation_tokens=10, cache_creation_1h_tokens=10),
        ),
    ],
    ids=["one_below", "at", "one_above", "together", "lifetime"],
)
def test_a_detail_is_never_more_than_its_whole(details: dict[str, int], expected: TokenUsage) -> None:
    """A detail above the count that includes it is cut to that count."""
    assert read_usage({"input_tokens": 10, "input_token_details": details}) == expected


def test_reasoning_may_be_audio() -> None:
    """OpenAI counts some output as reasoning and as audio; both are kept, and it is billed once, as audio."""
    usage = read_usage({"output_tokens": 10, "output_token_details": {"reasoning": 7, "audio": 10}})

    assert usage == TokenUsage(output_tokens=10, reasoning_tokens=7, output_audio_tokens=10)
    # gpt-audio: $64 audio output for a million tokens
    assert PriceBook().price(usage, provider="openai", model="gpt-audio", at=AT).total_usd == Decimal("0.00064")


@pytest.mark.parametrize(
    ("count", "read"),
    [
        (10**12, 10**12),
        (10**12 + 1, None),
        (0, 0),
        (-1, None),
        (True, None),
        ("5", None),
        (5.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal(5), None),
        (None, None),
        ([5], None),
    ],
    ids=["most", "one_above", "zero", "negative", "bool", "text", "half", "nan", "inf", "decimal", "none", "list"],
)
def test_only_a_plausible_whole_number_is_a_count(count: object, read: int | None) -> None:
    """A count is a whole number from 0 to 10^12; anything else is ignored."""
    assert read_usage({"input_tokens": count}) == (None if read is None else TokenUsage(input_tokens=read))


@pytest.mark.parametrize("raw", [None, {}, [], "x", 7, {"input_tokens": None}], ids=str)
def test_a_value_without_counts_is_no_usage(raw: object) -> None:
    """A value that holds no count is no usage."""
    assert read_usage(raw) is None
