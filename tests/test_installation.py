"""install() and uninstall(): calls that no config reaches are measured, once, in all threads and children."""

from __future__ import annotations

import multiprocessing
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tracers import context as tracer_context
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.installation import is_installed
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, graph_of


def three_calls(state: State) -> State:
    """Call a model as the config reaches it, with callbacks=[] and in a plain thread pool."""
    model = FakeModel()
    model.invoke("plain")
    (ChatPromptTemplate.from_template("{q}") | model).invoke({"q": "a guardrail"}, {"callbacks": []})
    with ThreadPoolExecutor() as executor:
        executor.submit(model.invoke, "in a thread").result()
    return {}


@contextmanager
def installed(handler: Eco2CallbackHandler) -> Iterator[None]:
    handler.install()
    try:
        yield
    finally:
        handler.uninstall()


def test_an_installed_handler_measures_calls_that_no_config_reaches(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """Three of three calls are measured; those with the node's context count in it."""
    with installed(handler):
        graph_of(three_calls).compile().invoke({"answers": []})

    assert [(call.node, call.cost and call.cost.total_usd) for call in records.calls] == [
        ("three_calls", COST),
        ("three_calls", COST),
        ("", COST),
    ]
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(3 * float(COST))
    # A plain thread has no context, so its call is in no request.
    assert records.request.cost.total_usd == 2 * COST


def test_without_install_only_the_config_reaches_calls(handler: Eco2CallbackHandler, records: Records) -> None:
    """The handler in the config alone sees one of the three calls."""
    graph_of(three_calls).compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert len(records.calls) == 1


@pytest.mark.parametrize("attached", [1, 2], ids=["in_the_config", "twice_in_the_config"])
def test_an_installed_handler_in_the_config_sees_each_run_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, attached: int
) -> None:
    """Attached in several ways, each run is one record and counts once."""
    handler.install()
    with installed(handler):
        graph_of(three_calls).compile().invoke({"answers": []}, {"callbacks": [handler] * attached})

    assert [type(record).__name__ for record in records.all] == ["LLMCall"] * 3 + ["NodeRun", "GraphRun"]
    assert exposed(registry, "llm_calls_total") == 3
    assert exposed(registry, "chat_requests_total") == 1
    assert exposed(registry, "graph_node_runs_total") == 1


def test_uninstall_reaches_all_threads(handler: Eco2CallbackHandler, records: Records) -> None:
    """A thread that measured before measures no run that starts after uninstall()."""
    first, second = threading.Event(), threading.Event()

    def work() -> None:
        FakeModel().invoke("before")
        first.set()
        second.wait()
        FakeModel().invoke("after")

    thread = threading.Thread(target=work)
    with installed(handler):
        thread.start()
        first.wait()
    second.set()
    thread.join()

    assert len(records.calls) == 1


def test_several_handlers_can_be_installed() -> None:
    """Each installed handler has the record; the hooks of uninstalled ones are used again."""
    sinks = [Records(), Records()]
    handlers = [Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink]) for sink in sinks]
    with installed(handlers[0]), installed(handlers[1]):
        FakeModel().invoke("hello")
    hooks = len(tracer_context._configure_hooks)
    with installed(handlers[1]):
        FakeModel().invoke("hello")

    assert [len(sink.calls) for sink in sinks] == [1, 2]
    assert len(tracer_context._configure_hooks) == hooks


def test_close_uninstalls(records: Records) -> None:
    """A closed handler is attached to no further run."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records])
    handler.install()
    handler.close()

    FakeModel().invoke("hello")

    assert not is_installed(handler)
    assert records.all == []


def test_uninstall_during_the_start_of_a_run_breaks_nothing(handler: Eco2CallbackHandler) -> None:
    """LangChain asks a hook twice, and would raise in the application if only the first answer was a handler."""
    with installed(handler):
        (slot,) = [hook[0] for hook in tracer_context._configure_hooks if hook[0].get() is handler]
        slot.get()  # ends the question that found it
        assert slot.get() is handler
        handler.uninstall()
        assert slot.get() is handler
        assert slot.get() is None


def _calls_in_a_child(results: Any) -> None:
    registry = CollectorRegistry()
    FakeModel().invoke("hello")
    results.put((len(_records.calls), exposed(registry, "llm_calls_total")))


_records = Records()


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="the platform has no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_child_keeps_what_is_installed() -> None:
    """A child of a process that installed a handler, as a worker of a preloading server is, measures its calls."""
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    with (
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[_records]) as handler,
        installed(handler),
    ):
        child = context.Process(target=_calls_in_a_child, args=(results,))
        child.start()
        measured = results.get()
        child.join()

    assert measured == (1, 0)
    assert _records.all == []


async def test_an_installed_handler_measures_streams_and_async_calls(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """Asynchronous and streamed calls without a config are measured as well."""
    with installed(handler):
        await FakeModel().ainvoke("hello")
        _ = [chunk async for chunk in FakeModel().astream("hello", {"callbacks": []})]

    assert [call.streamed for call in records.calls] == [False, True]
