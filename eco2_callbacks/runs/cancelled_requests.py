"""CancelledRequests: finds requests whose task was cancelled while their start callbacks ran."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from eco2_callbacks.runs.open_runs import OpenGraphRun

__all__ = ["CancelledRequests"]


class CancelledRequests:
    """Finds open requests whose end callback will never fire.

    LangChain fires the end callback of a chain that is cancelled, but not before all start callbacks have returned:
    another handler's may wait. Such a request has no run below it. One that has is left to its end callback: another
    task may go on reading its stream.

    Args:
        clock: The handler's clock.

    Attributes:
        found: The requests that wait in ``pop_found()``.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self.found: deque[OpenGraphRun] = deque()

    def watch(self, request: OpenGraphRun) -> None:
        """Watch a request that is about to open."""
        if request.task is not None:
            request.on_cancelled = self._add
            request.task.add_done_callback(request.on_task_done)

    def unwatch(self, request: OpenGraphRun) -> None:
        """Stop watching a request that ended: its task may go on for long, and must not keep it."""
        if request.on_cancelled is not None and request.task is not None:
            request.on_cancelled = None
            request.task.remove_done_callback(request.on_task_done)

    def pop_found(self) -> Iterator[OpenGraphRun]:
        """Yield each request that was found."""
        while self.found:
            try:
                yield self.found.popleft()
            except IndexError:
                return  # another thread closes it

    def clear_after_fork(self) -> None:
        """Leave the requests to the parent of a forked child."""
        self.found.clear()

    def _add(self, request: OpenGraphRun) -> None:
        request.left_at = self._clock()
        self.found.append(request)
