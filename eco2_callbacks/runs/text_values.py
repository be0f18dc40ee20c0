"""Values that an application puts into metadata, state or context, read as text without running its code."""

from __future__ import annotations

from decimal import Decimal
from enum import Enum
from types import MemberDescriptorType
from typing import Any
from uuid import UUID

__all__ = ["UnreadableError", "field_of", "identifier", "plain_text", "text_of"]

_MAX_LENGTH = 1000
_MAX_BITS = 128
_PLAIN = (int, float, Decimal, UUID)


class UnreadableError(Exception):
    """A value that is no identifier; the message names its type."""


def text_of(value: Any) -> str:
    """Return a metadata or state value as text: a string or string enum; ``""`` for anything else."""
    if value is None or type(value) is str:
        return value or ""
    if issubclass(type(value), Enum):
        value = object.__getattribute__(value, "_value_")
    return str.__str__(value) if issubclass(type(value), str) else ""


def identifier(value: Any) -> str | None:
    """Return an identifier as text; None for None and ``""``.

    A text, an integer, a UUID, or an enum of these is an identifier. The value's own code does not run.

    Raises:
        UnreadableError: For another type, a text over 1,000 characters, or an integer over 128 bits.
    """
    kind: type = type(value)
    if value is None:
        return None
    if issubclass(kind, Enum):
        value = object.__getattribute__(value, "_value_")
        kind = type(value)
    if issubclass(kind, str):
        text = str.__str__(value)
        if len(text) > _MAX_LENGTH:
            raise UnreadableError(f"a text of {len(text)} characters")
        return text or None
    if kind is UUID:
        return str(value)
    if issubclass(kind, int) and kind is not bool:
        if int.bit_length(value) > _MAX_BITS:
            raise UnreadableError("an integer over 128 bits")
        return int.__repr__(value)
    raise UnreadableError(f"a {kind.__name__}")


def plain_text(value: Any) -> str:
    """Return a plain value of the metadata as text; ``""`` for one that is empty or no plain value.

    Plain values are texts, numbers, ``True`` (``true``), UUIDs, and enums of these.
    """
    kind: type = type(value)
    if issubclass(kind, Enum):
        value = object.__getattribute__(value, "_value_")
        kind = type(value)
    if issubclass(kind, str):
        return str.__str__(value)
    if kind is bool:
        return "true" if value else "false"
    return str(value) if kind in _PLAIN else ""


def field_of(holder: Any, key: str) -> object:
    """Return what a context object holds under a key, None if nothing: an item of a dict, or a stored attribute.

    Properties are not called: they are the application's code and may raise or wait.
    """
    kind = type(holder)
    if issubclass(kind, dict):
        return dict.get(holder, key)
    try:
        fields = object.__getattribute__(holder, "__dict__")
    except AttributeError:
        fields = None
    if type(fields) is dict and key in fields:
        return fields[key]
    for cls in kind.__mro__:
        if (stored := cls.__dict__.get(key)) is not None:
            return _stored(holder, stored)
    return None


def _stored(holder: Any, stored: Any) -> object:
    if type(stored) is MemberDescriptorType:
        try:
            return stored.__get__(holder)
        except AttributeError:  # a slot that was never set
            return None
    if issubclass(type(holder), tuple) and type(stored).__name__ == "_tuplegetter":
        return stored.__get__(holder)
    return stored if type(stored) in (str, int, UUID) else None
