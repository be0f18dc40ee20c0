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

__all__ = ["Answer", "Reading", "choices_of", "count_of", "messages_of", "read_answer", "read_counts", "read_usage"]

# No context window comes near it. A larger count is an error of a provider or proxy.
_MAX_TOKENS = 10**12
# OpenAI's 128 choices of a name of 64 characters. Anything longer is no streamed repetition of a name.
_MAX_REPEATED_LENGTH = 8192
_PLAIN_DETAILS = frozenset({"audio", "cache_read", "reasoning"})
_OUTPUT_DETAILS = {"reasoning": "reasoning_tokens", "audio": "output_audio_tokens", "image": "output_image_tokens"}
_NOTHING: Mapping[str, Any] = {}
# Where the official models put the provider's own usage: OpenAI's name, Anthropic's, Vertex AI's and Cohere's.
_REPORTED_KEYS = ("token_usage", "usage", "usage_metadata", "token_count")


class Reading(NamedTuple):
    """A usage, and whether the report agrees with itself."""

    usage: TokenUsage
    is_consistent: bool = True


class Answer(NamedTuple):
    """What a finished model run reports.

    Attributes:
        model: The model that answered, or the requested model where the answer names none.
        usage: None where the answer reports none.
        service_tier: The tier that served it; None where the answer names none.
        from_cache: Answered by LangChain's LLM cache.
        messages: The messages of all choices.
        is_consistent: Whether the counts of ``usage`` agree with each other.
        raw_usage: LangChain's ``usage_metadata``.
        metadata: ``response_metadata`` of the first choice.
        reported: The provider's own usage, where the answer still holds it.
        response_id: The provider's id of the answer.
    """

    model: str
    usage: TokenUsage | None = None
    service_tier: str | None = None
    from_cache: bool = False
    messages: Sequence[BaseMessage] = ()
    is_consistent: bool = True
    raw_usage: Mapping[str, Any] = _NOTHING
    metadata: Mapping[str, Any] = _NOTHING
    reported: Mapping[str, Any] = _NOTHING
    response_id: str | None = None


def read_answer(result: LLMResult | None, *, request_model: str) -> Answer:
    """Read one model run's result, in which any part may be missing or malformed.

    With n>1 the official models repeat the whole usage on every choice: the first one counts.

    Args:
        result: The argument of ``on_llm_end``.
        request_model: The requested model.
    """
    messages = messages_of(result)
    model = tier = raw = None
    first: Mapping[str, Any] = _NOTHING
    for message in messages:
        metadata = getattr(message, "response_metadata", None)
        if isinstance(metadata, dict):
            first = first or metadata
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
    reported = _reported(first) or (_reported(llm_output) if isinstance(llm_output, dict) else _NOTHING)
    if tier is None:
        # Anthropic and Mistral name it inside the usage, Bedrock in an object.
        tier = _name(reported.get("service_tier")) or _name(as_mapping(first.get("serviceTier")).get("type"))
    reading = read_counts(raw) if raw else _legacy_usage(as_mapping(llm_output), reported, is_text=not messages)
    usage, is_consistent = (None, True) if reading is None else reading
    raw_usage = raw if isinstance(raw, dict) else _NOTHING
    response_id = _response_id(first, messages)
    return Answer(model, usage, tier, False, messages, is_consistent, raw_usage, first, reported, response_id)


def choices_of(result: LLMResult | None) -> list[Any]:
    """Return all choices of a result, which may be malformed."""
    found: list[Any] = []
    for choices in as_list(getattr(result, "generations", None)):
        if isinstance(choices, list):
            found += choices
    return found


def messages_of(result: LLMResult | None) -> list[BaseMessage]:
    """Return the messages of all choices of a result; a text completion has none."""
    generations = getattr(result, "generations", None)
    if type(generations) is list and len(generations) == 1 and len(choices := as_list(generations[0])) == 1:
        message = getattr(choices[0], "message", None)
        return [] if message is None else [message]
    messages = (getattr(choice, "message", None) for choice in choices_of(result))
    return [message for message in messages if message is not None]


def read_usage(raw: object) -> TokenUsage | None:
    """Read LangChain's standard ``usage_metadata``; None where it holds no count.

    As ``read_counts``, without its judgement.
    """
    reading = read_counts(raw)
    return None if reading is None else reading.usage


