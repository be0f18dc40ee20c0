"""Errors of the chat worker itself. The errors of its clients are in ``graph.clients.errors``."""

from __future__ import annotations

__all__ = ["EmptyAnswerError", "GraphConfigError"]


class GraphConfigError(ValueError):
    """A setting of the chat worker is missing or invalid."""


class EmptyAnswerError(RuntimeError):
    """The model wrote no answer, for example because its provider's filter stopped it."""
