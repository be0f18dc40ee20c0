"""Reads answers the way that billing does: what is reported, then the units that no count reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

from langchain_core.messages import BaseMessage
from langchain_core.outputs import LLMResult

from eco2_callbacks import TokenUsage, usage

NO_PARAMS: Mapping[str, Any] = MappingProxyType({})


class Answer(NamedTuple):
    """What an answer reports, its usage with the unreported units; ``exact`` is whether that is the whole bill."""

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
    params: Mapping[str, Any] = NO_PARAMS,
) -> Answer:
    answer = usage.read_answer(result, request_model=request_model)
    counts, exact = answer.usage, True
    if counts is not None and not answer.from_cache:
        counts, exact = usage.rules_for(provider).add_unreported_usage(
            counts, answer.messages, prompt=prompt, params=params, model=answer.model
        )
    return Answer(answer.model, counts, answer.service_tier, answer.from_cache, exact)


def add_server_tools(
    counts: TokenUsage, messages: Sequence[BaseMessage], params: Mapping[str, Any], model: str
) -> tuple[TokenUsage, bool]:
    rules = usage.rules_for("anthropic" if model.startswith("claude") else "openai")
    return rules.add_unreported_usage(counts, messages, prompt=(), params=params, model=model)


def add_gemini_usage(
    counts: TokenUsage, answers: Sequence[BaseMessage], prompt: Sequence[BaseMessage], model: str
) -> tuple[TokenUsage, bool]:
    return usage.rules_for("google_genai").add_unreported_usage(
        counts, answers, prompt=prompt, params=NO_PARAMS, model=model
    )


def image_tokens(block: Mapping[str, Any], *, provider: str, model: str, resolution: str = "") -> int:
    return usage.rules_for(provider).image_tokens(block, model=model, params={"media_resolution": resolution})
