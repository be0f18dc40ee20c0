"""Returns the shape of a provider's answer: key paths and types, without values."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

__all__ = ["answer_shapes"]

# The content below these keys comes from the caller: a schema, or a function's arguments.
_CALLER_KEYS = frozenset({"args", "parameters", "schema"})


def answer_shapes(path: str, body: str) -> set[str]:
    """Return the shapes in a body, each with its API, for example ``chat usage.prompt_tokens number``.

    Args:
        path: The request's path.
        body: JSON or server-sent events.
    """
    api = _api(path)
    text = body.lstrip()
    if text.startswith(("data:", "event:", ":")):
        lines = [line.removeprefix("data:").strip() for line in text.splitlines() if line.startswith("data:")]
        events = [json.loads(line) for line in lines if line != "[DONE]"]
        return {f"{api} {_event(event)}{shape}" for event in events for shape in _shapes(event)}
    content = json.loads(text)
    bodies = content if isinstance(content, list) else [content]
    return {f"{api} {shape}" for content in bodies for shape in _shapes(content)}


def _api(path: str) -> str:
    if "enerateContent" in path:
        # The events of a stream have the shape of whole answers.
        return "gemini"
    return "responses" if path.endswith("/responses") else "chat"


def _event(event: Any) -> str:
    kind = event.get("type") or event.get("object") or ""
    return f"{kind} " if kind else ""


def _shapes(value: Any, path: str = "") -> Iterator[str]:
    if isinstance(value, dict):
        if path.rpartition(".")[2] in _CALLER_KEYS:
            yield f"{path} object"
            return
        if isinstance(value.get("type"), str) and path:
            path += f"({value['type']})"
        for key, item in value.items():
            yield from _shapes(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for item in value:
            yield from _shapes(item, f"{path}[]")
        if not value:
            yield f"{path}[]"
    else:
        kinds = {bool: "boolean", int: "number", float: "number", str: "string"}
        yield f"{path} {kinds.get(type(value), 'null')}"
