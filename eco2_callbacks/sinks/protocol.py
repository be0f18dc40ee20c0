"""The Sink protocol: what takes finished records."""

from __future__ import annotations

from typing import Protocol

from eco2_callbacks.records import Record

__all__ = ["Sink"]


class Sink(Protocol):
    """Takes finished records, and a ``BudgetEvent`` where a budget reached a level.

    ====================  ==========================================================================
    The sink has          Then
    ====================  ==========================================================================
    ``emit`` only         It is called inline, on the thread of the event. Use it for sinks in memory.
    ``emit``, ``close``   It is called on a thread of its own, behind a bounded queue. Use it for I/O.
    ====================  ==========================================================================
    """

    def emit(self, record: Record) -> None:
        """Take one record."""
