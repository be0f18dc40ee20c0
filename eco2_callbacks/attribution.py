"""Who, where and what for: the metadata and state of a run that become labels, and the guard that bounds them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

__all__ = [
    "OTHER",
    "UNCLASSIFIED",
    "LabelGuard",
    "identifier",
    "provider_of",
    "request_model",
    "state_values",
    "text_of",
]

UNCLASSIFIED = "unclassified"
OTHER = "other"
_REMEMBERED = 10_000
_LONGEST = 120
# Endpoints that one class serves beside its own: ChatOpenAI talks to Azure's v1 API, ChatGoogleGenerativeAI to Vertex.
_AZURE_HOSTS = (".openai.azure.com", ".services.ai.azure.com", ".cognitiveservices.azure.com")
_SHARED = frozenset({"openai", "google_genai"})
_VERTEX_HOST = "aiplatform.googleapis.com"


class LabelGuard:
    """Bounds how many values a label takes: the first ones stay, later ones become ``other``.

    Args:
        on_overflow: Called with the label for each value turned away (each once, while it is remembered).
    """

    def __init__(self, on_overflow: Callable[[str], None]) -> None:
        self._on_overflow = on_overflow
        self._admitted: dict[str, set[str]] = {}
        self._turned_away: dict[str, set[str]] = {}
        self._lock = threading.RLock()

    def admit(self, label: str, value: str, cap: int) -> str:
        """Return the value if it was seen before or there is room for it, else ``other``; ``""`` always fits.

        A value that no exposition can hold is mended first: cut to 120 characters, lone surrogates replaced.
        """
        value = value[:_LONGEST].encode("utf-8", "replace").decode("utf-8")
        if not value or value == OTHER:
            return value
        with self._lock:
            admitted = self._admitted.setdefault(label, set())
            if value in admitted:
                return value
            if len(admitted) < cap:
                admitted.add(value)
                return value
            turned_away = self._turned_away.setdefault(label, set())
            if value in turned_away:
                return OTHER
            if len(turned_away) < _REMEMBERED:
                turned_away.add(value)
        self._on_overflow(label)
        return OTHER


def text_of(value: object) -> str:
    """Return a label's text from a metadata or state value: a string's or string enum's, of anything else ``""``."""
    if value is None or type(value) is str:
        return value or ""
    if isinstance(value, Enum):
        value = value.value
    return str(value) if isinstance(value, str) else ""


def identifier(value: object) -> str | None:
    """Return a user's, session's or job's identifier as text, None where there is none."""
    return None if value is None or value == "" else str(value)


def provider_of(metadata: Mapping[str, Any], serialized: Mapping[str, Any] | None) -> str:
    """Return LangChain's ``ls_provider``, or ``azure`` and ``google_vertexai`` where the endpoint is theirs."""
    provider = text_of(metadata.get("ls_provider"))
    if provider in _SHARED and isinstance(serialized, dict) and isinstance(kwargs := serialized.get("kwargs"), dict):
        if provider == "openai":
            base = kwargs.get("openai_api_base")
            return "azure" if isinstance(base, str) and any(host in base for host in _AZURE_HOSTS) else provider
        base = kwargs.get("base_url")
        if kwargs.get("vertexai") is True or (isinstance(base, str) and _VERTEX_HOST in base):
            return "google_vertexai"
    return provider


def request_model(metadata: Mapping[str, Any], params: Mapping[str, Any]) -> str:
    """Return the model asked for."""
    model = metadata.get("ls_model_name") or params.get("model") or params.get("model_name") or params.get("_type")
    return text_of(model).removeprefix("models/")


def state_values(outputs: object, keys: tuple[str, ...]) -> dict[str, str]:
    """Return the texts that stand in a state, or that a node puts into it, under these keys."""
    values = {}
    for update in updates_of(outputs):
        for key in keys:
            if text := text_of(value_at(update, key)):
                values[key] = text
    return values


def updates_of(outputs: object) -> list[object]:
    """Return the updates of the state that a node's output holds.

    It is a mapping, an object with attributes (dataclass, Pydantic model), a ``Command`` whose ``update`` is either of
    them or a list of pairs, or a list of all these. A ``Command`` is known by name: LangGraph need not be installed.
    """
    if isinstance(outputs, dict):
        return [outputs]
    updates = []
    for output in outputs if isinstance(outputs, list) else (outputs,):
        update = output
        if type(output).__name__ == "Command":
            update = getattr(output, "update", None)
            if isinstance(update, list | tuple):
                update = dict(pair for pair in update if isinstance(pair, tuple) and len(pair) == 2)
        updates.append(update)
    return updates


def value_at(update: object, key: str) -> Any:
    """Return what an update or an object inside it holds under a key, None if nothing can be had."""
    if isinstance(update, dict):
        return update.get(key)
    try:
        return getattr(update, key, None)
    except Exception:  # a property of the application's state; whatever it raises, it is no value
        return None
