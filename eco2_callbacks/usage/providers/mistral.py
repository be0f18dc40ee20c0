"""Mistral's rules: seconds of audio are billed beside the tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import blocks_of, media_kind
from eco2_callbacks.usage.providers.base import Exchange, ProviderRules
from eco2_callbacks.usage.reported import Reading, count_of
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["MistralRules"]


class MistralRules(ProviderRules):
    """Mistral's API."""

    names: ClassVar[frozenset[str]] = frozenset({"mistral", "mistralai"})
    bills_prompt_blocks: ClassVar[bool] = True

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts; what the total holds beside them is audio input."""
        answer = exchange.answer
        output_tokens = count_of(answer.raw_usage.get("output_tokens"))
        if answer.is_consistent or output_tokens is None or output_tokens >= usage.output_tokens:
            return super().read_usage(usage, exchange)
        audio = usage.output_tokens - output_tokens
        counts = replace(
            usage,
            input_tokens=usage.input_tokens + audio,
            input_audio_tokens=usage.input_audio_tokens + audio,
            output_tokens=output_tokens,
            reasoning_tokens=min(usage.reasoning_tokens, output_tokens),
        )
        return Reading(counts, is_consistent=False)

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage; audio in the prompt is billed by the second, which no count reports."""
        has_audio = any(media_kind(block) in ("audio", "input_audio") for block in blocks_of(prompt))
        return usage, not has_audio and not usage.input_audio_tokens
