"""Reads what a request to a provider's SDK sends, for estimates and for finding retries."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage

from eco2_callbacks.usage.content import as_mapping
from eco2_callbacks.usage.sdk_answers.fields import plain, snake_case

__all__ = ["prompt_messages", "prompt_texts"]

_MAX_EXACT_CHARS = 131_072
# Where the SDKs put the prompt: instructions of three APIs, then the names of the prompt; Cohere's come last.
_KEYS = (
    *("system", "instructions", "preamble", "messages", "input", "contents", "prompt"),
    *("chat_history", "message", "texts"),
)


def prompt_messages(request: Mapping[str, Any]) -> list[BaseMessage]:
    """Return the prompt of a request, one message for each of its own; empty where none is found."""
    messages: list[BaseMessage] = []
    for key in _KEYS:
        if (value := request.get(key)) is None:
            continue
        parts = value if isinstance(value, list | tuple) else [value]
        messages += [HumanMessage(content=content) for part in parts if (content := _content(plain(part)))]
    return messages


def prompt_texts(request: Mapping[str, Any]) -> list[str]:
    """Return the texts of a request that is no conversation, such as one for embeddings."""
    texts = [str(message.text) for message in prompt_messages(request)]
    # Together they are counted by samples, so that a long list of documents takes bounded time.
    return ["\n".join(texts)] if sum(map(len, texts)) > _MAX_EXACT_CHARS else texts


def _content(part: Any) -> Any:
    if isinstance(part, str):
        return part
    fields = as_mapping(part)
    content = next((fields[key] for key in ("content", "parts", "text", "message") if key in fields), None)
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
