"""OpenRunTable: the open runs by run id, bounded in number and age, and safe to use from several threads."""

from __future__ import annotations

import threading
from uuid import UUID

from eco2_callbacks.runs.open_runs import OpenRun, TimedRun

__all__ = ["OpenRunTable"]


class OpenRunTable:
    """The open runs by run id.

    Args:
        max_open: Number of open runs; beyond it the oldest is evicted.
        max_age_seconds: How long a topmost run may stay open: for a cancelled call without a run above, no callback
            may ever fire.
    """

    def __init__(self, *, max_open: int, max_age_seconds: float) -> None:
        self._max_open = max_open
        self._max_age_seconds = max_age_seconds
        self._runs: dict[UUID, OpenRun] = {}
        self._topmost: dict[UUID, TimedRun] = {}
        # Reentrant: a garbage collection can end an abandoned stream while this thread holds the lock.
        self._lock = threading.RLock()
        # Bound once: this look-up happens for every streamed token.
        self.get = self._runs.get

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: OpenRun) -> OpenRun | None:
        """Add a run; return the run to be closed in its place if too many are open or one is too old."""
        parent, evicted = run.parent, None
        with self._lock:
            if len(self._runs) >= self._max_open:
                evicted = self._runs[next(iter(self._runs))]
            self._runs[run.run_id] = run
            if parent is not None and parent.run_id in self._runs:
                if parent.children is None:
                    parent.children = {}
                parent.children[run.run_id] = run
            elif isinstance(run, TimedRun):
                oldest = next(iter(self._topmost.values()), run)
                if run.started - oldest.started > self._max_age_seconds:
                    evicted = oldest
                self._topmost[run.run_id] = run
        return evicted

    def close(self, run_id: UUID) -> OpenRun | None:
        """Remove a run and return it; None if it is not open (never seen, or closed before)."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is not None:
                self._topmost.pop(run_id, None)
                if run.parent is not None and run.parent.children is not None:
                    run.parent.children.pop(run_id, None)
        return run

    def close_unfinished_below(self, run: OpenRun) -> list[OpenRun]:
        """Remove the unfinished runs below a closed one and return them, the lowest first.

        A run whose end callback can still fire stays open, with all runs below it.
        """
        below, unfinished = [run], []
        while below:
            parent = below.pop()
            with self._lock:
                children = list((parent.children or {}).values())
            for child in children:
                if child.may_still_end():
                    self._make_topmost(child)
                # A run that another thread just closed makes its own record.
                elif self.close(child.run_id) is not None:
                    unfinished.append(child)
                    below.append(child)
        return unfinished[::-1]

    def release_children(self, run: OpenRun) -> None:
        """Let the runs below a closed one go on without it."""
        with self._lock:
            children = list((run.children or {}).values())
        for child in children:
            self._make_topmost(child)

    def _make_topmost(self, run: OpenRun) -> None:
        with self._lock:
            if isinstance(run, TimedRun) and run.run_id in self._runs:
                self._topmost[run.run_id] = run

    def clear_after_fork(self) -> list[OpenRun]:
        """Return the runs that the parent of a forked child goes on with, and start with an empty table."""
        self._lock = threading.RLock()
        runs = list(self._runs.values())
        self._runs.clear()
        self._topmost.clear()
        return runs

    def newest(self) -> OpenRun | None:
        """Return the run opened last; None if none is open."""
        with self._lock:
            return next(reversed(self._runs.values()), None)
