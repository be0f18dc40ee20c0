"""LedgerWatcher: who wants to know what becomes of a ledger's records."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal, Protocol, TypeAlias
from weakref import WeakSet

__all__ = ["LedgerWatcher", "LossReason", "Watchers"]

# Why records are lost; the label ``reason`` of ledger_lost_rows_total.
LossReason: TypeAlias = Literal["overflow", "disk_full", "corrupt"]


class LedgerWatcher(Protocol):
    """Counts what becomes of records."""

    def on_stored(self, backend: str, records: int) -> None:
        """Called when a backend has taken records."""

    def on_lost(self, backend: str, records: int, reason: LossReason) -> None:
        """Called when records are lost."""

    def on_failure(self) -> None:
        """Called, while the exception is handled, when a record cannot be written at all."""


class Watchers:
    """The watchers of one ledger.

    Weak: the ledger's threads keep this object, and must not keep a handler.

    Args:
        backend: The backend's name.
    """

    def __init__(self, backend: str) -> None:
        self._backend = backend
        self._watchers: WeakSet[LedgerWatcher] = WeakSet()

    def add(self, watcher: LedgerWatcher) -> None:
        """Add a watcher."""
        self._watchers.add(watcher)

    def __iter__(self) -> Iterator[LedgerWatcher]:
        return iter(list(self._watchers))

    def on_stored(self, records: int) -> None:
        """Tell all watchers of stored records."""
        for watcher in self:
            watcher.on_stored(self._backend, records)

    def on_lost(self, records: int, reason: LossReason) -> None:
        """Tell all watchers of lost records."""
        for watcher in self:
            watcher.on_lost(self._backend, records, reason)

    def on_failure(self) -> None:
        """Tell all watchers of a record that cannot be written."""
        for watcher in self:
            watcher.on_failure()
