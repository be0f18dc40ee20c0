"""Reads what an answer reports: its model and usage, in every shape that the official models give."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from eco2_callbacks.usage.content import as_list, as_mapping
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["Answer", "choices_of", "messages_of", "read_answer", "read_usage"]

# No context window comes near it. A larger count is an error of a provider or proxy.
_MAX_TOKENS = 10**12
# OpenAI's 128 choices of a name of 64 characters. Anything longer is no streamed repetition of a name.
_MAX_REPEATED_LENGTH = 8192
_PLAIN_DETAILS = frozenset({"audio", "cache_read", "reasoning"})
_OUTPUT_DETAILS = {"reasoning": "reasoning_tokens", "audio": "output_audio_tokens"}


class Answer(NamedTuple):
    """What a finished model run reports.

    Attributes:
        model: The model that answered, or the requested model where the answer names none.
        usage: None where the answer reports none.
        service_tier: The tier that served it; None where the answer names none.
        from_cache: Answered by LangChain's LLM cache.
        messages: The messages of all choices.
    """

    model: str
    usage: TokenUsage | None = None
    service_tier: str | None = None
    from_cache: bool = False
    messages: Sequence[BaseMessage] = ()


def read_answer(result: LLMResult | None, *, request_model: str) -> Answer:
    """Read one model run's result, in which any part may be missing or malformed.

    With n>1 the official models repeat the whole usage on every choice: the first one counts.

    Args:
        result: The argument of ``on_llm_end``.
        request_model: The requested model.
    """
    messages = messages_of(result)
    model = tier = raw = None
    for message in messages:
        metadata = getattr(message, "response_metadata", None)
        if isinstance(metadata, dict):
            model = model or _name(metadata.get("model_name") or metadata.get("model"))
            tier = tier or _name(metadata.get("service_tier"))
        raw = raw or getattr(message, "usage_metadata", None)
    llm_output = getattr(result, "llm_output", None)
    if isinstance(llm_output, dict):
        model = model or _name(llm_output.get("model_name"))
        tier = tier or _name(llm_output.get("service_tier"))
    model = (model or request_model).removeprefix("models/")
    if isinstance(raw, dict) and raw.get("total_cost") == 0:
        # langchain-core marks an answer from its LLM cache by this key, which no provider sends.
        return Answer(model, TokenUsage(), tier, True, messages)
    usage = read_usage(raw) if raw else _legacy_usage(as_mapping(llm_output), is_text=not messages)
    return Answer(model, usage, tier, False, messages)


def choices_of(result: LLMResult | None) -> list[Any]:
    """Return all choices of a result, which may be malformed."""
    found: list[Any] = []
    for choices in as_list(getattr(result, "generations", None)):
        if isinstance(choices, list):
            found += choices
    return found


def messages_of(result: LLMResult | None) -> list[BaseMessage]:
    """Return the messages of all choices of a result; a text completion has none."""
    messages = (getattr(choice, "message", None) for choice in choices_of(result))
    return [message for message in messages if message is not None]


def read_usage(raw: object) -> TokenUsage | None:
    """Read LangChain's standard ``usage_metadata``; None where it holds no count.

    OpenAI's ``flex_`` and ``priority_`` detail keys are folded into the plain ones. A detail larger than the count it
    lies in is cut to that count.

    Source: https://reference.langchain.com/python/langchain_core/messages/#langchain_core.messages.ai.UsageMetadata
    """
    fields = as_mapping(raw)
    input_tokens, output_tokens = _count(fields.get("input_tokens")), _count(fields.get("output_tokens"))
    if input_tokens is None and output_tokens is None:
        return None
    counts = {"input_tokens": input_tokens or 0, "output_tokens": output_tokens or 0}
    if details := fields.get("input_token_details"):
        counts.update(_input_details(_details(details), counts["input_tokens"]))
    if details := fields.get("output_token_details"):
        for name, count in _details(details).items():
            if (field := _OUTPUT_DETAILS.get(name)) is not None:
                counts[field] = min(count, counts["output_tokens"])
    return TokenUsage(**counts)  # type: ignore[arg-type]


def _input_details(details: Mapping[str, int], input_tokens: int) -> dict[str, int]:
    cache_read = min(details.get("cache_read", 0), input_tokens)
    if len(details) == (cache_read > 0):
        return {"cache_read_tokens": cache_read} if cache_read else {}
    five_minutes, one_hour = details.get("ephemeral_5m_input_tokens", 0), details.get("ephemeral_1h_input_tokens", 0)
    # langchain-anthropic sets cache_creation to 0 where it gives the lifetimes.
    created = min(max(details.get("cache_creation", 0), five_minutes + one_hour), input_tokens - cache_read)
    one_hour = min(one_hour, created)
    audio = min(details.get("audio", 0), input_tokens - created)
    return {
        "cache_read_tokens": cache_read,
        "cache_creation_tokens": created,
        "cache_creation_5m_tokens": min(five_minutes, created - one_hour),
        "cache_creation_1h_tokens": one_hour,
        "input_audio_tokens": audio,
        # How many tokens are cached and audio at once is reported nowhere. At least this many must be.
        "cache_read_audio_tokens": max(0, cache_read + created + audio - input_tokens),
    }


def _legacy_usage(llm_output: Mapping[str, Any], *, is_text: bool) -> TokenUsage | None:
    """Read OpenAI's own names from ``llm_output["token_usage"]``, all that text-completion models give.

    Of several prompts in one request LangChain gives the whole usage to the first run and an empty one to the others.
    """
    if is_text and llm_output.get("token_usage") == {}:
        return TokenUsage()
    raw = as_mapping(llm_output.get("token_usage") or llm_output.get("usage"))
    return read_usage(
        {
            "input_tokens": raw.get("prompt_tokens", raw.get("input_tokens")),
            "output_tokens": raw.get("completion_tokens", raw.get("output_tokens")),
        }
    )


def _name(value: object) -> str | None:
    if not isinstance(value, str) or not value:
        return None
    return _unrepeated(value) if len(value) <= _MAX_REPEATED_LENGTH else value


@lru_cache(maxsize=256)
def _unrepeated(name: str) -> str:
    """Return a name once: LangChain joins those of several streamed choices to ``gpt-4ogpt-4o``."""
    # A text is found inside its double, past the start, at the length of the part that it repeats.
    length = (name + name).find(name, 1)
    return name[:length] if length > 1 else name


def _count(value: object) -> int | None:
    """Return a token count, None for anything that cannot be one."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_TOKENS else None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return _count(int(value))
    return None


def _details(details: object) -> dict[str, int]:
    """Return the details above 0, their names without ``flex_`` and ``priority_``."""
    found: dict[str, int] = {}
    for key, value in details.items() if isinstance(details, dict) else ():
        # Most details are 0.
        if value and (count := _count(value)):
            plain = key in _PLAIN_DETAILS
            name = key if plain else str(key).removeprefix("flex_").removeprefix("priority_")
            found[name] = found.get(name, 0) + count
    return found
