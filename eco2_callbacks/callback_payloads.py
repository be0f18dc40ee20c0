"""Reads what LangChain passes to a handler's callbacks: names, decisions, and the content of streamed parts."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, GenerationChunk, LLMResult

__all__ = ["decision_result", "has_content", "name_of", "text_of_part"]

_NO_CONTENT = frozenset({"type", "id", "index"})


def name_of(serialized: Mapping[str, Any] | None, kwargs: Mapping[str, Any]) -> str:
    """Return the name of a tool or retriever; ``""`` where there is none."""
    name = kwargs.get("name") or (serialized or {}).get("name")
    return name if isinstance(name, str) else ""


def decision_result(outputs: Any) -> LLMResult:
    """Return a decision model's answer as a model result; its usage stands in ``outputs.usage``."""
    usage = getattr(outputs, "usage", None)
    message = AIMessage(content="", response_metadata={"model_name": getattr(outputs, "model", None)})
    message.usage_metadata = None if usage is None else dict(usage)  # type: ignore[assignment]
    return LLMResult(generations=[[ChatGeneration(message=message)]])


def text_of_part(part: Mapping[str, Any], *keys: str) -> str:
    """Return what a part of a v3 stream adds to the answer's text and tool calls."""
    return "".join(text for key in keys if isinstance(text := part.get(key), str))


def has_content(token: str | list[str | dict[str, Any]], chunk: GenerationChunk | ChatGenerationChunk | None) -> bool:
    """Return whether a chunk that is no plain text has content: a block's text, a tool call, an image."""
    message = getattr(chunk, "message", None)
    if message is None:
        content: Any = token
    elif getattr(message, "tool_call_chunks", None):
        return True
    else:
        content = message.content
    return bool(content) if isinstance(content, str) else any(map(_is_filled, content))


def _is_filled(block: str | dict[str, Any]) -> bool:
    """Return whether a block has content: OpenAI's Responses open and close blocks with empty ones."""
    if isinstance(block, str):
        return bool(block)
    return any(value and key not in _NO_CONTENT for key, value in block.items())
