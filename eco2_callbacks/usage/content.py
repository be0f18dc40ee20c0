"""Reads LangChain's messages and content blocks, in which any field may be missing or malformed."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from typing import Any

from langchain_core.messages import BaseMessage

__all__ = [
    "as_list",
    "as_mapping",
    "as_text",
    "blocks_of",
    "compact_json",
    "media_kind",
    "message_text",
    "tool_calls_of",
]

# The fields of a content block that hold its text.
_TEXT_FIELDS = ("text", "thinking", "reasoning", "refusal")


def as_mapping(value: object) -> Mapping[str, Any]:
    """Return a value that is a mapping, an empty mapping for anything else."""
    # Nearly all are dicts: asking the abstract type first would cost more than the reading.
    return value if isinstance(value, dict) or (value is not None and isinstance(value, Mapping)) else {}


def as_list(value: object) -> list[Any]:
    """Return a value that is a list, an empty list for anything else."""
    return value if isinstance(value, list) else []


def as_text(value: object) -> str:
    """Return a string or the value of a string enum, ``""`` for anything else; a subclass's own code does not run."""
    if type(value) is str:
        return value
    if isinstance(value, Enum):
        value = value.value
    return str.__str__(value) if isinstance(value, str) else ""


def blocks_of(messages: Iterable[BaseMessage]) -> Iterator[Mapping[str, Any]]:
    """Yield the content blocks of messages; text without a block is left out."""
    for message in messages:
        for block in as_list(getattr(message, "content", None)):
            if isinstance(block, Mapping):
                yield block


def media_kind(block: Mapping[str, Any]) -> str:
    """Return ``image`` or ``audio`` for a block that holds one, whether LangChain or a provider named its type."""
    kind = str(block.get("type")).removeprefix("input_").removesuffix("_url")
    return str(block.get("mime_type")).partition("/")[0] if kind == "media" else kind


def message_text(message: BaseMessage) -> str:
    """Return all text of a message: content, reasoning, refusal, and the names and arguments of its tool calls."""
    content = getattr(message, "content", "")
    texts = [content] if isinstance(content, str) else []
    texts += [block if isinstance(block, str) else _block_text(block) for block in as_list(content)]
    texts += [f"{call.get('name') or ''}{compact_json(call.get('args') or '')}" for call in tool_calls_of(message)]
    refusal = as_mapping(getattr(message, "additional_kwargs", None)).get("refusal")
    return "".join([*texts, refusal if isinstance(refusal, str) else ""])


def tool_calls_of(message: BaseMessage) -> list[Mapping[str, Any]]:
    """Return the tool calls of a message."""
    # While a call streams, its arguments are not yet JSON: only the chunks hold all of them.
    calls = as_list(getattr(message, "tool_call_chunks", None)) or as_list(getattr(message, "tool_calls", None))
    return [call for call in calls if isinstance(call, Mapping)]


def compact_json(value: object) -> str:
    """Return a value as JSON without spaces; a string stays as it is."""
    if isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)


def _block_text(block: object) -> str:
    fields = as_mapping(block)
    return next((text for key in _TEXT_FIELDS if isinstance(text := fields.get(key), str)), "")
