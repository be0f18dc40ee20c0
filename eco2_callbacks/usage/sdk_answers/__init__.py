"""Answers of providers' own SDKs, read into the results that LangChain's models give."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.sdk_answers.anthropic import MessageStream, read_message
from eco2_callbacks.usage.sdk_answers.bedrock import (
    CONVERSE_EVENTS,
    ConverseStream,
    has_invocation_counts,
    read_converse,
    read_invocation,
)
from eco2_callbacks.usage.sdk_answers.cohere import CohereStream, is_cohere, is_cohere_event, read_cohere
from eco2_callbacks.usage.sdk_answers.fields import field_of, plain, text_of
from eco2_callbacks.usage.sdk_answers.google import GeminiStream, read_gemini
from eco2_callbacks.usage.sdk_answers.openai import (
    ChatStream,
    ResponsesStream,
    read_agents_result,
    read_chat,
    read_response,
)
from eco2_callbacks.usage.sdk_answers.prompts import prompt_messages, prompt_texts
from eco2_callbacks.usage.sdk_answers.results import combined, new_chunk, new_message, new_result

__all__ = ["SDKStream", "combined", "plain", "prompt_messages", "prompt_texts", "read_sdk_answer", "stream_of"]


_AGENTS_EVENTS = frozenset({"raw_response_event", "run_item_stream_event", "agent_updated_stream_event"})


class SDKStream(Protocol):
    """Collects the chunks of one streamed answer."""

    @property
    def is_complete(self) -> bool:
        """Whether the chunk that ends the answer has come."""

    def add(self, chunk: object) -> ChatGenerationChunk | None:
        """Add a chunk, and return it as LangChain would; None for one without content."""

    def result(self) -> LLMResult:
        """Return the answer so far."""


class TextStream:
    """Streamed text alone, without a usage."""

    is_complete = False

    def __init__(self) -> None:
        self._texts: list[str] = []

    def add(self, chunk: object) -> ChatGenerationChunk | None:
        """Add a text."""
        text = chunk if isinstance(chunk, str) else ""
        self._texts.append(text)
        return new_chunk(text)

    def result(self) -> LLMResult:
        """Return the text so far."""
        return new_result([new_message("".join(self._texts), counted=None)])


def read_sdk_answer(answer: object) -> LLMResult | None:
    """Return an SDK's answer as a result; None for anything else. The answer's shape decides, not its class.

    =====================================================  ====================================
    It has                                                 It is
    =====================================================  ====================================
    ``raw_responses``                                      a result of the Agents SDK
    ``usage_metadata`` or ``candidates``                   Gemini's
    ``type`` of ``message``                                Anthropic's
    ``output`` with a ``message``                          boto3's, of Bedrock's ``converse``
    ``ResponseMetadata`` with headers of tokens            boto3's, of Bedrock's ``invoke_model``
    ``billed_units`` or ``tokens``, in ``usage`` or meta   Cohere's
    ``output`` and ``object`` of ``response``              OpenAI's, of the Responses API
    ``choices`` or ``usage``                               OpenAI's, or of a compatible server
    =====================================================  ====================================

    LangChain's own messages and results are read as well.
    """
    if isinstance(answer, LLMResult):
        return answer
    if isinstance(answer, BaseMessage):
        return new_result([answer])
    if field_of(answer, "raw_responses") is not None:
        return read_agents_result(answer)
    if any(
        field_of(answer, name) is not None
        for name in ("usage_metadata", "usageMetadata", "candidates", "promptFeedback")
    ):
        return read_gemini(answer)
    if text_of(answer, "type") == "message":
        return read_message(answer)
    if isinstance(answer, Mapping) and "message" in as_mapping(answer.get("output")):
        return read_converse(answer)
    if has_invocation_counts(answer):
        return read_invocation(answer)
    if is_cohere(answer):
        return read_cohere(answer)
    if text_of(answer, "object") == "response" or isinstance(field_of(answer, "output"), list):
        return read_response(answer)
    if field_of(answer, "choices") is not None or field_of(answer, "usage") is not None:
        return read_chat(answer)
    return None


def stream_of(chunk: object) -> SDKStream | None:
    """Return what collects the chunks of a stream with this first chunk; None for an unknown kind."""
    if isinstance(chunk, str):
        return TextStream()
    if isinstance(chunk, Mapping) and not CONVERSE_EVENTS.isdisjoint(chunk):
        return ConverseStream()
    kind = text_of(chunk, "type")
    if is_cohere_event(chunk):
        return CohereStream()
    if kind.startswith("response.") or kind in _AGENTS_EVENTS:
        return ResponsesStream()
    if kind.startswith(("message_", "content_block_")) or kind == "ping":
        return MessageStream()
    if (
        kind == "chunk"
        or text_of(chunk, "object") in ("chat.completion.chunk", "text_completion")
        or _has(chunk, "choices")
        or _has(field_of(chunk, "data"), "choices")
    ):
        return ChatStream()
    if any(_has(chunk, name) for name in ("candidates", "usage_metadata", "usageMetadata")):
        return GeminiStream()
    return None


def _has(chunk: Any, name: str) -> bool:
    return field_of(chunk, name) is not None
