"""Providers: who serves a model, and how that provider counts. One file per provider."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from eco2_callbacks.usage.content import as_text
from eco2_callbacks.usage.providers.anthropic import AnthropicRules
from eco2_callbacks.usage.providers.base import ProviderRules
from eco2_callbacks.usage.providers.google import GoogleRules
from eco2_callbacks.usage.providers.openai import OpenAIRules

__all__ = ["ProviderRules", "provider_of", "request_model", "rules_for"]

_RULES: Mapping[str, type[ProviderRules]] = {
    name: rules for rules in (AnthropicRules, GoogleRules, OpenAIRules) for name in rules.names
}


@lru_cache(maxsize=256)
def rules_for(provider: str) -> ProviderRules:
    """Return the rules of a provider, the defaults for one that has none."""
    return _RULES.get(provider, ProviderRules)(provider)


def provider_of(metadata: Mapping[str, Any], serialized: Mapping[str, Any] | None) -> str:
    """Return who serves a model: LangChain's ``ls_provider``, or the provider that its endpoint belongs to.

    Args:
        metadata: The run's metadata.
        serialized: The model as LangChain serialized it, with its constructor arguments under ``kwargs``.
    """
    provider = as_text(metadata.get("ls_provider"))
    model_kwargs = serialized.get("kwargs") if isinstance(serialized, dict) else None
    return rules_for(provider).provider_at(model_kwargs) if isinstance(model_kwargs, dict) else provider


def request_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return the model that the request named."""
    model = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or params.get("_type")
    return as_text(model).removeprefix("models/")
