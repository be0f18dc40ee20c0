"""ProviderRules: how one provider counts and bills what an answer does not report; the defaults for all of them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage

from eco2_callbacks.usage.media import image_pixels
from eco2_callbacks.usage.server_tools import add_server_tools, server_tool_calls
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["ProviderRules", "pixels_of"]

# The size of an image behind a URL is unknown here. This is a usual photo of the web.
_USUAL_PIXELS = (1024, 1024)


def pixels_of(block: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the image in a content block, those of a usual photo where they cannot be read."""
    return image_pixels(block) or _USUAL_PIXELS


class ProviderRules:
    """The rules of one provider. This class holds the defaults, for a provider without rules of its own.

    Args:
        provider: LangChain's ``ls_provider``, or the name that ``provider_at`` returned.

    Attributes:
        names: The providers that a subclass is for.
        audio_tokens_per_second: Tokens of a second of audio input. The default is Gemini's published number.
    """

    names: ClassVar[frozenset[str]] = frozenset()
    audio_tokens_per_second: ClassVar[int] = 32

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def provider_at(self, model_kwargs: Mapping[str, Any]) -> str:
        """Return who serves a model with these constructor arguments; the endpoint may belong to another provider."""
        return self.provider

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with the billed units that its counts leave out, such as searches.

        By default these are the calls of server tools. An image that such a tool made is not wholly billed by them:
        no field of the answer holds the tokens of the image model.

        Args:
            usage: As the answer reported it, or an estimate.
            answers: The messages of all choices.
            prompt: The messages sent.
            params: The invocation's parameters, with the tools.
            model: The model that answered.

        Returns:
            The usage, and whether it now covers the whole bill.
        """
        calls = server_tool_calls(answers)
        if not calls:
            return usage, True
        usage = add_server_tools(usage, calls)
        return usage, not usage.image_generations

    def image_tokens(self, block: Mapping[str, Any], *, model: str, params: Mapping[str, Any]) -> int:
        """Return the tokens of an image sent to a model; by default its area decides, as Anthropic documents.

        Source: https://docs.claude.com/en/docs/build-with-claude/vision#calculate-image-costs
        """
        width, height = pixels_of(block)
        return min(1600, math.ceil(width * height / 750))

    def message_overhead_tokens(self, messages: int, model: str) -> int:
        """Return the input tokens that the provider adds to a number of messages."""
        return 0

    def answer_overhead_tokens(self, tool_calls: int, model: str) -> int:
        """Return the output tokens that the provider bills beside the text of an answer and its tool calls."""
        return 0

    def output_image_tokens(self, answers: Sequence[BaseMessage], model: str) -> int:
        """Return the output tokens of the images in answers."""
        return 0
