"""OpenRunTable: the open runs by run id, bounded in number and age, and safe to use from several threads."""

from __future__ import annotations

import threading
from typing import TypeVar
from uuid import UUID

from eco2_callbacks.runs.open_runs import OpenRun, TimedRun

__all__ = ["OpenRunTable"]

_R = TypeVar("_R", bound=OpenRun)


class OpenRunTable:
    """The open runs by run id.

    Every change is one operation on a dictionary, which the interpreter does not interrupt, and removing a run from
    ``_runs`` decides who closes it. So only the first run below another one takes a lock. A finaliser can end an
    abandoned stream at any point.

    Args:
        max_open: Number of open runs; beyond it the oldest is evicted.
        max_age_seconds: How long a topmost run may stay open: for a cancelled call without a run above, no callback
            may ever fire.
    """

    def __init__(self, *, max_open: int, max_age_seconds: float) -> None:
        self._max_open = max_open
        self._max_age_seconds = max_age_seconds
        self._runs: dict[int, OpenRun] = {}
        self._topmost: dict[int, TimedRun] = {}
        # Reentrant: a garbage collection can run the application's code while this thread holds the lock.
        self._lock = threading.RLock()
        # By ``UUID.int``: hashing a UUID itself runs Python code. Bound once, since every streamed token needs it.
        self.by_int = self._runs.get

    def __len__(self) -> int:
        return len(self._runs)

    def get(self, run_id: UUID) -> OpenRun | None:
        """Return an open run."""
        return self._runs.get(run_id.int)

    def add(self, run: OpenRun) -> OpenRun | None:
        """Add a run; return the run to be closed in its place if too many are open or one is too old."""
        runs, parent, evicted = self._runs, run.parent, None
        if len(runs) >= self._max_open:
            evicted = _first(runs)
        key = run.run_id.int
        runs[key] = run
        if parent is not None:
            if parent.children is None:
                with self._lock:
                    if parent.children is None:
                        parent.children = {}
            parent.children[key] = run
            # Asked after the run is among the children: whoever closes the parent now finds it there.
            if parent.run_id.int in runs:
                return evicted
        if isinstance(run, TimedRun):
            topmost = self._topmost
            oldest = _first(topmost) if topmost else None
            if oldest is not None and run.started - oldest.started > self._max_age_seconds:
                evicted = oldest
            topmost[key] = run
        return evicted

    def close(self, run_id: UUID) -> OpenRun | None:
        """Remove a run and return it; None if it is not open (never seen, or closed before)."""
        key = run_id.int
        run = self._runs.pop(key, None)
        if run is not None:
            # A topmost run can have a parent that ended before it.
            self._topmost.pop(key, None)
            if run.parent is not None and run.parent.children is not None:
                run.parent.children.pop(key, None)
        return run

    def close_unfinished_below(self, run: OpenRun) -> list[OpenRun]:
        """Remove the unfinished runs below a closed one and return them, the lowest first.

        A run whose end callback can still fire stays open, with all runs below it.
        """
        below, unfinished = [run], []
        while below:
            for child in _children(below.pop()):
                if child.may_still_end():
                    self._make_topmost(child)
                # A run that another thread just closed makes its own record.
                elif self.close(child.run_id) is not None:
                    unfinished.append(child)
                    below.append(child)
        return unfinished[::-1]

    def release_children(self, run: OpenRun) -> None:
        """Let the runs below a closed one go on without it."""
        for child in _children(run):
            self._make_topmost(child)

    def _make_topmost(self, run: OpenRun) -> None:
        if isinstance(run, TimedRun):
            key = run.run_id.int
            self._topmost[key] = run
            if key not in self._runs:  # closed meanwhile
                self._topmost.pop(key, None)

    def clear_after_fork(self) -> list[OpenRun]:
        """Return the runs that the parent of a forked child goes on with, and start with an empty table."""
        self._lock = threading.RLock()
        runs = list(self._runs.values())
        self._runs.clear()
        self._topmost.clear()
        return runs

    def newest(self) -> OpenRun | None:
        """Return the run opened last; None if none is open."""
        while self._runs:
            try:
                return next(reversed(self._runs.values()))
            except (RuntimeError, StopIteration):
                continue  # another thread opened or closed one
        return None


def _first(runs: dict[int, _R]) -> _R | None:
    while runs:
        try:
            return next(iter(runs.values()))
        except (RuntimeError, StopIteration):
            continue  # another thread opened or closed one
    return None


def _children(run: OpenRun) -> list[OpenRun]:
    while run.children:
        try:
            return list(run.children.values())
        except RuntimeError:
            continue  # another thread opened or closed one
    return []
