"""RunObserver: the one protocol through which outputs follow the run tree."""

from __future__ import annotations

from eco2_callbacks.records import Record
from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import OpenRun

__all__ = ["RunObserver"]


class RunObserver:
    """Follows the runs of one handler. Override what is needed; each method does nothing by default.

    An observer reads everything from the run and its record, never from the current context, thread or task: it may be
    called later than the callback. A method that raises is logged and counted, and no other observer is affected.
    """

    def on_start(self, run: OpenRun) -> None:
        """Called when a run has started; links between runs are included."""

    def on_stream_start(self, call: OpenLLMCall) -> None:
        """Called when the first chunk of a call has arrived; ``call.stream`` is set."""

    def needs_record(self, run: OpenRun) -> bool:
        """Return whether ``on_end`` must come before the end callback of a run returns."""
        return False

    def on_link_end(self, run: OpenRun) -> None:
        """Called once, in its end callback, for a link between runs: it has no record."""

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        """Called once for any other run that has ended, when its record exists; None if making it failed."""

    def on_recorded(self) -> None:
        """Called after ``on_end`` of one or more runs. No lock is held: it may wait for another handler."""

    def on_unfinished(self, run: OpenRun, reason: str) -> None:
        """Called after ``on_end`` for a run that was closed without an end callback."""

    def on_evicted(self) -> None:
        """Called for a run that was closed because too many were open, or because it was open too long."""
