"""OpenAI's rules, for Azure too: endpoints, server tools, images and the tokens around messages."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from langchain_core.messages import BaseMessage
from msgspec.structs import replace

from eco2_callbacks.usage.content import as_list, as_mapping
from eco2_callbacks.usage.providers.base import Context, Exchange, ProviderRules, context_of, pixels_of
from eco2_callbacks.usage.providers.openai_images import openai_image_tokens
from eco2_callbacks.usage.server_tools import add_server_tools, server_tool_calls
from eco2_callbacks.usage.token_usage import TokenUsage

__all__ = ["OpenAIRules"]

_AZURE = "azure"
# "gpt-4.1-2025-04-14", a tuned one with more behind it.
_SNAPSHOT = re.compile(r"(.+?)-\d{4}-\d{2}-\d{2}")
# The tools that run in a container, and the key of its description.
_CONTAINER_KEYS = {"code_interpreter": "container", "shell": "environment"}
# Chat Completions models that search on every request without a mark in the answer.
_SEARCH_MODELS = ("-search-preview", "-search-api")
# These bill images in the prompt at a rate of their own. https://developers.openai.com/api/docs/pricing#image-tokens
_IMAGE_RATE_MODELS = re.compile(r"(?:chat)?gpt-(?:image|realtime)")
# OpenAI adds three tokens to a message and one for its role, which reasoning models do without; the reply begins with
# three. https://cookbook.openai.com/examples/how_to_count_tokens_with_tiktoken_for_chat_completions
_MESSAGE_TOKENS = 4
_REASONING_MESSAGE_TOKENS = 3
_REPLY_TOKENS = 3
_REASONING_MODELS = re.compile(r"o\d|gpt-5|codex")
# Marks around an answer and around a function call are billed, and documented nowhere. Recorded answers of gpt-5 to
# gpt-5.6 were billed 3 to 5 for an answer and 11 to 17 for a call; calls of older models 8.
_MARKING_MODELS = re.compile(r"gpt-5")
_ANSWER_TOKENS = 4
_CALL_TOKENS = 12
_OLDER_CALL_TOKENS = 8


class OpenAIRules(ProviderRules):
    """OpenAI and Azure OpenAI."""

    names: ClassVar[frozenset[str]] = frozenset({"openai", "openai-codex", "azure"})
    # https://platform.openai.com/docs/guides/realtime-costs
    audio_tokens_per_second: ClassVar[int] = 10

    def price_context(self, exchange: Exchange, service_tier: str | None) -> Context:
        """Return the service tier, the endpoint's region and the size of a code interpreter's container."""
        tools = exchange.params.get("tools")
        if not exchange.region and not tools:
            return super().price_context(exchange, service_tier)
        containers = (as_mapping(container) for container in _containers(exchange.params))
        sizes = {memory for each in containers if isinstance(memory := each.get("memory_limit"), str)}
        memory = max(sizes, key=len) if sizes else None
        return context_of({"service_tier": service_tier, "region": exchange.region, "container_memory": memory})

    def is_same_model(self, exchange: Exchange, name: str) -> bool:
        """Return whether a name is the answering model's; a deployment on Azure can have any other model's name.

        An answer without a date names no model's snapshot, but a deployment: then the request's name counts.
        """
        if self.provider != _AZURE or (snapshot := _SNAPSHOT.match(exchange.answer.model)) is None:
            return True
        return name in (exchange.answer.model, snapshot[1])

    def sampling_limit(self, exchange: Exchange) -> tuple[int, int | None]:
        """Return one more than the calls of hosted tools: the input of a Responses answer is the sum over them."""
        return 1 + len(server_tool_calls(exchange.answer.messages)), None

    def is_incomplete(self, usage: TokenUsage, exchange: Exchange) -> bool:
        """Return whether a hosted shell may have opened a container: langchain-openai drops its calls."""
        if not exchange.params.get("tools"):
            return False
        may_open = any(as_mapping(each).get("type") == "container_auto" for each in _containers(exchange.params))
        return may_open and not any(call.tool == "shell" for call in server_tool_calls(exchange.answer.messages))

    def add_unreported_usage(
        self,
        usage: TokenUsage,
        answers: Sequence[BaseMessage],
        *,
        prompt: Sequence[BaseMessage],
        params: Mapping[str, Any],
        model: str,
    ) -> tuple[TokenUsage, bool]:
        """Return the usage with its server tool calls; a search model searches once where the answer shows no search.

        A container that the request named was paid for when it was made. Images sent to an image or realtime model
        are billed as text, which is less than their own rate.
        """
        if calls := server_tool_calls(answers):
            usage = add_server_tools(usage, calls, reused_containers=_named_containers(params))
        if "-search-" in model and not usage.web_searches and any(mark in model for mark in _SEARCH_MODELS):
            usage = replace(usage, web_searches=1)
        has_unrated_image = _IMAGE_RATE_MODELS.match(model) is not None and _has_image_input(answers)
        return usage, not usage.image_generations and not has_unrated_image

    def image_tokens(self, block: Mapping[str, Any], *, model: str, params: Mapping[str, Any]) -> int:
        """Return the tokens of an image by the model's rule and the image's ``detail``."""
        detail = block.get("detail") or as_mapping(block.get("image_url")).get("detail")
        return openai_image_tokens(*pixels_of(block), model=model, detail=str(detail or "auto"))

    def message_overhead_tokens(self, messages: int, model: str) -> int:
        """Return the tokens around messages and before the reply."""
        each = _REASONING_MESSAGE_TOKENS if _REASONING_MODELS.match(model) else _MESSAGE_TOKENS
        return each * messages + _REPLY_TOKENS

    def answer_overhead_tokens(self, tool_calls: int, model: str) -> int:
        """Return the tokens around tool calls, or around an answer without any."""
        if _MARKING_MODELS.match(model):
            return tool_calls * _CALL_TOKENS or _ANSWER_TOKENS
        return tool_calls * _OLDER_CALL_TOKENS


def _containers(params: Mapping[str, Any]) -> Iterator[Any]:
    """Yield the container of each tool that runs in one, as the request describes it."""
    for tool in as_list(params.get("tools")):
        if (key := _CONTAINER_KEYS.get(str(as_mapping(tool).get("type")))) is not None:
            yield tool.get(key)


def _has_image_input(answers: Sequence[BaseMessage]) -> bool:
    counted = (as_mapping(getattr(message, "usage_metadata", None)) for message in answers)
    return any(as_mapping(each.get("input_token_details")).get("image") for each in counted)


def _named_containers(params: Mapping[str, Any]) -> set[str]:
    names = (each if isinstance(each, str) else as_mapping(each).get("container_id") for each in _containers(params))
    return {name for name in names if isinstance(name, str)}