def read_counts(raw: object, *, details_beside: bool = False) -> Reading | None:
    """Read LangChain's standard ``usage_metadata``; None where it holds no count.

    OpenAI's ``flex_`` and ``priority_`` detail keys are folded into the plain ones. Then the counts are compared:

    ==========================================  =========================================================
    ``total_tokens`` exceeds input plus output  the details that explain the rest lie beside the counts
    by what no detail explains                  the rest counts as output, and the report is inconsistent
    a detail exceeds the count it lies in       it is cut, and the report is inconsistent
    ==========================================  =========================================================

    Args:
        raw: The metadata.
        details_beside: Whether a detail that exceeds its count lies beside it, as the provider documents.

    Source: https://reference.langchain.com/python/langchain_core/messages/#langchain_core.messages.ai.UsageMetadata
    """
    fields = as_mapping(raw)
    input_tokens, output_tokens = count_of(fields.get("input_tokens")), count_of(fields.get("output_tokens"))
    if input_tokens is None and output_tokens is None:
        return None
    input_tokens, output_tokens = input_tokens or 0, output_tokens or 0
    within_input = _details(details) if (details := fields.get("input_token_details")) else None
    within_output = _details(details) if (details := fields.get("output_token_details")) else None
    is_consistent = True
    reasoning = within_output.get("reasoning", 0) if within_output else 0
    cached = _cached(within_input) if within_input else 0
    beside = (count_of(fields.get("total_tokens")) or 0) - input_tokens - output_tokens
    if beside > 0:
        if beside in (reasoning, reasoning + cached):
            output_tokens += reasoning
            input_tokens += beside - reasoning
        elif beside == cached:
            input_tokens += cached
        else:
            output_tokens += beside
            is_consistent = False
    elif details_beside and (reasoning > output_tokens or cached > input_tokens):
        output_tokens += reasoning if reasoning > output_tokens else 0
        input_tokens += cached if cached > input_tokens else 0
    counts = {"input_tokens": input_tokens, "output_tokens": output_tokens}
    if within_input:
        counts.update(_input_details(within_input, input_tokens))
        if cached > input_tokens or within_input.get("audio", 0) > input_tokens:
            is_consistent = False
    if within_output:
        for name, count in within_output.items():
            if (field := _OUTPUT_DETAILS.get(name)) is not None:
                if count > output_tokens:
                    count, is_consistent = output_tokens, False  # noqa: PLW2901
                counts[field] = count
    return Reading(TokenUsage(**counts), is_consistent)  # type: ignore[arg-type]


def _cached(details: Mapping[str, int]) -> int:
    if len(details) == 1 and "cache_read" in details:
        return details["cache_read"]
    created = details.get("ephemeral_5m_input_tokens", 0) + details.get("ephemeral_1h_input_tokens", 0)
    return details.get("cache_read", 0) + max(details.get("cache_creation", 0), created)


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


def _reported(metadata: Mapping[str, Any]) -> Mapping[str, Any]:
    if (found := metadata.get("token_usage")) and type(found) is dict:
        return found
    for key in _REPORTED_KEYS:
        if (found := metadata.get(key)) and isinstance(found, dict):
            return found
    return _NOTHING


def _response_id(metadata: Mapping[str, Any], messages: Sequence[BaseMessage]) -> str | None:
    found = metadata.get("id")
    if not found and messages:
        found = getattr(messages[0], "id", None)
    # LangChain makes ids of its own where the provider's is lost.
    return found if isinstance(found, str) and found and not found.startswith(("run-", "lc_run-")) else None


def _legacy_usage(llm_output: Mapping[str, Any], reported: Mapping[str, Any], *, is_text: bool) -> Reading | None:
    """Read the provider's own usage, all that text-completion models and some streams give.

    Of several prompts in one request LangChain gives the whole usage to the first run and an empty one to the others.
    """
    if is_text and llm_output.get("token_usage") == {}:
        return Reading(TokenUsage())
    raw = as_mapping(llm_output.get("token_usage") or llm_output.get("usage")) or reported
    return read_counts(
        {
            "input_tokens": raw.get("prompt_tokens", raw.get("input_tokens")),
            "output_tokens": raw.get("completion_tokens", raw.get("output_tokens")),
            "total_tokens": raw.get("total_tokens"),
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


def count_of(value: object) -> int | None:
    """Return a token count, None for anything that cannot be one."""
    if type(value) is int:
        return value if 0 <= value <= _MAX_TOKENS else None
    if isinstance(value, float) and math.isfinite(value) and value.is_integer():
        return count_of(int(value))
    return None


def _details(details: object) -> dict[str, int]:
    """Return the details above 0, their names without ``flex_`` and ``priority_``."""
    found: dict[str, int] = {}
    for key, value in details.items() if isinstance(details, dict) else ():
        # Most details are 0.
        if value and (count := count_of(value)):
            plain = key in _PLAIN_DETAILS
            name = key if plain else str(key).removeprefix("flex_").removeprefix("priority_")
            found[name] = found.get(name, 0) + count
    return found
