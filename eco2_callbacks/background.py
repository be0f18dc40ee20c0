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
# Waking a thread costs the one that submits some 70 microseconds, more than all the rest of a job's way here.
_REST_SECONDS = 0.05


class _Ending:
    """A thread that is to end once it has done what waits."""

    def __init__(self, thread: threading.Thread, jobs: SimpleQueue[Job | None]) -> None:
        self.thread = thread
        self.jobs = jobs
        self.done = threading.Event()


class Background:
    """Does jobs one after another on a daemon thread, which starts with the first one.

    When nothing is left to do, the thread rests for a moment before it waits to be woken: jobs that come close upon
    each other wake it once.

    Args:
        name: The thread's name.
        on_failure: Called, while the exception is handled, for a job that raised.
        on_dropped: Called for a job that found the queue full, or was given up when it was closed.
        last: Done after all others when it is closed, however full the queue is.
        most: How many jobs may wait.
        exit_seconds: How long the end of the process waits for the jobs.
    """

    def __init__(
        self,
        name: str,
        *,
        on_failure: Callable[[], None],
        on_dropped: Callable[[], None],
        last: Job | None = None,
        most: int = 1000,
        exit_seconds: float = _EXIT_SECONDS,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self._last = last
        self._most = most
        self._exit_seconds = exit_seconds
        # The one queue that a finaliser may use in the middle of its own operations.
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._ending: _Ending | None = None
        self._closed = False
        self._process = os.getpid()
        self._lock = threading.RLock()

    def submit(self, job: Job) -> bool:
        """Have a job done, and say whether it will be; never waits."""
        with self._lock:
            if self._process != os.getpid():
                # What waited when the process was forked is done by the parent.
                self._process, self._jobs, self._thread, self._ending = os.getpid(), SimpleQueue(), None, None
            if self._jobs.qsize() < self._most:
                self._start()
                self._closed = False
                self._jobs.put(job)
                return True
        self._on_dropped()
        return False

    def is_current(self) -> bool:
        """Say whether this code runs inside a job."""
        return threading.current_thread() is self._thread

    def retire(self) -> None:
        """Let the thread end once it has done what waits; a later job starts another one."""
        with self._lock:
            if self._thread is not None:
                self._jobs.put(None)
                self._jobs, self._thread = SimpleQueue(), None

    def finish(self) -> None:
        """Let it do what waits and the last job, and end; ``close`` waits for that. A later job starts anew."""
        with self._lock:
            if self._ending is not None or self._closed or (self._thread is None and self._last is None):
                return
            thread = self._start()
            self._ending = ending = _Ending(thread, self._jobs)
            self._jobs, self._thread, self._closed = SimpleQueue(), None, True
        if self._last is not None:
            ending.jobs.put(self._last)
        ending.jobs.put(ending.done.set)
        ending.jobs.put(None)

    def close(self, timeout_seconds: float) -> int:
        """Wait until every job is done, at most so long, and end the thread; return how many jobs were given up."""
        atexit.unregister(self._exit)
        self.finish()
        with self._lock:
            ending, self._ending = self._ending, None
        if ending is None or ending.thread is threading.current_thread():
            return 0
        until = time.monotonic() + timeout_seconds
        given_up = 0
        if not ending.done.wait(timeout_seconds):
            with suppress(Empty):
                while True:
                    if ending.jobs.get_nowait() not in (None, ending.done.set, self._last):
                        given_up += 1
                        self._on_dropped()
            ending.jobs.put(None)
        ending.thread.join(max(0.0, until - time.monotonic()))
        return given_up

    def _start(self) -> threading.Thread:
        if self._thread is None:
            thread = threading.Thread(target=self._work, args=(self._jobs,), name=self._name, daemon=True)
            thread.start()
            self._thread = thread
            atexit.register(self._exit)
        return self._thread

    def _exit(self) -> None:
        self.close(self._exit_seconds)

    def _work(self, jobs: SimpleQueue[Job | None]) -> None:
        while (job := jobs.get()) is not None:
            try:
                job()
            except BaseException:  # a job that wants the process to end ends itself alone
                self._on_failure()
            finally:
                job = None  # it holds what it worked on until the next one comes
            if jobs.empty():
                time.sleep(_REST_SECONDS)
