"""LangSmith with several handlers and threads: an end is sent when no queue's lock is held."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from langchain_core.tracers import LangChainTracer
from langsmith.run_trees import RunTree
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.langsmith import run_tree_hooks
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, model_runs, usage_of
from tests.support.langsmith_server import LangSmithServer

# No test waits that long, unless threads wait for each other.
DEADLOCK_SECONDS = 60


class Before:
    """Does something before the end of each run is sent, and before any handler writes on it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act

    def must_hold(self, run: RunTree, send: run_tree_hooks.Send) -> bool:
        return False

    def before_end(self, run: RunTree, written: run_tree_hooks.Written) -> None:
        self._act()


@contextmanager
def before_each_end(act: Callable[[], object]) -> Iterator[None]:
    listener = Before(act)
    run_tree_hooks.add_listener(listener)
    try:
        yield
    finally:
        run_tree_hooks.remove_listener(listener)


def test_two_handlers_that_send_held_ends_do_not_wait_for_each_other(server: LangSmithServer) -> None:
    """Each handler sends an end while runs wait in the other one: both ends leave, each with its cost."""
    # Not closed where the test fails: that would wait for the stuck threads.
    handlers = [Eco2CallbackHandler(registry=CollectorRegistry()) for _ in range(2)]

    def leave_runs_waiting() -> None:
        FakeModel().invoke("untraced", {"callbacks": list(handlers)})

    both_send = threading.Barrier(2, action=leave_runs_waiting, timeout=DEADLOCK_SECONDS)
    with server.client() as client, before_each_end(both_send.wait):
        tracers = [LangChainTracer(client=client) for _ in handlers]
        threads = [
            threading.Thread(target=FakeModel().invoke, args=("hello", {"callbacks": [*pair]}), daemon=True)
            for pair in zip(tracers, handlers, strict=True)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLOCK_SECONDS)

        assert not any(thread.is_alive() for thread in threads)
        client.flush()
    for handler in handlers:
        handler.close()

    assert [usage_of(run) for run in model_runs(server)] == [PRICED_USAGE] * 2


class Settling:
    """Counts how often the records of all ended runs were wanted."""

    def __init__(self) -> None:
        self.times = 0

    def settle(self) -> None:
        self.times += 1


def test_an_end_whose_numbers_are_there_waits_for_no_other_record(server: LangSmithServer) -> None:
    """A run that was recorded is sent as it is, whatever else waits to be recorded."""
    settling = Settling()
    with server.client() as client, Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        handler._langsmith.follow(is_open=handler._tracker.is_open, settle=settling.settle)

        FakeModel().invoke("hello", {"callbacks": [LangChainTracer(client=client), handler]})
        client.flush()

    assert settling.times == 0
    (run,) = model_runs(server)
    assert usage_of(run) == PRICED_USAGE
