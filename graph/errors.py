"""Errors of the chat worker itself. The errors of its clients are in ``graph.clients.errors``."""

from __future__ import annotations

__all__ = ["GraphConfigError"]


class GraphConfigError(ValueError):
    """A setting of the chat worker is missing or invalid."""
