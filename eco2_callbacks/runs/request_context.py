"""RequestContext: what all runs of one request share."""

from __future__ import annotations

from uuid import UUID

from eco2_callbacks.runs.identities import NOTHING_SHARED, Identity, merge_shared

__all__ = ["RequestContext"]


class RequestContext:
    """What all runs of one request share, also those that start after the request ended.

    Attributes:
        trace_id: Run id of the request.
        intent: From the request's metadata.
        tenant_id: From the request's metadata, known at its start.
        state: Labels that nodes put into the graph's state; they take precedence over the metadata.
        shared: What runs of the request found in ``configurable`` and in the runtime context.
        last_identity: The identity that was read last.
    """

    __slots__ = ("intent", "last_identity", "shared", "state", "tenant_id", "trace_id")

    def __init__(self, trace_id: UUID, intent: str, identity: Identity) -> None:
        self.trace_id = trace_id
        self.intent = intent
        self.tenant_id = identity.tenant_id
        self.state: dict[str, str] = {}
        self.shared = merge_shared(NOTHING_SHARED, identity)
        self.last_identity = identity

    def current_intent(self) -> str:
        """Return the state's intent, or the metadata's."""
        return self.state.get("intent", self.intent)

    def current_tenant_id(self) -> str:
        """Return the state's tenant, or the metadata's, or one that a run found in the config."""
        return self.state.get("tenant_id") or self.tenant_id or self.shared[0] or ""
