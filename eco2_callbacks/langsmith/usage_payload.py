"""The usage and cost of a run in LangSmith's own keys."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from eco2_callbacks.pricing import Cost
from eco2_callbacks.usage import TokenUsage

__all__ = ["usage_metadata"]

# LangSmith has its own name for this part; the others keep ours.
_PART_NAMES = {"cache_write": "cache_creation"}
_INPUT_PARTS = ("cache_read", "cache_write")
_OUTPUT_PARTS = (
    *("reasoning", "image", "citation", "request", "web_search", "x_search", "file_search", "code_interpreter"),
    *("code_execution", "maps_grounding"),
)


def usage_metadata(usage: TokenUsage, cost: Cost | None) -> dict[str, Any]:
    """Return LangSmith's usage of a run, with dollars where they are known.

    Details hold what is above 0. They never sum to more than the count they belong to; what they leave is plain text.
    ``output_cost`` includes the fees of a provider's tools.

    Source: ``UsageMetadata`` in https://github.com/langchain-ai/langsmith-sdk/blob/main/python/langsmith/schemas.py
    """
    payload: dict[str, Any] = {
        "input_tokens": usage.input_tokens,
        "output_tokens": usage.output_tokens,
        "total_tokens": usage.total_tokens,
        "input_token_details": _input_details(usage),
        "output_token_details": _nonzero(
            reasoning=usage.reasoning_tokens, audio=usage.output_audio_tokens, image=usage.output_image_tokens
        ),
    }
    if cost is not None:
        parts = cost.parts
        # The bill has one audio part for both sides.
        text_usd = sum((parts.get(part, Decimal(0)) for part in ("input", *_INPUT_PARTS)), Decimal(0))
        input_audio_usd = cost.input_usd - text_usd if "audio" in parts else Decimal(0)
        output_audio_usd = parts.get("audio", Decimal(0)) - input_audio_usd
        payload["input_cost"] = float(cost.input_usd)
        payload["output_cost"] = float(cost.output_usd)
        payload["total_cost"] = float(cost.total_usd)
        payload["input_cost_details"] = _dollars(parts, _INPUT_PARTS, input_audio_usd)
        payload["output_cost_details"] = _dollars(parts, _OUTPUT_PARTS, output_audio_usd)
    return {key: value for key, value in payload.items() if value != {}}


def _input_details(usage: TokenUsage) -> dict[str, int]:
    five_minutes, one_hour = usage.cache_creation_5m_tokens, usage.cache_creation_1h_tokens
    return _nonzero(
        cache_read=usage.cache_read_tokens,
        # The two lifetimes lie inside the cache writes: LangSmith adds details up, so only the rest stands here.
        cache_creation=usage.cache_creation_tokens - five_minutes - one_hour,
        ephemeral_5m_input_tokens=five_minutes,
        ephemeral_1h_input_tokens=one_hour,
        # Tokens that are both cached and audio count as cached.
        audio=usage.input_audio_tokens - usage.cache_read_audio_tokens,
    )


def _nonzero(**counts: int) -> dict[str, int]:
    return {name: count for name, count in counts.items() if count > 0}


def _dollars(parts: Mapping[str, Decimal], names: Sequence[str], audio_usd: Decimal) -> dict[str, float]:
    details = {_PART_NAMES.get(name, name): float(parts[name]) for name in names if parts.get(name)}
    return {**details, "audio": float(audio_usd)} if audio_usd else details
