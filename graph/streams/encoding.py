"""Makes texts encodable: a model may stream half of a character."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["encodable"]


def encodable(value: Any) -> Any:
    """Return event data whose texts UTF-8 can encode: halves of surrogate pairs are joined, and lone ones replaced."""
    match value:
        case str():
            try:
                value.encode()
            except UnicodeEncodeError:
                return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
            return value
        case Mapping():
            return {name: encodable(each) for name, each in value.items()}
        case list() | tuple():
            return [encodable(each) for each in value]
        case _:
            return value
