"""Providers: who serves a model, and how that provider counts. One file per provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from eco2_callbacks.usage.content import as_text
from eco2_callbacks.usage.providers.anthropic import AnthropicRules
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, Sampling
from eco2_callbacks.usage.providers.bedrock import BedrockRules
from eco2_callbacks.usage.providers.cohere import CohereRules
from eco2_callbacks.usage.providers.compatible import CompatibleRules
from eco2_callbacks.usage.providers.endpoints import SELF_HOSTED, Endpoint, base_url_of, endpoint_at, is_sold_by
from eco2_callbacks.usage.providers.fireworks import FireworksRules
from eco2_callbacks.usage.providers.google import GoogleRules
from eco2_callbacks.usage.providers.groq import GroqRules
from eco2_callbacks.usage.providers.litellm import LITELLM, seller_of, without_prefix
from eco2_callbacks.usage.providers.mistral import MistralRules
from eco2_callbacks.usage.providers.openai import OpenAIRules
from eco2_callbacks.usage.providers.openrouter import OpenRouterRules
from eco2_callbacks.usage.providers.perplexity import PerplexityRules
from eco2_callbacks.usage.providers.self_hosted import SelfHostedRules
from eco2_callbacks.usage.providers.xai import XAIRules

__all__ = [
    "Context",
    "Exchange",
    "ProviderRules",
    "Sampling",
    "ServedModel",
    "is_known_provider",
    "provider_of",
    "request_model",
    "rules_for",
    "served_model",
]

_ALL_RULES: tuple[type[ProviderRules], ...] = (
    *(AnthropicRules, BedrockRules, CohereRules, CompatibleRules, FireworksRules, GoogleRules, GroqRules),
    *(MistralRules, OpenAIRules, OpenRouterRules, PerplexityRules, SelfHostedRules, XAIRules),
)
_RULES: Mapping[str, type[ProviderRules]] = {name: rules for rules in _ALL_RULES for name in rules.names}
_NO_KWARGS: Mapping[str, Any] = {}
_MAX_MODELS = 512


class ServedModel(NamedTuple):
    """One model object of the application: who serves it, and by which rules it is billed.

    Attributes:
        provider: Who is paid.
        rules: The provider's rules.
        model_kwargs: The constructor arguments, as far as LangChain serializes them.
        region: Of the endpoint; ``""`` for a global one.
        is_self_hosted: Whether no provider bills its tokens: its host is local, or its runtime is the user's own.
    """

    provider: str
    rules: ProviderRules
    model_kwargs: Mapping[str, Any] = _NO_KWARGS
    region: str = ""
    is_self_hosted: bool = False


# By the identity of the model's serialized form, which LangChain makes once per model; it is kept, so that no other
# object takes its place.
_served: dict[tuple[int, str], tuple[Mapping[str, Any], ServedModel]] = {}


@lru_cache(maxsize=256)
def rules_for(provider: str) -> ProviderRules:
    """Return the rules of a provider, the defaults for one that has none."""
    return _RULES.get(provider, ProviderRules)(provider)


def is_known_provider(provider: str) -> bool:
    """Return whether a provider has rules here."""
    return provider in _RULES


def served_model(metadata: Mapping[str, Any], serialized: Mapping[str, Any] | None) -> ServedModel:
    """Return who serves a model; its address is read when the model is first seen.

    Args:
        metadata: The run's metadata.
        serialized: The model as LangChain serialized it, with its constructor arguments under ``kwargs``.
    """
    provider = as_text(metadata.get("ls_provider"))
    if provider == LITELLM and not _is_router(serialized):
        provider = seller_of(as_text(metadata.get("ls_model_name")))
    if not isinstance(serialized, dict):
        return _plain_model(provider)
    key = (id(serialized), provider)
    known = _served.get(key)
    if known is not None and known[0] is serialized:
        return known[1]
    if len(_served) >= _MAX_MODELS:
        _served.clear()
    found = _find(provider, as_text(metadata.get("ls_model_name")), serialized)
    _served[key] = (serialized, found)
    return found


def provider_of(metadata: Mapping[str, Any], serialized: Mapping[str, Any] | None) -> str:
    """Return who is paid for a model: LangChain's ``ls_provider``, or the provider that its endpoint belongs to."""
    return served_model(metadata, serialized).provider


def request_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return the model that the request named."""
    model = as_text(metadata.get("ls_model_name"))  # first as text: its truth can be the application's code
    model = model or as_text(params.get("model") or params.get("model_name") or params.get("_type"))
    if "/" in model and metadata.get("ls_provider") == LITELLM:
        return without_prefix(model)
    return model.removeprefix("models/")


def _is_router(serialized: Mapping[str, Any] | None) -> bool:
    """Return whether a model is ChatLiteLLMRouter, whose names are the application's own."""
    names = serialized.get("id") if isinstance(serialized, dict) else None
    return isinstance(names, list) and "ChatLiteLLMRouter" in names


@lru_cache(maxsize=256)
def _plain_model(provider: str) -> ServedModel:
    rules = rules_for(provider)
    return ServedModel(provider, rules, is_self_hosted=isinstance(rules, SelfHostedRules))


def _find(provider: str, model: str, serialized: Mapping[str, Any]) -> ServedModel:
    model_kwargs = serialized.get("kwargs")
    if not isinstance(model_kwargs, dict):
        model_kwargs = _NO_KWARGS
    endpoint = Endpoint(provider)
    if provider and (url := base_url_of(provider, serialized, model_kwargs)) is not None:
        endpoint = endpoint_at(url, provider)
        if endpoint.is_local and endpoint.provider != SELF_HOSTED and not is_sold_by(provider, model):
            endpoint = Endpoint(SELF_HOSTED, is_local=True)
    if endpoint.provider == "google_genai" and model_kwargs.get("vertexai") is True:
        endpoint = Endpoint("google_vertexai")
    if provider in SelfHostedRules.names:
        endpoint = Endpoint(provider, is_local=True)
    rules = rules_for(endpoint.provider)
    is_self_hosted = isinstance(rules, SelfHostedRules) and (endpoint.is_local or endpoint.provider != SELF_HOSTED)
    return ServedModel(endpoint.provider, rules, model_kwargs, endpoint.region, is_self_hosted)
