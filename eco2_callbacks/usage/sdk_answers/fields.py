"""Reads fields of a provider's SDK: of its objects, of plain dicts, and of dicts with the REST API's names."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from enum import Enum
from typing import Any

__all__ = ["field_of", "list_of", "name_of", "plain", "snake_case", "text_of"]

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


def field_of(answer: object, name: str) -> Any:
    """Return a field of an object or mapping; None where it has none."""
    if isinstance(answer, Mapping):
        return answer.get(name)
    return getattr(answer, name, None)


def list_of(answer: object, name: str) -> list[Any]:
    """Return a field that is a list; an empty one for anything else."""
    value = field_of(answer, name)
    return list(value) if isinstance(value, list | tuple) else []


def text_of(answer: object, name: str) -> str:
    """Return a field that is text; ``""`` for anything else."""
    value = field_of(answer, name)
    if isinstance(value, Enum):
        value = value.value
    return value if isinstance(value, str) else ""


def name_of(answer: object, name: str) -> str | None:
    """Return a field that is a text with content; None for anything else."""
    return text_of(answer, name) or None


def plain(value: object) -> Any:
    """Return an SDK's object as dicts and lists, without fields that are None; bytes stay as they are."""
    if isinstance(value, Enum):
        return value.value
    if value is None or isinstance(value, str | bytes | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items() if inner is not None}
    if isinstance(value, list | tuple):
        return [plain(inner) for inner in value]
    dump = getattr(value, "model_dump", None)
    if callable(dump):
        # Without warnings: an answer of a newer API holds values that the SDK's types do not know.
        return plain(dump(exclude_none=True, warnings=False))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value)]
        return {name: plain(inner) for name in names if (inner := getattr(value, name, None)) is not None}
    return None


def snake_case(value: Any) -> Any:
    """Return dicts with the Python SDK's names in place of the REST API's: ``usageMetadata`` is ``usage_metadata``."""
    if isinstance(value, dict):
        return {_CAPITAL.sub("_", key).lower(): snake_case(inner) for key, inner in value.items()}
    return [snake_case(inner) for inner in value] if isinstance(value, list) else value
