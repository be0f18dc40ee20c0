"""The Sink protocols: what takes finished records, and what also takes starts."""

from __future__ import annotations

from typing import Protocol

from eco2_callbacks.records import Record
from eco2_callbacks.sinks.run_start import RunStart

__all__ = ["LiveSink", "Sink"]


class Sink(Protocol):
    """Takes finished records, and a ``BudgetEvent`` where a budget reached a level.

    ====================  ==========================================================================
    The sink has          Then
    ====================  ==========================================================================
    ``emit`` only         It is called inline, on the thread of the event. Use it for sinks in memory.
    ``emit``, ``close``   It is called on a thread of its own, behind a bounded queue. Use it for I/O.
    ``on_start``          It is also called inline when a run starts; see ``LiveSink``.
    ====================  ==========================================================================
    """

    def emit(self, record: Record) -> None:
        """Take one record."""


class LiveSink(Sink, Protocol):
    """Takes starts as well, to show running work."""

    def on_start(self, run: RunStart) -> None:
        """Take the start of a request, node, model call, tool or retriever; called before the run does any work."""
