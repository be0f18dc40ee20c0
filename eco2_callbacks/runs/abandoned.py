"""AbandonedCallDetector: finds model calls whose end callback will never fire."""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import OpenRun, current_task
from eco2_callbacks.runs.outcomes import Outcome

__all__ = ["AbandonedCallDetector"]


class AbandonedCallDetector:
    """Finds open model calls that their caller has left.

    LangChain fires no end callback for a cancelled call that does not stream, for the other prompts of a ``generate``
    of which one failed, and for a call whose graph was cancelled. Only calls by LangChain's own models are watched:
    they run to their end in the task or thread in which they start.

    ========================================================  =====================================================
    A call that does not stream is left when                  It is closed
    ========================================================  =====================================================
    its task is done, or its thread has ended                 at the next event or scrape
    another prompt of the same sync ``generate`` has failed   at once below no run
    its task or thread calls the same model again             below no run: in a thread at once; in a task, unless its
                                                              end callback fires before the loop goes on. Else when
                                                              the run above ends, unless its end callback fires before
    its task or thread reads the metrics                      below no run: at once
    the run above ends in the same task or thread             at once (``OpenRunTable.close_unfinished_below``)
    ========================================================  =====================================================

    A model may ask other models inside its call, and a cache embeddings: that is no sign that the call was left.

    A call with a stream is left to its generator, which fires an end callback when it is closed. If the run above
    closed such a call, LangSmith's run is ended when the task is done.

    Args:
        clock: The handler's clock.

    Attributes:
        abandoned: The calls that wait in ``pop_abandoned()``.
        calls_by_place: The watched calls by the task or thread in which they started.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.abandoned: deque[OpenLLMCall] = deque()
        self.calls_by_place: dict[asyncio.Task[Any] | int, list[OpenLLMCall]] = {}

    def watch(self, call: OpenLLMCall) -> None:
        """Watch a call that has just opened."""
        call.watch = self.abandoned
        task = call.task
        if task is None:
            place: asyncio.Task[Any] | int = call.thread_id
        else:
            place = task
            task.add_done_callback(call.on_task_done)
        if (calls := self.calls_by_place.get(place)) is None:
            self.calls_by_place[place] = [call]
        else:
            calls.append(call)

    def unwatch(self, call: OpenLLMCall) -> None:
        """Stop watching a call."""
        if call.watch is None:
            return
        call.watch = None
        task = call.task
        if task is None:
            place: asyncio.Task[Any] | int = call.thread_id
        else:
            place = task
            task.remove_done_callback(call.on_task_done)
        calls = self.calls_by_place.get(place)
        if calls is not None:
            try:  # noqa: SIM105  `suppress` would cost as much as the rest
                calls.remove(call)
            except ValueError:
                pass  # another thread has closed the call, and removed it, too
            if not calls:
                self.calls_by_place.pop(place, None)

    def on_end(self, call: OpenLLMCall, outcome: Outcome) -> None:
        """Stop watching a call that ended; a failed prompt of a sync ``generate`` abandons the others."""
        if outcome.status == "error" and call.task is None:
            for other in self.calls_by_place.get(call.thread_id, ()):
                if other.parent is None and other.params is call.params and other is not call:
                    self.abandoned.append(other)
        self.unwatch(call)

    def on_start(self, run: OpenRun) -> None:
        """Check, before a new run opens, which calls its task or thread has left."""
        if calls := self.calls_by_place.get(_place(run)):
            self._check(calls, run)

    def on_read(self) -> None:
        """Check, when the metrics are read, the calls of this task or thread, and those of threads that have ended."""
        if not self.calls_by_place:
            return
        task = current_task()
        self._check(self.calls_by_place.get(threading.get_ident() if task is None else task, ()), None)
        alive = {thread.ident for thread in threading.enumerate()}
        for place in list(self.calls_by_place):
            if isinstance(place, int) and place not in alive:
                self.abandoned.extend(call for call in self.calls_by_place.get(place, ()) if call.stream is None)

    def clear_after_fork(self) -> None:
        """Watch no call of the parent of a forked child."""
        self.abandoned.clear()
        for calls in self.calls_by_place.values():
            for call in calls:
                call.watch = None
        self.calls_by_place.clear()

    def pop_abandoned(self) -> Iterator[OpenLLMCall]:
        """Yield each abandoned call and stop watching it."""
        while self.abandoned:
            call = self.abandoned.popleft()
            if call.watch is not None:
                self.unwatch(call)
                yield call

    def _check(self, calls: Sequence[OpenLLMCall], run: OpenRun | None) -> None:
        for call in tuple(calls):
            if call.stream is not None or call is run or (run is not None and _is_part_of(run, call)):
                continue
            if call.left_at is None:
                call.left_at = self._clock()
            if call.parent is not None:
                continue
            if run is not None and not _is_same_model(run, call):
                continue
            if run is None or call.task is None:
                self.abandoned.append(call)
            else:
                # A sync call that asks the same model inside itself holds up the loop until it ends.
                call.task.get_loop().call_soon(call.on_task_done, None)


def _place(run: OpenRun) -> asyncio.Task[Any] | int:
    return run.thread_id if run.task is None else run.task


def _is_same_model(run: OpenRun, call: OpenLLMCall) -> bool:
    return isinstance(run, OpenLLMCall) and run.requested() == call.requested()


def _is_part_of(run: OpenRun, call: OpenLLMCall) -> bool:
    """Return whether a run starts inside a call, or is another prompt of the same ``generate``."""
    if isinstance(run, OpenLLMCall) and run.params is call.params:
        return True
    above = run.parent
    while above is not None:
        if above is call:
            return True
        above = above.parent
    return False
