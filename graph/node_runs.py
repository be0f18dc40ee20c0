"""Detects which chain runs are runs of graph nodes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["node_of"]

# If an edge from START is conditional, LangGraph runs the entry as a chain of this name.
_ENTRY = "__start__"


def node_of(metadata: Mapping[str, Any] | None, name: object) -> str | None:
    """Return the node whose run starts with this metadata and name; None if the run belongs to no node."""
    node = (metadata or {}).get("langgraph_node")
    return node if isinstance(node, str) and node == name != _ENTRY else None
