"""Attribution: who spent it and what for, read from a run's metadata and state."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eco2_callbacks.runs.identities import Identity
from eco2_callbacks.runs.request_context import RequestContext, StateLabels
from eco2_callbacks.runs.text_values import UnreadableError, identifier, text_of

__all__ = [
    "UNCLASSIFIED",
    "labels_of_run",
    "state_values",
    "updates_of",
    "value_at",
]

UNCLASSIFIED = "unclassified"


def labels_of_run(
    state: StateLabels | None, context: RequestContext | None, metadata: Mapping[str, Any], identity: Identity
) -> tuple[str, str, str]:
    """Return node, intent and tenant of a run; the state's intent and tenant win over those of the metadata."""
    intent = tenant_id = None
    if state is not None:
        # Looked up here where no graph is inside another: that costs half as much.
        get = state.values.get if state.outer is None else state.get
        intent, tenant_id = get("intent"), get("tenant_id")
    intent, tenant_id = intent or text_of(metadata.get("intent")), tenant_id or identity.tenant_id
    if context is not None:
        # Work that starts after its request ended may have lost the metadata.
        intent, tenant_id = intent or context.intent, tenant_id or context.current_tenant_id()
    return text_of(metadata.get("langgraph_node")), intent or UNCLASSIFIED, tenant_id


def state_values(outputs: object, keys: tuple[str, ...]) -> dict[str, str]:
    """Return the texts under these keys in a graph's state, or in a node's update of it."""
    values = {}
    for update in updates_of(outputs):
        for key in keys:
            value = value_at(update, key)
            if value is None:
                continue
            if text := text_of(value) or (_identifier(value) if key == "tenant_id" else ""):
                values[key] = text
    return values


def updates_of(outputs: object) -> list[object]:
    """Return the state updates inside a node's output.

    ===================================================  =====================================================
    The output is                                        Its updates
    ===================================================  =====================================================
    a mapping, or an object with attributes              itself
    a ``Command``                                        its ``update``: either of them, or a list of pairs
    a list of these                                      those of each item
    ===================================================  =====================================================

    ``Command`` is recognised by its class name, so that LangGraph need not be installed.
    """
    if isinstance(outputs, dict):
        return [outputs]
    updates = []
    for output in outputs if isinstance(outputs, list) else (outputs,):
        update = output
        if type(output).__name__ == "Command":
            update = getattr(output, "update", None)
            if isinstance(update, list | tuple):
                update = dict(pair for pair in update if isinstance(pair, tuple) and len(pair) == 2)
        updates.append(update)
    return updates


def value_at(update: object, key: str) -> Any:
    """Return what a state update, or an object inside it, holds under a key; None if it holds nothing."""
    if isinstance(update, dict):
        return update.get(key)
    try:
        return getattr(update, key, None)
    except Exception:  # a property of the application's state may raise anything
        return None


def _identifier(value: object) -> str:
    try:
        return identifier(value) or ""
    except UnreadableError:
        return ""
