"""The hooks on ``RunTree``: installed once, shared, removed by the last ``close()``; a lost cost is counted."""

from __future__ import annotations

import gc
import logging
import uuid
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import LLMResult
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from langchain_core.tracers import LangChainTracer
from langsmith.run_trees import RunTree
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.langsmith import run_tree_hooks
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import metadata, model_runs
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.traced_graphs import one_node, sync_answer

ORIGINALS = RunTree.post, RunTree.patch


class Listener:
    """Listens to nothing."""

    itself: Any = None

    def must_hold(self, run: RunTree, send: run_tree_hooks.Send) -> bool:
        return False

    def before_end(self, run: RunTree, written: run_tree_hooks.Written) -> None:
        pass


def methods() -> tuple[Any, Any]:
    return RunTree.post, RunTree.patch


@pytest.fixture(autouse=True)
def no_other_listener() -> Iterator[None]:
    """Run each test without the hooks of handlers that other tests left open."""
    listeners = remove_listeners()
    assert not {RunTree.post, RunTree.patch} & set(run_tree_hooks._wrapped)
    yield
    remove_listeners()
    for listener in listeners:
        run_tree_hooks.add_listener(listener)


def remove_listeners() -> list[run_tree_hooks.RunTreeListener]:
    listeners = [listener for reference in run_tree_hooks._listeners if (listener := reference()) is not None]
    for listener in listeners:
        run_tree_hooks.remove_listener(listener)
    return listeners


def new_handler(**options: Any) -> Eco2CallbackHandler:
    return Eco2CallbackHandler(registry=CollectorRegistry(), **options)


def test_a_constructor_installs_nothing() -> None:
    """The methods are wrapped at the first run, and restored by close()."""
    before = methods()

    handler = new_handler()
    assert methods() == before
    FakeModel().invoke("hello", {"callbacks": [handler]})
    during = methods()
    handler.close()

    assert during[0] is not before[0]
    assert during[1] is not before[1]
    assert methods() == before


def test_a_handler_that_nobody_keeps_is_collected() -> None:
    """A handler without a close() is collected after its runs, and the hooks and the log filter go with it."""
    before, filters = methods(), list(logging.getLogger("langsmith.client").filters)
    handler = new_handler()
    FakeModel().invoke("hello", {"callbacks": [handler]})
    collected = weakref.ref(handler)

    del handler
    gc.collect()

    assert collected() is None
    assert methods() == before
    assert logging.getLogger("langsmith.client").filters == filters


def test_a_collection_amid_a_change_leaves_no_listener() -> None:
    """Whenever the garbage collector takes a forgotten listener, the last other one restores the methods."""
    before, thresholds = methods(), gc.get_threshold()
    for allocations in range(1, 30):
        gc.collect()
        forgotten, kept = Listener(), Listener()
        forgotten.itself = forgotten
        run_tree_hooks.add_listener(forgotten)
        del forgotten
        gc.set_threshold(allocations)
        try:
            run_tree_hooks.add_listener(kept)
            run_tree_hooks.remove_listener(kept)
        finally:
            gc.set_threshold(*thresholds)
        gc.collect()

        assert methods() == before, allocations


def test_two_handlers_share_the_hooks(server: LangSmithServer) -> None:
    """The second handler wraps nothing again, and the hooks go with the last close(), in any order."""
    before = methods()
    records = Records(), Records()
    first, second = (new_handler(sinks=[kept]) for kept in records)

    with server.client() as client:
        callbacks: list[BaseCallbackHandler] = [LangChainTracer(client=client)]
        FakeModel().invoke("hello", {"callbacks": [first]})
        wrapped = methods()
        FakeModel().invoke("hello", {"callbacks": [second]})
        assert methods() == wrapped
        FakeModel().invoke("hello", {"callbacks": [*callbacks, first]})
        FakeModel().invoke("hello", {"callbacks": [*callbacks, second]})
        first.close()
        assert methods() == wrapped
        FakeModel().invoke("hello", {"callbacks": [*callbacks, second]})
        second.close()

    assert methods() == before
    assert [metadata(run)["usage_metadata"]["total_cost"] for run in model_runs(server)] == [0.00315] * 3
    assert [len(kept.calls) for kept in records] == [2, 3]


