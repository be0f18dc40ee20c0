"""Run ids as LangChain passes them: the ids that a caller gives reach every handler as they are, also as text."""

from __future__ import annotations

from uuid import NAMESPACE_OID, UUID, uuid5

__all__ = ["uuid_of"]


def uuid_of(run_id: object) -> UUID:
    """Return a run id as a UUID. One that is none becomes a UUID made of its text, the same for each of its events."""
    if isinstance(run_id, UUID):
        return run_id
    text = str(run_id)
    try:
        return UUID(text)
    except ValueError:
        return uuid5(NAMESPACE_OID, text)
