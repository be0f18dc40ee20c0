"""Amazon Bedrock's rules: cached tokens beside the input, profiles that hide the model, Claude's server tools."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.providers.anthropic import AnthropicRules
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules
from eco2_callbacks.usage.providers.cache_lifetimes import with_requested_lifetime
from eco2_callbacks.usage.reported import Reading, read_counts
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["BedrockRules"]

_CLAUDE = "claude"
_OPTIMIZED = "optimized"


class BedrockRules(AnthropicRules):
    """ChatBedrock and ChatBedrockConverse, whose models include Claude."""

    names: ClassVar[frozenset[str]] = frozenset({"amazon_bedrock", "bedrock-mantle", "openai-mantle"})
    details_beside: ClassVar[bool] = True

    def read_usage(self, usage: TokenUsage, exchange: Exchange) -> Reading:
        """Return the counts; langchain-aws 1.0 to 1.7 left cached tokens outside the input.

        "inputTokens" excludes them: https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
        """
        answer = exchange.answer
        reading = Reading(usage)
        if not answer.is_consistent:
            reading = read_counts(answer.raw_usage, details_beside=True) or Reading(usage, is_consistent=False)
        return with_requested_lifetime(reading, exchange)

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its server tools: Claude's by their results, other models' by their calls."""
        rules = AnthropicRules if _CLAUDE in model else ProviderRules
        return rules.add_unreported_usage(self, usage, answers, prompt=prompt, params=params, model=model)

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return the service tier that served the call; latency-optimized inference has rates of its own.

        Where the answer names neither, as ChatBedrock's, what the request names counts; boto3's names stand in the
        parameters alone. Source: https://docs.aws.amazon.com/bedrock/latest/userguide/latency-optimized-inference.html
        """
        metadata, params = exchange.answer.metadata, exchange.params
        config = metadata.get("performanceConfig") or exchange.requested("performance_config")
        config = config or params.get("performanceConfig")
        latency = as_mapping(config).get("latency") or params.get("performanceConfigLatency")
        if latency == _OPTIMIZED:
            service_tier = _OPTIMIZED
        elif service_tier is None:
            tier = exchange.requested("service_tier") or params.get("serviceTier")
            tier = as_mapping(tier).get("type", tier)
            service_tier = tier if isinstance(tier, str) else None
        return ProviderRules.price_context(self, exchange, service_tier)

    def price_models(self, exchange: Exchange) -> tuple[str, ...]:
        """Return the base model that an application inference profile was given, the request's and the answer's.

        A profile's name has its region, which decides the price. Claude's own API answers with the bare model.
        """
        models = exchange.request_model, exchange.answer.model
        base = exchange.model_kwargs.get("base_model_id")
        return (base, *models) if isinstance(base, str) and base else models
