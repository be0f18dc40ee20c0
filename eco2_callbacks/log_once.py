"""Which log lines the process has written already."""

from __future__ import annotations

__all__ = ["is_first"]

_MAX_KEYS = 1000
_seen: set[tuple[str, ...]] = set()


def is_first(*key: str) -> bool:
    """Return whether this is the first call with this key in the process; beyond 1,000 keys nothing is first.

    Without a lock, so that an event never waits: two threads may both be first.
    """
    if key in _seen or len(_seen) >= _MAX_KEYS:
        return False
    _seen.add(key)
    return True
