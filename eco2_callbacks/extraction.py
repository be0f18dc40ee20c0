"""LLMResult -> Answer: which model answered, and what it consumed, from every shape the official models give."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from eco2_callbacks import gemini
from eco2_callbacks.server_tools import count_server_tools
from eco2_callbacks.usage import TokenUsage

__all__ = ["Answer", "choices_of", "complete", "messages_of", "read_answer", "read_usage"]

# No context window comes near it; a larger count is a provider's or proxy's error, not usage.
_MOST_TOKENS = 10**12
# With two choices or more, streamed metadata is concatenated: "gpt-4ogpt-4o".
_REPEATED = re.compile(r"(.{2,}?)\1+", re.DOTALL)
_PLAIN_DETAILS = frozenset({"audio", "cache_read", "reasoning"})
_OUTPUT_DETAILS = {"reasoning": "reasoning_tokens", "audio": "output_audio_tokens"}


class Answer(NamedTuple):
    """What an LLMResult says.

    Attributes:
        model: The model that answered, or the one asked for.
        usage: None where nothing was told.
        service_tier: The tier it was answered in, None where nothing was told.
        from_cache: Answered by LangChain's LLM cache.
        exact: Whether the usage tells the whole bill.
    """

    model: str
    usage: TokenUsage | None = None
    service_tier: str | None = None
    from_cache: bool = False
    exact: bool = True


def read_answer(
    result: LLMResult | None,
    *,
    provider: str,
    request_model: str,
    prompt: Sequence[BaseMessage] = (),
    params: Mapping[str, Any] = MappingProxyType({}),
) -> Answer:
    """Read one model run's result, of which a part may be missing or malformed.

    With n>1 the official models repeat the whole usage on every choice: the first one counts.

    Args:
        result: What ``on_llm_end`` was given.
        provider: LangChain's ``ls_provider``, or the one the endpoint belongs to.
        request_model: The model asked for.
        prompt: The messages sent, for the audio in them.
        params: The invocation's parameters, for the tools in them.
    """
    messages = messages_of(result)
    model = tier = raw = None
    for message in messages:
        metadata = getattr(message, "response_metadata", None)
        if isinstance(metadata, dict):
            model = model or _text(metadata.get("model_name") or metadata.get("model"))
            tier = tier or _text(metadata.get("service_tier"))
        raw = raw or getattr(message, "usage_metadata", None)
    llm_output = getattr(result, "llm_output", None)
    if isinstance(llm_output, dict):
        model = model or _text(llm_output.get("model_name"))
        tier = tier or _text(llm_output.get("service_tier"))
    model = (model or request_model).removeprefix("models/")
    if isinstance(raw, dict) and raw.get("total_cost") == 0:
        # langchain-core marks an answer from its LLM cache by this key, which no provider sends.
        return Answer(model, TokenUsage(), tier, from_cache=True)
    usage = read_usage(raw) if raw else _legacy_usage(_mapping(llm_output), is_text=not messages)
    if usage is None:
        return Answer(model, None, tier)
    usage, exact = complete(usage, messages, provider=provider, model=model, prompt=prompt, params=params)
    return Answer(model, usage, tier, exact=exact)


def complete(
    usage: TokenUsage,
    messages: Sequence[BaseMessage],
    *,
    provider: str,
    model: str,
    prompt: Sequence[BaseMessage],
    params: Mapping[str, Any],
) -> tuple[TokenUsage, bool]:
    """Return a usage with what the answer's messages tell of the bill besides its counts, and whether that is all."""
    if provider in gemini.GOOGLE:
        return gemini.complete(usage, messages, prompt, model)
    return count_server_tools(usage, messages, params, model)


def choices_of(result: LLMResult | None) -> list[Any]:
    """Return all choices of a result, whatever else stands in it."""
    generations = getattr(result, "generations", None)
    found: list[Any] = []
    for choices in generations if isinstance(generations, list) else ():
        if isinstance(choices, list):
            found += choices
    return found


def messages_of(result: LLMResult | None) -> list[BaseMessage]:
    """Return the messages of all choices of a result; a text completion has none."""
    found = []
    for choice in choices_of(result):
        message = getattr(choice, "message", None)
        if message is not None:
            found.append(message)
    return found


