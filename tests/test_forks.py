"""Forks while another thread holds a lock: the child finds it free."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eco2_callbacks.forks import ForkAware, ForkLock, register
from eco2_callbacks.sinks import BatchWorker
from eco2_callbacks.usage import tokenizers

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork"),
    pytest.mark.filterwarnings("ignore:This process:DeprecationWarning"),
]


def exit_status_of_child(work: Callable[[], Any]) -> int:
    """Fork, run the work in the child, and return how the child ended: 0, or something else if it failed or hung."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(120)
        try:
            work()
            os._exit(0)
        finally:
            os._exit(1)
    return os.waitpid(pid, 0)[1]


def test_a_lock_that_another_thread_holds_is_free_in_a_child() -> None:
    """The child takes the lock at once, and the thread of the parent still holds the parent's."""
    lock, held, may_end = ForkLock(), threading.Event(), threading.Event()

    def hold() -> None:
        with lock.held:
            held.set()
            may_end.wait()

    def take() -> None:
        with lock.held:
            pass

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    assert exit_status_of_child(take) == 0

    may_end.set()
    thread.join()


def test_a_child_counts_tokens_although_a_vocabulary_was_being_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A fork during the first estimate leaves the child able to estimate too."""
    loading, may_go_on = threading.Event(), threading.Event()

    def find_late(name: str) -> None:
        if threading.current_thread() is not threading.main_thread():
            loading.set()
            may_go_on.wait()

    monkeypatch.setattr(tokenizers, "find_spec", find_late)
    tokenizers._choose.cache_clear()
    thread = threading.Thread(target=tokenizers.count_tokens, args=("hello", "gpt-5.2"))
    thread.start()
    loading.wait()

    assert exit_status_of_child(lambda: tokenizers.count_tokens("hello", "gpt-5.2")) == 0

    may_go_on.set()
    thread.join()
    tokenizers._choose.cache_clear()


def test_an_interrupt_leaves_no_lock_taken() -> None:
    """Wherever a signal's exception falls, another thread can take the lock afterwards."""
    lock, rng, interrupted = ForkLock(), random.Random(1), 0

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    try:
        for _ in range(300):
            try:
                signal.setitimer(signal.ITIMER_REAL, rng.uniform(1e-5, 1e-3))
                while True:
                    with lock.held:
                        pass
            except KeyboardInterrupt:
                interrupted += 1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    taken: list[bool] = []
    thread = threading.Thread(target=lambda: taken.append(lock.held.acquire(blocking=False)))  # type: ignore[attr-defined]
    thread.start()
    thread.join()

    assert (interrupted, taken) == (300, [True])


def test_a_thread_registers_while_a_fork_waits_for_it() -> None:
    """A fork that waits for what a thread holds lets that thread make its first lock."""
    held, is_waited_for = threading.Lock(), threading.Event()

    class Holder(ForkAware):
        def before_fork(self) -> None:
            is_waited_for.set()
            held.acquire()

        def after_fork_in_parent(self) -> None:
            held.release()

    holder = Holder()
    register(holder)
    begun = threading.Event()

    def use_first_lock() -> None:
        with held:
            begun.set()
            is_waited_for.wait()
            with ForkLock().held:
                pass

    thread = threading.Thread(target=use_first_lock)
    thread.start()
    begun.wait()

    assert exit_status_of_child(lambda: None) == 0

    thread.join()


def test_a_child_reopens_what_its_parent_has_closed() -> None:
    """A worker that the parent closed refuses jobs in a child too, until the child reopens it."""
    worker = BatchWorker("eco2-test", on_failure=lambda: None, on_dropped=lambda: None)
    worker.close(10.0)

    def work() -> None:
        assert not worker.try_submit(lambda: None)
        worker.reopen()
        done = threading.Event()
        assert worker.try_submit(done.set)
        done.wait()

    assert exit_status_of_child(work) == 0
