"""ProviderRules: how one provider counts and bills what an answer does not report; the defaults for all of them.

The protocol, in the order in which billing asks:

==========================  ==================================================================================
``names``                   the providers that the rules are for
``read_usage``              corrects the counts by what else the answer holds
``samplings``               further samplings of the answer, each with its own model
``add_unreported_usage``    the billed units that no count reports
``is_incomplete``           whether the client library dropped a part of the usage
``price_context``           what changes the price
``stated_cost``             what the provider says it charged
==========================  ==================================================================================
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from decimal import Context as DecimalContext
from decimal import Decimal
from typing import Any, ClassVar, NamedTuple

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.media import image_pixels
from eco2_callbacks.usage.reported import Answer, Reading, count_of, read_usage
from eco2_callbacks.usage.server_tools import add_server_tools, server_tool_calls
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["Context", "Exchange", "ProviderRules", "Sampling", "context_of", "pixels_of", "stated_usd"]

# What changes the price of a call, as sorted pairs.
Context = tuple[tuple[str, str], ...]

_STANDARD = frozenset({"", "auto", "default", "global", "not_available", "on_demand", "standard", "standard_only"})
_MAX_USD = 1_000_000
# The application may have set another precision.
_EXACT = DecimalContext(prec=60)

# The size of an image behind a URL is unknown here. This is a usual photo of the web.
_USUAL_PIXELS = (1024, 1024)


def pixels_of(block: Mapping[str, Any]) -> tuple[int, int]:
    """Return width and height of the image in a content block, those of a usual photo where they cannot be read."""
    return image_pixels(block) or _USUAL_PIXELS


class Exchange(NamedTuple):
    """One call beside its counts.

    Attributes:
        answer: What the answer reports.
        request_model: The requested model.
        params: LangChain's invocation parameters.
        model_kwargs: The constructor arguments of the model, as far as LangChain serializes them.
        streamed: Whether the answer was streamed.
        region: Of the endpoint; ``""`` for a global one.
        prompt: The messages sent, where the rules read them (``bills_prompt_blocks``).
    """

    answer: Answer
    request_model: str
    params: Mapping[str, Any]
    model_kwargs: Mapping[str, Any]
    streamed: bool = False
    region: str = ""
    prompt: Sequence[BaseMessage] = ()

    def requested(self, key: str) -> Any:
        """Return what the request set under a key; None where it set nothing."""
        for source in (self.params, self.model_kwargs):
            more = as_mapping(source.get("model_kwargs"))
            for fields in (source, more, as_mapping(source.get("extra_body")), as_mapping(more.get("extra_body"))):
                if (value := fields.get(key)) is not None:
                    return value
        return None


class Sampling(NamedTuple):
    """One of several samplings behind one answer; ``is_main`` where the counts of the answer hold it."""

    model: str
    usage: TokenUsage
    is_main: bool


def stated_usd(value: object, *, per_usd: int = 1) -> Decimal | None:
    """Return a stated cost in USD; None for anything that cannot be one."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        usd = _EXACT.divide(Decimal(str(value)), per_usd)
    except (ArithmeticError, ValueError):
        return None
    return usd if usd.is_finite() and 0 <= usd <= _MAX_USD else None


def context_of(pairs: Mapping[str, object]) -> Context:
    """Return the pairs that differ from the standard, sorted."""
    found = [(key, value) for key, value in pairs.items() if isinstance(value, str) and value not in _STANDARD]
    return tuple(sorted(found)) if found else ()


class ProviderRules:
    """The rules of one provider. This class holds the defaults, for a provider without rules of its own.

    Args:
        provider: LangChain's ``ls_provider``, or the name that ``provider_at`` returned.

    Attributes:
        names: The providers that a subclass is for.
        audio_tokens_per_second: Tokens of a second of audio input. The default is Gemini's published number.
        details_beside: Whether cached or reasoning tokens that exceed their count lie beside it.
        streams_parts: Whether the usages of a stream's chunks are parts that add up, in every official client.
        total_holds_reasoning: Whether the part of the total that no count explains is reasoning, as documented.
        bills_prompt_blocks: Whether content blocks of the prompt change the bill.
    """

    names: ClassVar[frozenset[str]] = frozenset()
    audio_tokens_per_second: ClassVar[int] = 32
    details_beside: ClassVar[bool] = False
    streams_parts: ClassVar[bool] = False
    total_holds_reasoning: ClassVar[bool] = False
    bills_prompt_blocks: ClassVar[bool] = False

    def __init__(self, provider: str) -> None:
        self.provider = provider

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts, with what stands in the provider's own usage only, and whether they are certain.

        By default these are the cached tokens under the names that OpenAI-compatible servers give them.
        """
        answer = exchange.answer
        is_certain = answer.is_consistent or self.total_holds_reasoning
        reported = answer.reported
        if not reported:
            return Reading(usage, is_certain)
        if usage.cache_read_tokens == 0 and (cached := _cached_tokens(reported)) and cached <= usage.input_tokens:
            usage = replace(usage, cache_read_tokens=cached)
        total = count_of(reported.get("total_tokens"))
        if total is not None and total > usage.total_tokens:
            # The client library computed its own total.
            usage = replace(usage, output_tokens=usage.output_tokens + total - usage.total_tokens)
            is_certain = self.total_holds_reasoning
        return Reading(usage, is_certain)

    def samplings(self, usage: TokenUsage, exchange: Exchange) -> Sequence[Sampling]:
        """Return the samplings behind an answer where they are priced apart.

        By default these are the answers of a provider's SDK that were read as one.
        """
        usages = exchange.answer.metadata.get("samplings")
        if not isinstance(usages, list):
            return ()
        model = exchange.answer.model
        return [Sampling(model, one, is_main=True) for raw in usages if (one := read_usage(raw)) is not None]

    def sampling_limit(self, exchange: Exchange) -> tuple[int, int | None]:
        """Return how often the model was sampled at most, and the longest prompt that the request allows."""
        return 1, None

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether the client library dropped a part of the usage."""
        return False

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return what changes the price; by default the service tier and the endpoint's region."""
        if exchange.region:
            return context_of({"service_tier": service_tier, "region": exchange.region})
        return () if service_tier is None or service_tier in _STANDARD else (("service_tier", service_tier),)

    def stated_cost(self, exchange: Exchange) -> Decimal | None:
        """Return what the provider says it charged, in USD; only where it documents the field as that."""
        return None

    def price_models(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the names under which the price is looked up, the best first."""
        return exchange.answer.model, exchange.request_model

    def is_same_model(self, exchange: Exchange, name: str) -> bool:
        """Return whether the public prices of one of ``price_models`` are those of the model that answered."""
        return True

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


def _cached_tokens(reported: Mapping[str, Any]) -> int:
    details = reported.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    for key in ("num_cached_tokens", "prompt_cache_hit_tokens", "cached_tokens"):
        cached = cached or reported.get(key)
    return count_of(cached) or 0
