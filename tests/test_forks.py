"""Forks while another thread holds a lock: the child finds it free."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from typing import Any

import pytest

from eco2_callbacks.forks import ForkLock
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
        with lock:
            held.set()
            may_end.wait()

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()

    assert exit_status_of_child(lock.__enter__) == 0

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
