"""Usage: what a model call consumed, as reported, completed by the provider's rules, or estimated."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eco2_callbacks.lazy_names import lazy_names
from eco2_callbacks.usage.content import message_text
from eco2_callbacks.usage.estimates import estimate_usage
from eco2_callbacks.usage.providers import (
    Context,
    Exchange,
    ProviderRules,
    Sampling,
    ServedModel,
    is_known_provider,
    provider_of,
    request_model,
    rules_for,
    served_model,
)
from eco2_callbacks.usage.reported import Answer, choices_of, messages_of, read_answer, read_counts, read_usage
from eco2_callbacks.usage.token_usage import TokenUsage
from eco2_callbacks.usage.tokenizers import Estimator, token_counter

if TYPE_CHECKING:
    from eco2_callbacks.usage.sdk_answers import (
        SDKStream,
        combined,
        plain,
        prompt_messages,
        prompt_texts,
        read_sdk_answer,
        stream_of,
    )

__all__ = [
    "Answer",
    "Context",
    "Estimator",
    "Exchange",
    "ProviderRules",
    "SDKStream",
    "Sampling",
    "ServedModel",
    "TokenUsage",
    "choices_of",
    "combined",
    "estimate_usage",
    "is_known_provider",
    "message_text",
    "messages_of",
    "plain",
    "prompt_messages",
    "prompt_texts",
    "provider_of",
    "read_answer",
    "read_counts",
    "read_sdk_answer",
    "read_usage",
    "request_model",
    "rules_for",
    "served_model",
    "stream_of",
    "token_counter",
]

__getattr__ = lazy_names(
    __name__,
    {
        "sdk_answers": (
            "SDKStream",
            "combined",
            "plain",
            "prompt_messages",
            "prompt_texts",
            "read_sdk_answer",
            "stream_of",
        )
    },
)
