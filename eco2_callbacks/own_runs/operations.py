"""Operation: what a call made with a provider's own SDK does."""

from __future__ import annotations

from typing import Any, Literal, TypeAlias, cast, get_args

from eco2_callbacks.errors import ConfigError

__all__ = ["Operation", "check_operation"]

Operation: TypeAlias = Literal["chat", "text_completion", "embeddings"]


def check_operation(operation: Any) -> Operation:
    """Return what a call does, if it is known.

    Raises:
        ConfigError: If it is not.
    """
    known = get_args(Operation)
    if operation not in known:
        raise ConfigError(
            f"operation= is {operation!r}, wanted one of {', '.join(map(repr, known))}; pass one of them."
        )
    return cast("Operation", operation)