def read_usage(raw: object) -> TokenUsage | None:
    """Read LangChain's standard ``usage_metadata``; None where it tells no count.

    OpenAI's ``flex_`` and ``priority_`` detail keys are folded into the plain ones. A detail never exceeds the count it
    lies in: what is beyond it is dropped.

    Source: https://reference.langchain.com/python/langchain_core/messages/#langchain_core.messages.ai.UsageMetadata
    """
    told = _mapping(raw)
    input_tokens, output_tokens = _count(told.get("input_tokens")), _count(told.get("output_tokens"))
    if input_tokens is None and output_tokens is None:
        return None
    counts = {"input_tokens": input_tokens or 0, "output_tokens": output_tokens or 0}
    if details := told.get("input_token_details"):
        counts.update(_input_details(_details(details), counts["input_tokens"]))
    if details := told.get("output_token_details"):
        for name, count in _details(details).items():
            if (field := _OUTPUT_DETAILS.get(name)) is not None:
                counts[field] = min(count, counts["output_tokens"])
    return TokenUsage(**counts)  # type: ignore[arg-type]


def _input_details(details: Mapping[str, int], input_tokens: int) -> dict[str, int]:
    cache_read = min(details.get("cache_read", 0), input_tokens)
    if len(details) == (cache_read > 0):
        return {"cache_read_tokens": cache_read} if cache_read else {}
    five_minutes, one_hour = details.get("ephemeral_5m_input_tokens", 0), details.get("ephemeral_1h_input_tokens", 0)
    # langchain-anthropic sets cache_creation to 0 where it tells the lifetimes.
    created = min(max(details.get("cache_creation", 0), five_minutes + one_hour), input_tokens - cache_read)
    one_hour = min(one_hour, created)
    audio = min(details.get("audio", 0), input_tokens - created)
    return {
        "cache_read_tokens": cache_read,
        "cache_creation_tokens": created,
        "cache_creation_5m_tokens": min(five_minutes, created - one_hour),
        "cache_creation_1h_tokens": one_hour,
        "input_audio_tokens": audio,
        # Nobody tells how much is both; this much must be.
        "cache_read_audio_tokens": max(0, cache_read + created + audio - input_tokens),
    }


def _legacy_usage(llm_output: Mapping[str, Any], *, is_text: bool) -> TokenUsage | None:
    """Read OpenAI's own names from ``llm_output["token_usage"]``, all that text-completion models give.

    Of several prompts in one request LangChain gives the whole usage to the first run and an empty one to the others.
    """
    if is_text and llm_output.get("token_usage") == {}:
        return TokenUsage()
    raw = _mapping(llm_output.get("token_usage") or llm_output.get("usage"))
    return read_usage(
        {
            "input_tokens": raw.get("prompt_tokens", raw.get("input_tokens")),
            "output_tokens": raw.get("completion_tokens", raw.get("output_tokens")),
        }
    )


def _text(value: object) -> str | None:
    return _unrepeated(value) if isinstance(value, str) and value else None


@lru_cache(maxsize=1024)
def _unrepeated(text: str) -> str:
    repeated = _REPEATED.fullmatch(text)
    return repeated[1] if repeated else text


def _mapping(value: object) -> Mapping[str, Any]:
    # LangChain's own are dicts; asking for the abstract type first would cost more than the reading.
    return value if isinstance(value, dict) or (value is not None and isinstance(value, Mapping)) else {}


def _count(value: object) -> int | None:
    """Return a token count, None for anything that cannot be one."""
    if type(value) is int:
        return value if 0 <= value <= _MOST_TOKENS else None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return _count(int(value))
    return None


def _details(details: object) -> dict[str, int]:
    """Return the details above 0, ``flex_`` and ``priority_`` left out of their names."""
    found: dict[str, int] = {}
    for key, value in details.items() if isinstance(details, dict) else ():
        # Most details are 0.
        if value and (count := _count(value)):
            plain = key in _PLAIN_DETAILS
            name = key if plain else str(key).removeprefix("flex_").removeprefix("priority_")
            found[name] = found.get(name, 0) + count
    return found
