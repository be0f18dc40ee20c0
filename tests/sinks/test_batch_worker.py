"""The background worker: a slow job delays no caller, a failing job ends nothing, dropped jobs are counted."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from eco2_callbacks.sinks.batch_worker import BatchWorker

_MAX_WAIT_SECONDS = 120.0


def _ignore() -> None:
    """Do nothing."""


def _wait_until(condition: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + _MAX_WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up_at
        time.sleep(0.01)


class Counts:
    def __init__(self) -> None:
        self.failures = 0
        self.dropped = 0

    def fail(self) -> None:
        self.failures += 1

    def drop(self) -> None:
        self.dropped += 1


def make(counts: Counts, max_waiting: int = 1000) -> BatchWorker:
    return BatchWorker("background", on_failure=counts.fail, on_dropped=counts.drop, max_waiting=max_waiting)


def test_jobs_are_done_in_their_order_on_another_thread() -> None:
    """The caller does not wait, and close() waits for the remaining jobs."""
    done: list[tuple[int, str]] = []
    background = make(Counts())

    for number in range(100):
        background.submit(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]

    assert background.close(5.0) == 0
    assert done == [(number, "background") for number in range(100)]
    assert "background" not in [thread.name for thread in threading.enumerate()]


def test_a_failing_job_ends_nothing() -> None:
    """A job's exception is counted once, and the next job runs."""
    counts, done = Counts(), threading.Event()
    background = make(counts)

    background.submit(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    background.submit(done.set)  # type: ignore[arg-type]

    assert done.wait(60.0)
    assert background.close(5.0) == 0
    assert counts.failures == 1


def test_a_job_beyond_the_bound_is_dropped_and_counted() -> None:
    """At the bound nothing is dropped, above it every job is, however long the running job hangs."""
    counts, release, started = Counts(), threading.Event(), threading.Event()
    background = make(counts, max_waiting=3)

    def hang() -> None:
        started.set()
        release.wait()

    background.submit(hang)
    assert started.wait(60.0)
    for _ in range(3):
        assert background.submit(lambda: None)
    assert counts.dropped == 0
    for _ in range(2):
        assert not background.submit(lambda: None)

    assert counts.dropped == 2
    # The running job cannot be dropped, the waiting ones are.
    assert background.close(0.05) == 3
    assert counts.dropped == 2 + 3
    release.set()


def test_a_job_after_close_is_dropped_and_counted() -> None:
    """A closed worker runs nothing more and starts no thread."""
    counts, done = Counts(), threading.Event()
    background = make(counts)
    background.submit(lambda: None)
    assert background.close(5.0) == 0

    assert not background.submit(done.set)

    assert (counts.dropped, done.is_set()) == (1, False)
    assert "background" not in [thread.name for thread in threading.enumerate()]


def test_jobs_submitted_by_a_job_at_the_end_are_run() -> None:
    """Whatever is submitted before close() returns is run, also by the jobs that close() waits for."""
    counts, done = Counts(), []
    background = make(counts)
    for number in range(20):
        background.submit(lambda number=number: background.submit(lambda: done.append(number)))  # type: ignore[misc, arg-type, return-value]

    assert background.close(5.0) == 0

    assert len(done) + counts.dropped == 20
    assert counts.dropped == 0


def test_a_collected_worker_runs_what_waits_and_ends() -> None:
    """A worker that its owner forgot leaves no thread, and loses no job."""
    done: list[int] = []
    last = threading.Event()
    background = BatchWorker("forgotten", on_failure=lambda: None, on_dropped=lambda: None, last=last.set)
    for number in range(3):
        background.submit(lambda number=number: done.append(number))  # type: ignore[misc]

    del background

    assert last.wait(60.0)
    assert done == [0, 1, 2]


def test_an_idle_thread_ends_and_comes_back() -> None:
    """With idle_seconds the thread ends when nothing comes; the next job starts a new one, and none is lost."""
    done: list[int] = []
    background = BatchWorker("idle", on_failure=lambda: None, on_dropped=lambda: None, idle_seconds=0.01)

    for number in range(3):
        background.submit(lambda number=number: done.append(number))  # type: ignore[misc]
        while "idle" in [thread.name for thread in threading.enumerate()]:
            threading.Event().wait(0.005)

    assert done == [0, 1, 2]
    assert background.close(5.0) == 0


def test_an_idle_job_runs_as_long_as_it_wants_to() -> None:
    """The thread runs the idle job again and again while it returns True, then ends; the next job starts a new one."""
    answers = iter([True, True, False])
    runs: list[threading.Thread] = []

    def on_idle() -> bool:
        runs.append(threading.current_thread())
        return next(answers, False)

    worker = BatchWorker("idle", on_failure=_ignore, on_dropped=_ignore, idle_seconds=0.01, on_idle=on_idle)
    worker.submit(_ignore)
    _wait_until(lambda: len(runs) == 3 and not runs[0].is_alive())
    worker.submit(_ignore)
    _wait_until(lambda: len(runs) == 4)

    assert len(set(runs[:3])) == 1
    assert runs[3] is not runs[0]
    worker.close(_MAX_WAIT_SECONDS)


def test_an_idle_job_that_fails_ends_its_thread_and_is_counted() -> None:
    """A failure is reported, and the worker goes on with the next job."""
    failures: list[int] = []
    done = threading.Event()

    def on_idle() -> bool:
        raise OSError

    worker = BatchWorker(
        "idle", on_failure=lambda: failures.append(1), on_dropped=_ignore, idle_seconds=0.01, on_idle=on_idle
    )
    worker.submit(_ignore)
    _wait_until(lambda: bool(failures))
    worker.submit(done.set)

    assert done.wait(_MAX_WAIT_SECONDS)
    worker.close(_MAX_WAIT_SECONDS)
