"""BatchWorker: runs jobs one after another on a thread of their own, behind a bounded queue."""

from __future__ import annotations

import atexit
import multiprocessing.util
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable
from queue import Empty, SimpleQueue

from eco2_callbacks import forks

__all__ = ["BatchWorker"]

Job = Callable[[], None]
_EXIT_SECONDS = 2.0
# Waking a thread costs the submitter about 70 microseconds, more than everything else on a job's way.
_REST_SECONDS = 0.05


class BatchWorker:
    """Runs jobs in order on a daemon thread, which starts with the first job.

    When the queue is empty the thread rests for a moment before it blocks: jobs that come close to each other
    wake it once. The queue is drained by ``close()``, at the end of the process (in children of
    ``multiprocessing`` too), and when the worker is garbage collected. A forked child starts with an empty queue: the
    parent runs what waited.

    Args:
        name: Name of the thread.
        on_failure: Called, while the exception is handled, for a job that raised. It must not refer to the worker's
            owner: the thread keeps it.
        on_dropped: Called for a job that is not run: the queue is full, or the worker is closed. The same holds.
        last: Run once after all other jobs, on the same thread, when the worker is closed or collected.
        max_waiting: Number of jobs that may wait.
        exit_seconds: How long the end of the process waits for the jobs.
        rest_seconds: How long the thread rests when the queue is empty; 0 where a caller waits for its job.
        idle_seconds: How long the thread waits for a job before it ends; the next job starts a new one. None keeps it:
            all jobs then run on one thread.
        on_idle: Run on the thread when it has waited ``idle_seconds`` for a job; the thread goes on where it returns
            True. None ends the thread then.
    """

    def __init__(
        self,
        name: str,
        *,
        on_failure: Callable[[], None],
        on_dropped: Callable[[], None],
        last: Job | None = None,
        max_waiting: int = 1000,
        exit_seconds: float = _EXIT_SECONDS,
        rest_seconds: float = _REST_SECONDS,
        idle_seconds: float | None = None,
        on_idle: Callable[[], bool] | None = None,
    ) -> None:
        self._queue = _Queue(
            name, on_failure, on_dropped, last, max_waiting, exit_seconds, rest_seconds, idle_seconds, on_idle
        )
        weakref.finalize(self, self._queue.begin_shutdown).atexit = False
        self.submit = self._queue.submit
        self.try_submit = self._queue.try_submit

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until every job submitted so far was run; return whether the time sufficed."""
        return self._queue.flush(timeout_seconds)

    def runs_here(self) -> bool:
        """Return whether the caller is on the worker's thread, where waiting for a job would never end."""
        return self._queue.runs_here()

    def reopen(self) -> None:
        """Take jobs again, in a forked child whose parent had closed the worker."""
        self._queue.reopen()

    def begin_shutdown(self) -> None:
        """Let the thread run what waits and the last job, and end; do not wait for it."""
        self._queue.begin_shutdown()

    def close(self, timeout_seconds: float) -> int:
        """Shut down and wait for the end; return how many jobs were given up when the time was over."""
        return self._queue.close(timeout_seconds)


