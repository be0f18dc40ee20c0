"""The usage and cost of a run in LangSmith's own keys."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from eco2_callbacks.pricing import Cost
from eco2_callbacks.usage import TokenUsage

__all__ = ["usage_metadata"]

# Where LangSmith puts the dollars of each part of a bill, and what it calls them; plain input and output are the rest.
_INPUT, _OUTPUT = "input_cost_details", "output_cost_details"
_DETAILS: Mapping[str, tuple[str, str]] = {
    "cache_read": (_INPUT, "cache_read"),
    "cache_write": (_INPUT, "cache_creation"),
    **{
        part: (_OUTPUT, part)
        for part in (
            *("reasoning", "image", "citation", "request", "web_search", "x_search", "file_search"),
            *("code_interpreter", "code_execution", "maps_grounding"),
        )
    },
}
_INPUT_PARTS = ("input", "cache_read", "cache_write")
_ZERO = Decimal(0)


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
    }
    if input_details := _input_details(usage):
        payload["input_token_details"] = input_details
    if output_details := _nonzero(
        reasoning=usage.reasoning_tokens, audio=usage.output_audio_tokens, image=usage.output_image_tokens
    ):
        payload["output_token_details"] = output_details
    if cost is not None:
        payload["input_cost"] = float(cost.input_usd)
        payload["output_cost"] = float(cost.output_usd)
        payload["total_cost"] = float(cost.total_usd)
        for part, usd in cost.parts.items():
            if usd and (place := _DETAILS.get(part)) is not None:
                side, name = place
                payload.setdefault(side, {})[name] = float(usd)
        if "audio" in cost.parts:
            _add_audio(payload, cost)
    return payload


def _add_audio(payload: dict[str, Any], cost: Cost) -> None:
    """Split the bill's one audio part: what the other parts leave of the input's dollars is the input's audio."""
    input_usd = cost.input_usd - sum((cost.parts.get(part, _ZERO) for part in _INPUT_PARTS), _ZERO)
    for side, usd in ((_INPUT, input_usd), (_OUTPUT, cost.parts["audio"] - input_usd)):
        if usd:
            payload.setdefault(side, {})["audio"] = float(usd)


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