def test_two_handlers_on_one_run_write_it_once(server: LangSmithServer) -> None:
    """A run that two handlers measure is sent once, with its cost."""
    with server.client() as client, new_handler() as first, new_handler() as second:
        one_node(sync_answer).invoke(
            {"message": "hello"}, {"callbacks": [first, LangChainTracer(client=client), second]}
        )

    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    assert len(server.patches(run["id"])) <= 1
    assert all(run["end_time"] for run in server.runs().values())


def test_a_handler_can_be_used_again_after_its_close(server: LangSmithServer) -> None:
    """A run after close() installs the hooks anew."""
    before = methods()
    handler = new_handler()
    with server.client() as client:
        for _ in range(2):
            FakeModel().invoke("hello", {"callbacks": [LangChainTracer(client=client), handler]})
            handler.close()
            assert methods() == before

    assert [metadata(run)["usage_metadata"]["total_cost"] for run in model_runs(server)] == [0.00315] * 2


def test_handlers_in_turn_leave_nothing_behind() -> None:
    """A handler for each request: the wrappers are made once, not once a handler."""
    known: set[int] = set()
    for _ in range(5):
        with new_handler() as handler:
            FakeModel().invoke("hello", {"callbacks": [handler]})
        known.add(len(run_tree_hooks._wrapped))

    assert len(known) == 1


