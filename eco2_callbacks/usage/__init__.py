"""Usage: what a model call consumed, as reported, completed by the provider's rules, or estimated."""

from __future__ import annotations

from eco2_callbacks.usage.estimates import estimate_usage
from eco2_callbacks.usage.providers import ProviderRules, provider_of, request_model, rules_for
from eco2_callbacks.usage.reported import Answer, choices_of, messages_of, read_answer, read_usage
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = [
    "Answer",
    "ProviderRules",
    "TokenUsage",
    "choices_of",
    "estimate_usage",
    "messages_of",
    "provider_of",
    "read_answer",
    "read_usage",
    "request_model",
    "rules_for",
]
