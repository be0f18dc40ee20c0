"""Function calling: the tools that reach the services, and the loop in which a model calls them."""

from __future__ import annotations

from graph.tools.calling import call_tools

__all__ = ["call_tools"]
