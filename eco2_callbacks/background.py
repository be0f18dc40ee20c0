"""Background: jobs that wait for a network, done on a thread of their own behind a bounded queue."""

from __future__ import annotations

import atexit
import queue
import threading
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["Background"]

Job = Callable[[], None]
_EXIT_SECONDS = 2.0


class Background:
    """Does jobs one after another on a daemon thread, which starts with the first one.

    Args:
        name: The thread's name.
        on_failure: Called, while the exception is handled, for a job that raised.
        on_overflow: Called for a job that found the queue full and was dropped.
        most: How many jobs may wait.
    """

    def __init__(
        self, name: str, *, on_failure: Callable[[], None], on_overflow: Callable[[], None], most: int = 1000
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._on_overflow = on_overflow
        self._jobs: queue.Queue[Job | None] = queue.Queue(maxsize=most)
        self._thread: threading.Thread | None = None
        self._starting = threading.RLock()

    def submit(self, job: Job) -> None:
        """Have a job done; never waits."""
        with self._starting:
            if self._thread is None or not self._thread.is_alive():  # not alive: closed, or after a fork
                self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self.close, _EXIT_SECONDS)
        try:
            self._jobs.put_nowait(job)
        except queue.Full:
            self._on_overflow()

    def close(self, timeout_seconds: float) -> int:
        """Wait until every job is done, at most so long, and end the thread; return how many jobs were given up."""
        atexit.unregister(self.close)
        until = time.monotonic() + timeout_seconds
        with self._jobs.all_tasks_done:
            while self._jobs.unfinished_tasks and (left := until - time.monotonic()) > 0:
                self._jobs.all_tasks_done.wait(left)
        given_up = 0
        with suppress(queue.Empty):
            while True:
                self._jobs.get_nowait()
                self._jobs.task_done()
                given_up += 1
        with self._starting:
            if self._thread is not None and self._thread.is_alive():
                self._jobs.put(None)
                self._thread.join(max(0.0, until - time.monotonic()))
        return given_up

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            try:
                job()
            except Exception:
                self._on_failure()
            finally:
                job = None  # it holds what it worked on until the next one comes
                self._jobs.task_done()
        self._jobs.task_done()