def test_a_cost_that_does_not_reach_langsmith_is_counted_and_logged_once(
    server: LangSmithServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Other code has replaced ``RunTree.patch``: each model run without its cost is counted, and one line is logged."""
    registry = CollectorRegistry()
    with server.client() as client, Eco2CallbackHandler(registry=registry) as handler:
        callbacks = [handler, LangChainTracer(client=client)]
        FakeModel().invoke("hello", {"callbacks": callbacks})
        assert exposed(registry, "eco2_callbacks_errors_total") == 0

        with monkeypatch.context() as other_code:
            other_code.setattr(RunTree, "patch", ORIGINALS[1])
            for _ in range(3):
                one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": callbacks})

    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "langsmith"}) == 3
    (line,) = [line for line in caplog.records if line.levelno >= logging.ERROR]
    assert line.getMessage().startswith("LangSmith was not sent the cost of run ")
    assert len([run for run in model_runs(server) if "total_cost" in metadata(run).get("usage_metadata", {})]) == 1


def test_a_method_that_other_code_has_replaced_is_wrapped_by_the_next_handler(
    server: LangSmithServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After ``RunTree.patch`` was replaced, the next handler's runs carry their cost again."""
    before = methods()
    with server.client() as client, new_handler() as first, new_handler() as second:
        FakeModel().invoke("hello", {"callbacks": [first]})
        with monkeypatch.context() as other_code:
            other_code.setattr(RunTree, "patch", ORIGINALS[1])
            FakeModel().invoke("hello", {"callbacks": [second, LangChainTracer(client=client)]})

    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.00315
    assert methods() == before


def test_a_cost_that_cannot_be_written_is_counted(
    server: LangSmithServer, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run whose update raises is sent without its cost, counted and logged; the application goes on."""
    registry = CollectorRegistry()

    def refuse(*_: Any) -> None:
        raise RuntimeError("cannot be written")

    with server.client() as client, Eco2CallbackHandler(registry=registry) as handler:
        monkeypatch.setattr("eco2_callbacks.langsmith.run_updates.RunUpdate.apply", refuse)
        answer = FakeModel().invoke("hello", {"callbacks": [handler, LangChainTracer(client=client)]})

    assert answer.text == "sort it well"
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "langsmith"}) == 1
    assert "could not be written on" in caplog.text
    assert [run["end_time"] is not None for run in model_runs(server)] == [True]


def test_wrappers_of_other_code_stay(server: LangSmithServer, monkeypatch: pytest.MonkeyPatch) -> None:
    """Other code wraps ``patch`` after the handler: its wrapper works after close(), until it is removed itself."""
    before = methods()
    handler = new_handler()
    FakeModel().invoke("hello", {"callbacks": [handler]})
    wrapped, seen = RunTree.patch, []

    def of_other_code(self: RunTree, *args: Any, **kwargs: Any) -> None:
        seen.append(self.id)
        wrapped(self, *args, **kwargs)

    with server.client() as client:
        with monkeypatch.context() as other_code:
            other_code.setattr(RunTree, "patch", of_other_code)
            FakeModel().invoke("hello", {"callbacks": [handler, LangChainTracer(client=client)]})
            handler.close()
            FakeModel().invoke("hello", {"callbacks": [LangChainTracer(client=client)]})
        FakeModel().invoke("hello", {"callbacks": [handler]})
        handler.close()

    assert methods() == before
    assert len(seen) == 2
    assert [bool(run["end_time"]) for run in model_runs(server)] == [True, True]


class Forwarder(BaseCallbackHandler):
    """Stands in the list of callbacks and forwards every event to another handler, as proxies of callbacks do."""

    run_inline = True

    def __init__(self, handler: BaseCallbackHandler) -> None:
        self._handler = handler

    def __getattribute__(self, name: str) -> Any:
        if name.startswith("on_"):
            return getattr(object.__getattribute__(self, "_handler"), name)
        return object.__getattribute__(self, name)


@pytest.mark.parametrize("order", ["tracer first", "handler first"])
def test_a_handler_behind_another_one_writes_the_cost(server: LangSmithServer, order: str) -> None:
    """A handler that gets its events from another handler writes usage and cost on every run."""
    registry = CollectorRegistry()
    with server.client() as client, Eco2CallbackHandler(registry=registry) as handler:
        callbacks = [LangChainTracer(client=client), Forwarder(handler)]
        one_node(sync_answer).invoke(
            {"message": "hello"}, {"callbacks": callbacks if order == "tracer first" else callbacks[::-1]}
        )

    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    assert metadata(server.run(name="LangGraph"))["cost_usd"] == 0.0053872
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


def test_a_run_that_is_not_traced_costs_nothing() -> None:
    """Without a tracer nothing is kept for LangSmith."""
    with new_handler() as handler:
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": [handler]})

        assert handler._langsmith._pending == {}
        assert handler._langsmith._unsent == {}


def test_an_untraced_run_with_streamed_inputs_keeps_nothing() -> None:
    """LangChain sends its start with its end, so that at first no run tells whether it is traced."""

    def words(texts: Iterator[str]) -> Iterator[str]:
        yield from texts

    chain = RunnableLambda(lambda text: text) | RunnableGenerator(words)
    with new_handler() as handler:
        for _ in range(50):
            chain.invoke("hello", {"callbacks": [handler]})

        assert handler._langsmith._pending == {}


def test_topmost_runs_with_streamed_inputs_keep_little() -> None:
    """Only the last ones wait for a tracer."""

    def words(texts: Iterator[str]) -> Iterator[str]:
        yield from texts

    with new_handler() as handler:
        for _ in range(600):
            RunnableGenerator(words).invoke("hello", {"callbacks": [handler]})

        assert len(handler._langsmith._pending) <= 500


def test_an_end_that_is_held_back_leaves_with_close(server: LangSmithServer) -> None:
    """The tracer sends the end of a run that is open in the handler: close() sends it at the latest."""
    run_id = uuid.uuid4()
    with server.client() as client:
        handler, tracer = new_handler(), LangChainTracer(client=client)
        for callback in (handler, tracer):
            callback.on_llm_start({}, ["hello"], run_id=run_id)
        tracer.on_llm_end(LLMResult(generations=[[]]), run_id=run_id)
        handler.close()

    (run,) = model_runs(server)
    assert run["end_time"]
