"""Reads answers of the cohere SDK: chats of both versions of the API, embeddings, and the events of a streamed chat."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.outputs import ChatGenerationChunk, LLMResult

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.reported import count_of
from eco2_callbacks.usage.sdk_answers.fields import field_of, list_of, name_of, plain, text_of
from eco2_callbacks.usage.sdk_answers.results import counts, new_chunk, new_message, new_result, tool_call

__all__ = ["CohereStream", "is_cohere", "is_cohere_event", "read_cohere"]

_EVENT_PREFIXES = ("message-", "content-", "tool-plan-", "tool-call-", "citation-")


def is_cohere(answer: object) -> bool:
    """Return whether the answer holds Cohere's two kinds of counts: what was billed, and what was processed."""
    parts = (field_of(answer, name) for name in ("usage", "meta"))
    counted = (field_of(part, kind) for part in parts for kind in ("billed_units", "tokens"))
    return any(field_of(units, name) is not None for units in counted for name in ("input_tokens", "output_tokens"))


def is_cohere_event(chunk: object) -> bool:
    """Return whether this is an event of a streamed chat, of either version of the API."""
    return text_of(chunk, "type").startswith(_EVENT_PREFIXES) or bool(text_of(chunk, "event_type"))


def read_cohere(answer: object) -> LLMResult:
    """Read an answer. It names no model: the requested one counts."""
    message = field_of(answer, "message")
    blocks = [
        {"type": text_of(block, "type") or "text", "text": text_of(block, "text") or text_of(block, "thinking")}
        for block in list_of(message, "content")
    ]
    calls = list_of(message, "tool_calls") or list_of(answer, "tool_calls")
    counted = as_mapping(plain(field_of(answer, "usage") or field_of(answer, "meta")))
    usage = _usage(counted)
    return new_result(
        [
            new_message(
                blocks or text_of(answer, "text"),
                counted=usage,
                tool_calls=[_tool_call(call) for call in calls],
                id=name_of(answer, "generation_id") or name_of(answer, "id"),
                # As langchain-cohere tells it, where the billed units are known.
                token_count=usage if "billed_units" in counted else None,
            )
        ]
    )


class CohereStream:
    """The events of a streamed chat: the last one holds the usage, or the whole answer in the API's first version."""

    def __init__(self) -> None:
        self._texts: list[str] = []
        self._calls: list[dict[str, str]] = []
        self._id: str | None = None
        self._usage: object = None
        self._whole: object = None
        self.is_complete = False

    def add(self, event: object) -> ChatGenerationChunk | None:
        """Add an event, and return it as LangChain would; None for one without content."""
        kind = text_of(event, "type") or text_of(event, "event_type")
        self._id = self._id or name_of(event, "id") or name_of(event, "generation_id")
        message = field_of(field_of(event, "delta"), "message")
        if kind in ("message-end", "stream-end"):
            self.is_complete = True
            self._whole = field_of(event, "response")
            self._usage = field_of(field_of(event, "delta"), "usage")
            return new_chunk("", usage=_usage(as_mapping(plain(self._usage))))
        if kind.startswith("tool-call-"):
            return self._add_call(field_of(field_of(message, "tool_calls"), "function"), is_new=kind.endswith("start"))
        content = field_of(message, "content")
        text = text_of(content, "text") or text_of(content, "thinking") or text_of(message, "tool_plan")
        if kind == "text-generation":
            text = text_of(event, "text")
        if not text:
            return None
        self._texts.append(text)
        return new_chunk(text)

    def result(self) -> LLMResult:
        """Return the answer so far."""
        if self._whole is not None:
            return read_cohere(self._whole)
        calls = [{"function": call} for call in self._calls]
        message = {"content": [{"type": "text", "text": "".join(self._texts)}], "tool_calls": calls}
        return read_cohere({"id": self._id, "message": message, "usage": self._usage})

    def _add_call(self, function: object, *, is_new: bool) -> ChatGenerationChunk:
        name, arguments = text_of(function, "name"), text_of(function, "arguments")
        if is_new or not self._calls:
            self._calls.append({"name": name, "arguments": ""})
        self._calls[-1]["arguments"] += arguments
        return new_chunk("", tool_name=name, tool_args=arguments)


def _tool_call(call: object) -> dict[str, Any]:
    function = field_of(call, "function")
    if function is not None:
        return tool_call(text_of(function, "name"), field_of(function, "arguments"))
    return tool_call(text_of(call, "name"), plain(field_of(call, "parameters")))


def _usage(counted: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return what was billed in LangChain's names; what was processed holds Cohere's own prompt, which is not billed.

    https://docs.cohere.com/v2/docs/rate-limits names the units that are billed.
    """
    billed = as_mapping(counted.get("billed_units")) or as_mapping(counted.get("tokens"))
    texts, output_tokens = count_of(billed.get("input_tokens")), count_of(billed.get("output_tokens"))
    if texts is None and output_tokens is None:
        return None
    images = count_of(billed.get("image_tokens")) or 0  # of an embedding
    return counts(input_tokens=(texts or 0) + images, output_tokens=output_tokens or 0)
