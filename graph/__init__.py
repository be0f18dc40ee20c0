"""The Eco2 chat worker: the application that the handler was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from graph.build import build_graph

__all__ = ["build_graph"]


def __getattr__(name: str) -> Any:
    """Import the graph with its first use: the command line's help needs none of it."""
    if name == "build_graph":
        from graph.build import build_graph  # noqa: PLC0415 - see above

        return build_graph
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
