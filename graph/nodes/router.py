"""The router node: starts the turn's branches in parallel."""

from __future__ import annotations

from langgraph.types import Command, Send

from graph.routing import Branch, branches
from graph.state import State

__all__ = ["router"]


async def router(state: State) -> Command[Branch]:
    """Send the turn to each of its branches."""
    return Command(goto=[Send(node, state) for node in branches(state)])
