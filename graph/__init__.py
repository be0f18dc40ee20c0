"""The Eco2 chat worker: the application that the handler was built for."""

from __future__ import annotations

from graph.build import build_graph

__all__ = ["build_graph"]
