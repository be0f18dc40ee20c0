"""Reads what a request to a provider's SDK sends, for estimates and for finding retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.sdk_answers.fields import plain, snake_case

__all__ = ["prompt_messages"]

# Where the SDKs put the prompt: Anthropic's and the Responses API's instructions, then the three names of the prompt.
_KEYS = ("system", "instructions", "messages", "input", "contents", "prompt")


def prompt_messages(request: Mapping[str, Any]) -> list[BaseMessage]:
    """Return the prompt of a request, one message for each of its own; empty where none is found."""
    messages: list[BaseMessage] = []
    for key in _KEYS:
        if (value := request.get(key)) is None:
            continue
        parts = value if isinstance(value, list | tuple) else [value]
        messages += [HumanMessage(content=content) for part in parts if (content := _content(plain(part)))]
    return messages


def _content(part: Any) -> Any:
    if isinstance(part, str):
        return part
    fields = as_mapping(part)
    content = fields.get("content", fields.get("parts", fields.get("text")))
    if isinstance(content, list):
        return [block for inner in content if (block := _block(inner))]
    return content if isinstance(content, str) else ""


def _block(inner: Any) -> str | dict[str, Any]:
    if isinstance(inner, str):
        return inner
    if not isinstance(inner, dict):
        return ""
    media = as_mapping(snake_case(inner).get("inline_data"))
    if media:
        kind = str(media.get("mime_type") or "")
        return {"type": kind.partition("/")[0], "mime_type": kind, "data": media.get("data")}
    if isinstance(source := inner.get("source"), dict):
        return {**inner, "data": source.get("data")}
    return inner if "type" in inner else {"type": "text", **inner}
