"""Background: jobs that wait for something, done on a thread of their own behind a bounded queue."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue

__all__ = ["Background"]

Job = Callable[[], None]
_EXIT_SECONDS = 2.0


class Background:
    """Does jobs one after another on a daemon thread, which starts with the first one.

    Args:
        name: The thread's name.
        on_failure: Called, while the exception is handled, for a job that raised.
        on_dropped: Called for a job that found the queue full, or was given up when it was closed.
        most: How many jobs may wait.
        exit_seconds: How long the end of the process waits for the jobs.
    """

    def __init__(
        self,
        name: str,
        *,
        on_failure: Callable[[], None],
        on_dropped: Callable[[], None],
        most: int = 1000,
        exit_seconds: float = _EXIT_SECONDS,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self._most = most
        self._exit_seconds = exit_seconds
        # The one queue that a finaliser may use in the middle of its own operations.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._process = os.getpid()
        self._starting = threading.RLock()

    def submit(self, job: Job) -> bool:
        """Have a job done, and say whether it will be; never waits."""
        if self._jobs.qsize() >= self._most:
            self._on_dropped()
            return False
        self._start()
        self._jobs.put(job)
        return True

    def is_current(self) -> bool:
        """Say whether this code runs inside a job."""
        return threading.current_thread() is self._thread

    def close(self, timeout_seconds: float) -> int:
        """Wait until every job is done, at most so long, and end the thread; return how many jobs were given up."""
        atexit.unregister(self._exit)
        thread = self._thread
        if thread is None or not thread.is_alive() or self.is_current():
            return 0
        until = time.monotonic() + timeout_seconds
        done = threading.Event()
        self._jobs.put(done.set)
        done.wait(timeout_seconds)
        given_up = 0
        with suppress(Empty):
            while True:
                if self._jobs.get_nowait() not in (done.set, None):
                    given_up += 1
                    self._on_dropped()
        self._jobs.put(None)
        thread.join(max(0.0, until - time.monotonic()))
        return given_up

    def _start(self) -> None:
        with self._starting:
            if self._process != os.getpid():
                # What waited when the process was forked is done by the parent.
                self._process, self._jobs = os.getpid(), SimpleQueue()
            if self._thread is None or not self._thread.is_alive():  # not alive: closed, or after a fork
                self._thread = threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True)
                self._thread.start()
                atexit.register(self._exit)

    def _exit(self) -> None:
        self.close(self._exit_seconds)

    def _work(self, jobs: SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                job()
            except Exception:
                self._on_failure()
            finally:
                job = None  # it holds what it worked on until the next one comes