class _Queue(forks.ForkAware):
    """The jobs and their thread. The thread refers to this object and never to the worker's owner.

    It takes part in forks itself: another thread can hold its lock at any moment, with a thread of its own or none yet.
    """

    def __init__(
        self,
        name: str,
        on_failure: Callable[[], None],
        on_dropped: Callable[[], None],
        last: Job | None,
        max_waiting: int,
        exit_seconds: float,
        rest_seconds: float,
        idle_seconds: float | None,
        on_idle: Callable[[], bool] | None,
    ) -> None:
        self._name = name
        self._on_failure = on_failure
        self._on_dropped = on_dropped
        self._last = last
        self._max_waiting = max_waiting
        self.exit_seconds = exit_seconds
        self._rest_seconds = rest_seconds
        self._idle_seconds = idle_seconds
        self._on_idle = on_idle
        self._is_closed = False
        self._reset()
        forks.register(self)

    def after_fork_in_child(self) -> None:
        """Start anew, whatever the parent's threads were doing: the parent runs what waits."""
        self._reset()

    def _reset(self) -> None:
        # Reentrant, as SimpleQueue is: a finaliser can submit while this thread holds the lock.
        self._lock = threading.RLock()
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._is_closing = False

    def reopen(self) -> None:
        self._is_closed = False

    def submit(self, job: Job) -> bool:
        """Queue a job and return whether it will be run; one that will not is reported as dropped. Never waits."""
        if self.try_submit(job):
            return True
        self._on_dropped()
        return False

    def try_submit(self, job: Job) -> bool:
        """Queue a job and return whether it will be run; never waits."""
        with self._lock:
            if not self._is_closed and self._jobs.qsize() < self._max_waiting and self._start():
                self._jobs.put(job)
                return True
        return False

    def runs_here(self) -> bool:
        return self._thread is threading.current_thread()

    def flush(self, timeout_seconds: float) -> bool:
        with self._lock:
            if self._thread is None or self.runs_here():
                return True
            # A lock, not an Event: an interrupt inside Event.wait() can surface as a RuntimeError.
            flushed = threading.Lock()
            flushed.acquire()
            self._jobs.put(flushed.release)
        return flushed.acquire(timeout=max(0.0, timeout_seconds))

    def begin_shutdown(self) -> None:
        with self._lock:
            if self._is_closing or self._is_closed:
                return
            self._is_closing = True
            if self._thread is None and (self._last is None or not self._start()):
                self._is_closed = True
            else:
                self._jobs.put(None)

    def close(self, timeout_seconds: float) -> int:
        self.begin_shutdown()
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return 0
        thread.join(max(0.0, timeout_seconds))
        if not thread.is_alive():
            return 0
        with self._lock:
            self._is_closed = True
            given_up = self._drop_waiting()
            self._jobs.put(None)
        return given_up

    def _drop_waiting(self) -> int:
        dropped = 0
        try:
            while True:
                if self._jobs.get_nowait() is not None:
                    dropped += 1
                    self._on_dropped()
        except Empty:
            return dropped

    def _start(self) -> bool:
        """Start the thread if there is none; return whether there is one."""
        if self._thread is None:
            # Thread.start() never returns on Python 3.11 while the interpreter ends.
            if sys.is_finalizing() or _process.is_exiting:
                return False
            # Set before the start: an interrupt inside start() comes when the thread runs already.
            self._thread = threading.Thread(target=self._work, name=self._name, daemon=True)
            _process.add(self)
            try:
                self._thread.start()
            except RuntimeError as error:
                # An interrupt inside start()'s Event.wait() can surface as a RuntimeError.
                if isinstance(error.__context__, KeyboardInterrupt):
                    raise error.__context__ from None
                # No more threads, or (Python 3.12 and later) the interpreter ends.
                self._thread = None
                _process.discard(self)
                return False
        return True

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=self._idle_seconds)
            except Empty:
                if not self._goes_on() and self._end_idle_thread():
                    return
                continue
            if job is None:
                with self._lock:
                    # Jobs that came after the mark are run too: a sink may use a model itself.
                    if not self._jobs.empty() and not self._is_closed:
                        self._jobs.put(None)
                        continue
                    self._is_closed = True
                break
            self._run(job)
            del job  # it refers to what it worked on
            if self._rest_seconds and self._jobs.empty() and not self._is_closing:
                time.sleep(self._rest_seconds)
        if self._last is not None:
            self._run(self._last)
        _process.discard(self)

    def _goes_on(self) -> bool:
        try:
            return self._on_idle is not None and self._on_idle()
        except BaseException:  # as of a job
            self._on_failure()
            return False

    def _end_idle_thread(self) -> bool:
        """Forget the thread if nothing waits, and return whether it may end."""
        with self._lock:
            if not self._jobs.empty() or self._is_closing:
                return False
            self._thread = None
            _process.discard(self)
            return True

    def _run(self, job: Job) -> None:
        try:
            job()
        except BaseException:  # a job that raises SystemExit ends only itself
            self._on_failure()


class _Process(forks.ForkAware):
    """The queues with a thread in this process, and the hooks that drain them when it ends."""

    def __init__(self) -> None:
        self.is_exiting = False
        self._queues: set[_Queue] = set()
        self._lock = threading.RLock()
        self._hooked_pid: int | None = None

    def add(self, queue: _Queue) -> None:
        with self._lock:
            self._queues.add(queue)
            forks.register(self)
            if self._hooked_pid != os.getpid():
                self._hooked_pid = os.getpid()
                atexit.register(self._drain)
                # Children of multiprocessing end by os._exit, without atexit.
                if multiprocessing.parent_process() is not None:
                    multiprocessing.util.Finalize(None, self._drain, exitpriority=100)

    def discard(self, queue: _Queue) -> None:
        with self._lock:
            self._queues.discard(queue)
            if not self._queues and not self.is_exiting:
                atexit.unregister(self._drain)
                self._hooked_pid = None

    def _drain(self) -> None:
        """Run what waits in all queues at once, as far as each queue's time allows."""
        self.is_exiting = True
        queues = list(self._queues)
        for queue in queues:
            queue.begin_shutdown()
        for queue in queues:
            queue.close(queue.exit_seconds)

    def after_fork_in_child(self) -> None:
        """Forget the parent's threads."""
        self.is_exiting = False
        self._lock = threading.RLock()
        self._queues = set()


_process = _Process()
