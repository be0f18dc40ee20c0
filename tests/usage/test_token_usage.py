"""TokenUsage: counts that add up, and totals that count included tokens once."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import fields

from eco2_callbacks import TokenUsage
from tests.support.examples import examples

_COUNTS = [field.name for field in fields(TokenUsage) if field.name != "image_sizes"]
_USAGES = st.builds(
    TokenUsage,
    image_sizes=st.lists(st.sampled_from(["1K", "2K", "4K"]), max_size=2).map(tuple),
    **dict.fromkeys(_COUNTS, st.integers(0, 10**9)),
)


def test_no_usage_counts_nothing() -> None:
    """An empty usage holds 0 of everything."""
    usage = TokenUsage()

    assert {name: getattr(usage, name) for name in _COUNTS} == dict.fromkeys(_COUNTS, 0)
    assert usage.image_sizes == ()
    assert usage.total_tokens == 0


def test_the_total_counts_included_tokens_once() -> None:
    """The total is input plus output; cached, audio and reasoning tokens are not added again."""
    usage = TokenUsage(
        input_tokens=100,
        cache_read_tokens=40,
        cache_creation_tokens=30,
        input_audio_tokens=20,
        output_tokens=50,
        reasoning_tokens=25,
        output_image_tokens=10,
    )

    assert usage.total_tokens == 150


def test_two_usages_add_up_count_by_count() -> None:
    """Adding two usages adds each count and keeps the sizes of all images in order."""
    text = TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, web_searches=1)
    picture = TokenUsage(input_tokens=1, output_tokens=1120, output_image_tokens=1120, images=1, image_sizes=("1K",))
    larger = TokenUsage(output_tokens=2000, output_image_tokens=2000, images=1, image_sizes=("4K",))

    total = text + picture + larger

    assert total == TokenUsage(
        input_tokens=11,
        output_tokens=3125,
        cache_read_tokens=4,
        output_image_tokens=3120,
        web_searches=1,
        images=2,
        image_sizes=("1K", "4K"),
    )


def test_sum_of_no_usages_is_empty() -> None:
    """The sum of an empty iterable is an empty usage."""
    assert TokenUsage.sum(iter(())) == TokenUsage()


def test_sum_of_one_usage_is_that_usage() -> None:
    """A single usage is its own sum, without a copy."""
    usage = TokenUsage(input_tokens=1)

    assert TokenUsage.sum(iter([usage])) is usage


@pytest.mark.parametrize("other", [1, None, {"input_tokens": 1}], ids=["int", "none", "dict"])
def test_only_usages_can_be_added(other: object) -> None:
    """Adding anything but a usage is a TypeError."""
    with pytest.raises(TypeError) as raised:
        TokenUsage() + other  # type: ignore[operator]

    assert str(raised.value) == f"unsupported operand type(s) for +: 'TokenUsage' and '{type(other).__name__}'"


@settings(max_examples=examples(50), deadline=None, derandomize=True)
@given(st.lists(_USAGES, max_size=4))
def test_sum_loses_no_count(usages: list[TokenUsage]) -> None:
    """Every count of a sum is the sum of that count."""
    total = TokenUsage.sum(usages)

    assert {name: getattr(total, name) for name in _COUNTS} == {
        name: sum(getattr(usage, name) for usage in usages) for name in _COUNTS
    }
    assert total.image_sizes == tuple(size for usage in usages for size in usage.image_sizes)
    assert total.total_tokens == sum(usage.total_tokens for usage in usages)
