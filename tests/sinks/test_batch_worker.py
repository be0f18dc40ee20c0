"""Background: a slow job delays nobody, a failing one ends nothing, and what is too much is said."""

from __future__ import annotations

import threading

from eco2_callbacks.background import Background


class Heard:
    def __init__(self) -> None:
        self.failures = 0
        self.dropped = 0

    def fail(self) -> None:
        self.failures += 1

    def drop(self) -> None:
        self.dropped += 1


def make(heard: Heard, most: int = 1000) -> Background:
    return Background("background", on_failure=heard.fail, on_dropped=heard.drop, most=most)


def test_jobs_are_done_in_their_order_on_another_thread() -> None:
    """The caller goes on at once; closing waits for what is left."""
    done: list[tuple[int, str]] = []
    background = make(Heard())

    for number in range(100):
        background.submit(lambda number=number: done.append((number, threading.current_thread().name)))  # type: ignore[misc]

    assert background.close(5.0) == 0
    assert done == [(number, "background") for number in range(100)]
    assert "background" not in [thread.name for thread in threading.enumerate()]


def test_a_failing_job_ends_nothing() -> None:
    """Its exception is heard once, and the next job is done."""
    heard, done = Heard(), threading.Event()
    background = make(heard)

    background.submit(lambda: 1 // 0)  # type: ignore[arg-type, return-value]
    background.submit(done.set)  # type: ignore[arg-type]

    assert done.wait(5.0)
    assert background.close(5.0) == 0
    assert heard.failures == 1


def test_what_finds_the_queue_full_is_dropped_and_heard() -> None:
    """The bound holds however long a job hangs: at the threshold nothing is dropped, above it each."""
    heard, release, begun = Heard(), threading.Event(), threading.Event()
    background = make(heard, most=3)

    def hang() -> None:
        begun.set()
        release.wait()

    background.submit(hang)
    assert begun.wait(5.0)
    for _ in range(3):
        assert background.submit(lambda: None)
    assert heard.dropped == 0
    for _ in range(2):
        assert not background.submit(lambda: None)

    assert heard.dropped == 2
    # The one that hangs cannot be given up, those that wait are.
    assert background.close(0.05) == 3
    assert heard.dropped == 2 + 3
    release.set()


def test_it_starts_again_after_it_was_closed() -> None:
    """Closing is no end: a later job gets a thread of its own."""
    done: list[int] = []
    background = make(Heard())

    for number in range(2):
        background.submit(lambda number=number: done.append(number))  # type: ignore[misc]
        assert background.close(5.0) == 0

    assert done == [0, 1]
