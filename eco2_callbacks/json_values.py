"""json_value: any value as JSON can hold it, whatever the application put into it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

import msgspec

__all__ = ["json_value"]

# Deeper values are cut: an application's metadata may contain itself.
_MAX_DEPTH = 8
_MAX_INTEGER_BITS = 1024
# Properties of our own structs that a reader of JSON would have to compute.
_TOTALS = ("total_usd", "total_tokens")


def json_value(value: object) -> Any:
    """Return a value as dicts, lists, texts, numbers, booleans and None.

    ==========================================  ============================================
    Value                                       Becomes
    ==========================================  ============================================
    a struct of this package                    a dict of its fields and its total
    a mapping; a list, tuple or set             a dict with text keys; a list
    UUID, Decimal, time, infinite float         text
    enum                                        its value
    text with lone surrogates                   text with ``?`` in their place
    anything else, or deeper than eight levels  its type's name in angle brackets: ``<Socket>``
    ==========================================  ============================================
    """
    return _json(value, 0)


def _json(value: object, depth: int) -> Any:
    kind = type(value)  # not isinstance(), which may call the value's own code
    if value is None or kind is bool:
        return value
    if kind is float:
        return value if math.isfinite(value) else str(value)  # type: ignore[arg-type]
    if kind is int:
        return value if value.bit_length() <= _MAX_INTEGER_BITS else _named(value)  # type: ignore[attr-defined]
    if kind is UUID or kind is Decimal:
        return str(value)
    if kind in (datetime, date, time):
        return value.isoformat()  # type: ignore[attr-defined]
    try:
        if issubclass(kind, str):
            return _text(value)
        if depth < _MAX_DEPTH:
            return _inner(value, kind, depth + 1)
    except Exception:  # a class of the application's own, or a mapping that another thread changes
        return _named(value)
    return _named(value)


def _inner(value: Any, kind: type, depth: int) -> Any:
    if issubclass(kind, Enum):
        return _json(value.value, depth)
    if issubclass(kind, msgspec.Struct) and kind.__module__.startswith("eco2_callbacks"):
        names = (*value.__struct_fields__, *(name for name in _TOTALS if hasattr(kind, name)))
        return {name: _json(getattr(value, name), depth) for name in names}
    if kind is dict or issubclass(kind, Mapping):
        return {_key(key): _json(inner, depth) for key, inner in value.items()}
    if kind in (list, tuple, set, frozenset):
        return [_json(inner, depth) for inner in value]
    return _named(value)


def _key(key: Any) -> str:
    if issubclass(type(key), str):
        return _text(key)
    return str(key) if type(key) in (int, bool, float, UUID) else _named(key)


def _text(value: Any) -> str:
    text = str.__str__(value)
    return text if text.isascii() else text.encode("utf-8", "replace").decode("utf-8")


def _named(value: object) -> str:
    return f"<{type(value).__name__}>"
