"""Reads answers of the anthropic SDK: messages, and the events of a streamed one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_list, as_mapping
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.sdk_answers.fields import field_of, name_of, plain, text_of
from eco2_callbacks.usage.sdk_answers.results import (
    counts,
    counts_beside_cache,
    new_chunk,
    new_message,
    new_result,
    tool_call,
)

__all__ = ["MessageStream", "read_message"]


def read_message(answer: object) -> LLMResult:
    """Read a message."""
    usage = as_mapping(plain(field_of(answer, "usage")))
    blocks = [block for block in as_list(plain(field_of(answer, "content"))) if isinstance(block, dict)]
    message = new_message(
        [block for block in blocks if block.get("type") != "tool_use"],
        counted=_usage(usage),
        tool_calls=[
            tool_call(str(block.get("name") or ""), block.get("input"))
            for block in blocks
            if block.get("type") == "tool_use"
        ],
        model_name=_fallback_model(usage) or name_of(answer, "model"),
        id=name_of(answer, "id"),
        stop_reason=name_of(answer, "stop_reason"),
        stop_details=plain(field_of(answer, "stop_details")),
        **({"usage": dict(usage)} if usage else {}),
    )
    return new_result([message])


class MessageStream:
    """Streamed events of a message. Each usage repeats the counts so far; one that names no input keeps it."""

    def __init__(self) -> None:
        self._fields: dict[str, Any] = {}
        self._blocks: dict[int, dict[str, Any]] = {}
        self._usage: dict[str, Any] = {}
        self._shown: dict[str, int] = {"input_tokens": 0, "output_tokens": 0}
        self._final: object = None
        self.is_complete = False

    def add(self, event: object) -> ChatGenerationChunk | None:
        """Add an event, and return it as LangChain would; None for one without content.

        The SDK's helper adds events of its own (``text``, ...) that repeat the deltas; its last one holds the message.
        """
        kind = text_of(event, "type")
        if kind == "message_start":
            message = field_of(event, "message")
            self._fields = {name: name_of(message, name) for name in ("id", "model")}
            return self._add_usage(field_of(message, "usage"))
        if kind == "message_delta":
            delta = field_of(event, "delta")
            self._fields |= {name: field_of(delta, name) for name in ("stop_reason", "stop_details")}
            return self._add_usage(field_of(event, "usage"))
        if kind == "message_stop":
            self.is_complete = True
            self._final = field_of(event, "message")
        elif kind == "content_block_start":
            block = as_mapping(plain(field_of(event, "content_block")))
            self._blocks[self._index(event)] = dict(block)
            return new_chunk("", tool_name=str(block.get("name") or "")) if block.get("type") == "tool_use" else None
        elif kind == "content_block_delta":
            return self._add_delta(self._index(event), field_of(event, "delta"))
        return None

    def result(self) -> LLMResult:
        """Return the answer so far."""
        if self._final is not None:
            return read_message(self._final)
        content = [self._blocks[index] for index in sorted(self._blocks)]
        return read_message({**self._fields, "content": content, "usage": self._usage})

    def _index(self, event: object) -> int:
        return count_of(field_of(event, "index")) or 0

    def _add_usage(self, usage: object) -> ChatGenerationChunk:
        """Add a usage, and return a chunk with what it adds: LangChain's chunks add up."""
        self._usage.update(as_mapping(plain(usage)))
        now = _usage(self._usage) or {}
        added = {key: max(0, now.get(key, 0) - shown) for key, shown in self._shown.items()}
        self._shown = {key: now.get(key, 0) for key in self._shown}
        details = now.get("input_token_details") if added["input_tokens"] else None
        shown = counts(**added, input_token_details=details or {})
        return new_chunk("", usage=shown)

    def _add_delta(self, index: int, delta: object) -> ChatGenerationChunk | None:
        block = self._blocks.setdefault(index, {"type": "text", "text": ""})
        for source, field in (("text", "text"), ("thinking", "thinking")):
            if text := text_of(delta, source):
                block[field] = str(block.get(field) or "") + text
                return new_chunk(text)
        if arguments := text_of(delta, "partial_json"):
            block["input"] = (block["input"] if isinstance(block.get("input"), str) else "") + arguments
            return new_chunk("", tool_args=arguments)
        return None


def _fallback_model(usage: Mapping[str, Any]) -> str | None:
    """Return the fallback model that completed the answer: a stream has begun with the name of another one."""
    iterations = (as_mapping(iteration) for iteration in as_list(usage.get("iterations")))
    served_by = (each.get("model") for each in iterations if each.get("type") == "fallback_message")
    return next((model for model in served_by if isinstance(model, str)), None)


def _usage(usage: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return Anthropic's usage in LangChain's names: there the input holds the cached tokens."""
    fresh, output = count_of(usage.get("input_tokens")), count_of(usage.get("output_tokens"))
    if fresh is None and output is None:
        return None
    split = as_mapping(usage.get("cache_creation"))
    return counts_beside_cache(
        fresh=fresh or 0,
        output=output or 0,
        read=count_of(usage.get("cache_read_input_tokens")) or 0,
        created=count_of(usage.get("cache_creation_input_tokens")) or 0,
        created_5m=count_of(split.get("ephemeral_5m_input_tokens")) or 0,
        created_1h=count_of(split.get("ephemeral_1h_input_tokens")) or 0,
    )
