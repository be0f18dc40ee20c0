"""RequestContext: what all runs of one request share; StateLabels: what a graph's state says."""

from __future__ import annotations

from uuid import UUID

from eco2_callbacks.runs.identities import NOTHING_SHARED, Identity, merge_shared

__all__ = ["RequestContext", "StateLabels"]


class StateLabels:
    """Labels that nodes put into the state of one graph; a graph inside a node has a state of its own.

    Attributes:
        values: The labels.
        outer: Those of the graph around it.
    """

    __slots__ = ("outer", "values")

    def __init__(self, outer: StateLabels | None = None) -> None:
        self.values: dict[str, str] = {}
        self.outer = outer

    def get(self, key: str) -> str:
        """Return a label, the innermost one; empty where no graph has it."""
        labels: StateLabels | None = self
        while labels is not None:
            if value := labels.values.get(key):
                return value
            labels = labels.outer
        return ""


class RequestContext:
    """What all runs of one request share, also those that start after the request ended.

    Attributes:
        trace_id: Run id of the request.
        intent: From the request's metadata.
        tenant_id: From the request's metadata, known at its start.
        state: Labels of the outermost graph's state; they take precedence over the metadata.
        shared: What runs of the request found in ``configurable`` and in the runtime context.
        last_identity: The identity that was read last.
    """

    __slots__ = ("intent", "last_identity", "shared", "state", "tenant_id", "trace_id")

    def __init__(self, trace_id: UUID, intent: str, identity: Identity) -> None:
        self.trace_id = trace_id
        self.intent = intent
        self.tenant_id = identity.tenant_id
        self.state = StateLabels()
        self.shared = merge_shared(NOTHING_SHARED, identity)
        self.last_identity = identity

    def current_intent(self, state: StateLabels | None = None) -> str:
        """Return the intent of a state, by default the outermost one, or the metadata's."""
        return (state or self.state).get("intent") or self.intent

    def current_tenant_id(self, state: StateLabels | None = None) -> str:
        """Return the tenant of a state, or the metadata's, or one that a run found in the config."""
        return (state or self.state).get("tenant_id") or self.tenant_id or self.shared[0] or ""
