"""Reads answers of boto3's client for Amazon Bedrock: ``converse``, its streams, and headers of ``invoke_model``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_list, as_mapping, as_text
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.sdk_answers.results import counts_beside_cache, new_chunk, new_message, new_result, tool_call

__all__ = ["CONVERSE_EVENTS", "ConverseStream", "has_invocation_counts", "read_converse", "read_invocation"]

CONVERSE_EVENTS = frozenset(
    {"messageStart", "contentBlockStart", "contentBlockDelta", "contentBlockStop", "messageStop", "metadata"}
)
# https://docs.aws.amazon.com/bedrock/latest/userguide/inference-invoke.html: each model's body has a shape of its own,
# the headers are the same for all.
_COUNT_HEADERS = {
    "x-amzn-bedrock-input-token-count": "inputTokens",
    "x-amzn-bedrock-output-token-count": "outputTokens",
    "x-amzn-bedrock-cache-read-input-token-count": "cacheReadInputTokens",
    "x-amzn-bedrock-cache-write-input-token-count": "cacheWriteInputTokens",
}


def read_converse(answer: Mapping[str, Any]) -> LLMResult:
    """Read an answer of ``converse``. It names no model: the requested one counts."""
    content = as_list(as_mapping(as_mapping(answer.get("output")).get("message")).get("content"))
    blocks = [block for block in content if isinstance(block, Mapping)]
    texts = [{"type": kind, "text": text} for block in blocks for kind, text in _texts_of(block)]
    calls = [as_mapping(block.get("toolUse")) for block in blocks if "toolUse" in block]
    return new_result(
        [
            new_message(
                texts,
                counted=_usage(as_mapping(answer.get("usage"))),
                tool_calls=[tool_call(as_text(call.get("name")), call.get("input")) for call in calls],
                id=_headers_of(answer).get("x-amzn-requestid"),
                serviceTier=answer.get("serviceTier"),
                performanceConfig=answer.get("performanceConfig"),
                usage=answer.get("usage"),
            )
        ]
    )


def has_invocation_counts(answer: object) -> bool:
    """Return whether this is an answer of ``invoke_model`` whose headers tell the tokens."""
    return not _COUNT_HEADERS.keys().isdisjoint(_headers_of(answer))


def read_invocation(answer: object) -> LLMResult:
    """Read an answer of ``invoke_model`` by its headers: the body is a stream that belongs to the application.

    boto3 gives the tier and the latency as plain texts, which take the shape of ``converse``.
    """
    fields, headers = as_mapping(answer), _headers_of(answer)
    tier, latency = as_text(fields.get("serviceTier")), as_text(fields.get("performanceConfigLatency"))
    usage = {name: _count_of_text(headers[header]) for header, name in _COUNT_HEADERS.items() if header in headers}
    return new_result(
        [
            new_message(
                "",
                counted=_usage(usage),
                id=headers.get("x-amzn-requestid"),
                serviceTier={"type": tier} if tier else None,
                performanceConfig={"latency": latency} if latency else None,
            )
        ]
    )


class ConverseStream:
    """The events of ``converse_stream``: the last one holds the usage."""

    def __init__(self) -> None:
        self._texts: dict[str, str] = {}
        self._calls: list[dict[str, str]] = []
        self._metadata: Mapping[str, Any] = {}

    @property
    def is_complete(self) -> bool:
        """Whether the event with the usage has come."""
        return bool(self._metadata)

    def add(self, event: object) -> ChatGenerationChunk | None:
        """Add an event, and return it as LangChain would; None for one without content."""
        fields = as_mapping(event)
        if metadata := as_mapping(fields.get("metadata")):
            self._metadata = metadata
            return new_chunk("", usage=_usage(as_mapping(metadata.get("usage"))))
        start = as_mapping(as_mapping(fields.get("contentBlockStart")).get("start"))
        if called := as_mapping(start.get("toolUse")):
            self._calls.append({"name": as_text(called.get("name")), "input": ""})
            return new_chunk("", tool_name=self._calls[-1]["name"])
        delta = as_mapping(as_mapping(fields.get("contentBlockDelta")).get("delta"))
        if arguments := as_text(as_mapping(delta.get("toolUse")).get("input")):
            if self._calls:
                self._calls[-1]["input"] += arguments
            return new_chunk("", tool_args=arguments)
        for kind, text in _texts_of(delta):
            self._texts[kind] = self._texts.get(kind, "") + text
            return new_chunk(text)
        return None

    def result(self) -> LLMResult:
        """Return the answer so far."""
        content: list[dict[str, Any]] = [{"toolUse": call} for call in self._calls]
        if thoughts := self._texts.get("thinking"):
            content.append({"reasoningContent": {"text": thoughts}})
        if text := self._texts.get("text"):
            content.append({"text": text})
        return read_converse({**self._metadata, "output": {"message": {"content": content}}})


def _texts_of(block: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return a block's text, or a delta's, with its kind; a whole block wraps its thoughts once more."""
    if text := as_text(block.get("text")):
        return [("text", text)]
    thought = as_mapping(block.get("reasoningContent"))
    text = as_text(thought.get("text")) or as_text(as_mapping(thought.get("reasoningText")).get("text"))
    return [("thinking", text)] if text else []


def _headers_of(answer: object) -> Mapping[str, str]:
    headers = as_mapping(as_mapping(as_mapping(answer).get("ResponseMetadata")).get("HTTPHeaders"))
    return {str(name).lower(): value for name, value in headers.items() if isinstance(value, str)}


def _count_of_text(text: str) -> int | None:
    return count_of(int(text)) if text.isascii() and text.isdecimal() and len(text) <= 12 else None


def _usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Bedrock's usage in LangChain's names: there the input holds the cached tokens, here they lie beside it.

    https://docs.aws.amazon.com/bedrock/latest/userguide/prompt-caching.html
    """
    fresh, output = count_of(usage.get("inputTokens")), count_of(usage.get("outputTokens"))
    if fresh is None and output is None:
        return None
    # A Nova model's own body says TokenCount.
    read, created = (
        count_of(usage.get(name)) or count_of(usage.get(f"{name.removesuffix('s')}Count")) or 0
        for name in ("cacheReadInputTokens", "cacheWriteInputTokens")
    )
    by_lifetime = {
        lifetime: sum(
            count_of(detail.get("inputTokens")) or 0
            for detail in map(as_mapping, as_list(usage.get("cacheDetails")))
            if detail.get("ttl") == lifetime
        )
        for lifetime in ("5m", "1h")
    }
    return counts_beside_cache(
        fresh=fresh or 0,
        output=output or 0,
        read=read,
        created=created,
        created_5m=by_lifetime["5m"],
        created_1h=by_lifetime["1h"],
    )
