"""node_of: which chain runs are those of the graph's nodes, for the callbacks that follow a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

__all__ = ["node_of"]

# LangGraph's own entry is a run where an edge from it is conditional.
_ENTRY = "__start__"


def node_of(metadata: Mapping[str, Any] | None, name: object) -> str | None:
    """Return the node whose run starts with this metadata and name, None if it is no node's."""
    node = (metadata or {}).get("langgraph_node")
    return node if isinstance(node, str) and node == name != _ENTRY else None
