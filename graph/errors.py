"""What the chat worker raises itself, beside the errors of its clients."""

from __future__ import annotations

__all__ = ["GraphConfigError"]


class GraphConfigError(ValueError):
    """A setting of the chat worker is missing or cannot be used."""
