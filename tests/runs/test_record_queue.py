"""Runs that are recorded later: the same records in the same order, none lost, and never too many at once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.runnables import RunnableLambda
from langgraph.types import interrupt
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LLMCall, NodeRun, Record
from eco2_callbacks.prometheus import snapshots
from eco2_callbacks.runs import OpenRun, RunObserver
from eco2_callbacks.runs.record_queue import MAX_WAITING
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.provider_cases import CASES, play
from tests.support.record_sink import exposed
from tests.support.small_graphs import State, answer, graph_of, intent
from tests.support.two_kinds import Kind, handlers_of_two_kinds
from tests.support.unreported_cases import UNREPORTED

# No thread waits that long, unless it waits for ever.
STUCK_SECONDS = 60


class Twice(FakeModel):
    """Answers with two choices."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        choice = super()._generate(*args, **kwargs).generations[0]
        return ChatResult(generations=[choice, choice])


class Nested(FakeModel):
    """Asks another model inside its own call."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        FakeModel().invoke("inner")
        return super()._generate(*args, **kwargs)


async def fail(config: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        await FakeModel(fails=[ValueError("no")]).ainvoke("hello", config)


async def stream(config: Any) -> None:
    _ = [chunk async for chunk in FakeModel().astream("hello", config)]


async def fail_in_stream(config: Any) -> None:
    with pytest.raises(ValueError, match="no"):
        _ = [chunk async for chunk in FakeModel(fails=[ValueError("no")], fails_after=1).astream("hello", config)]


async def cut_stream(config: Any) -> None:
    chunks = FakeModel().astream("hello", config)
    await anext(chunks)
    await chunks.aclose()  # type: ignore[attr-defined]


async def cancel(config: Any) -> None:
    task = asyncio.create_task(FakeModel(pause_seconds=3600).ainvoke("hello", config))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def graph(config: Any) -> None:
    await graph_of(intent, answer).compile().ainvoke({"answers": []}, config)


async def failing_graph(config: Any) -> None:
    def broken(state: State) -> State:
        FakeModel().invoke("first")
        FakeModel(fails=[ValueError("no")]).invoke("second")
        return {}

    with pytest.raises(ValueError, match="no"):
        await graph_of(intent, broken).compile().ainvoke({"answers": []}, config)


async def interrupted_graph(config: Any) -> None:
    from langgraph.checkpoint.memory import InMemorySaver

    def ask(state: State) -> State:
        interrupt("sure?")
        return {}

    compiled = graph_of(intent, ask).compile(checkpointer=InMemorySaver())
    await compiled.ainvoke({"answers": []}, {**config, "configurable": {"thread_id": "1"}})


async def recover(config: Any) -> None:
    model = FakeModel(fails=[ValueError("no")]).with_fallbacks([FakeModel(model="gpt-5.2-mini")])
    await RunnableLambda(model.invoke).ainvoke("hello", config)


SITUATIONS: dict[str, Callable[[Any], Any]] = {
    "call": lambda config: FakeModel(usage=DETAILED_USAGE).ainvoke("hello", config),
    "unknown model": lambda config: FakeModel(model="unheard-of", answered_by=None).ainvoke("hello", config),
    "no usage": lambda config: FakeModel(usage=None).ainvoke("hello", config),
    "two choices": lambda config: Twice().ainvoke("hello", config),
    "call in a call": lambda config: Nested().ainvoke("hello", config),
    "batch": lambda config: FakeModel().abatch(["a", "b", "c"], config),
    "error": fail,
    "stream": stream,
    "error in a stream": fail_in_stream,
    "cut stream": cut_stream,
    "cancelled call": cancel,
    "graph": graph,
    "failing graph": failing_graph,
    "interrupted graph": interrupted_graph,
    "fallback": recover,
}


async def measure(situation: str, **options: Any) -> tuple[Kind, Kind]:
    at_once, later = handlers_of_two_kinds(**options)
    config = {"callbacks": [at_once.handler, later.handler], "metadata": {"tenant_id": "acme", "user_id": "u1"}}
    await SITUATIONS["graph"](config)
    await SITUATIONS[situation](config)
    await SITUATIONS["call"](config)
    return at_once, later


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_exposition_is_equal_at_once_and_later(situation: str) -> None:
    """With and without a sink that needs its record at once, a scrape shows the same, down to the last figure."""
    at_once, later = await measure(situation)

    assert later.exposition() == at_once.exposition()


@pytest.mark.parametrize("situation", SITUATIONS)
async def test_the_records_are_equal_and_in_order(situation: str) -> None:
    """A sink behind a queue gets the same records in the same order as an inline one."""
    at_once, later = await measure(situation, queued=True)
    later.handler.flush()

    assert later.records.all == at_once.records.all
    assert not later.handler._tracker._queue


@pytest.mark.parametrize("case", [*CASES, *UNREPORTED], ids=lambda case: case.name)
def test_every_providers_answer_is_billed_equally_at_once_and_later(case: Any) -> None:
    """What is kept of an answer until it is recorded is all that its provider's rules read."""
    at_once, later = handlers_of_two_kinds()
    for kind in (at_once, later):
        play(case, kind.handler)

    assert later.exposition() == at_once.exposition()


async def test_a_plain_end_is_recorded_by_the_next_flush(registry: CollectorRegistry) -> None:
    """Without a sink a plain call waits; what it is billed from is a copy, which the application cannot change."""
    handler = Eco2CallbackHandler(registry=registry)
    reply = await FakeModel().ainvoke("hello", {"callbacks": [handler]})
    assert len(handler._tracker._queue) == 1

    reply.usage_metadata["input_tokens"] = 0  # type: ignore[index]
    reply.response_metadata.clear()
    reply.content = ""

    assert exposed(registry, "llm_tokens_total") == 1100
    assert len(handler._tracker._queue) == 0


async def test_later_nodes_do_not_change_an_earlier_record() -> None:
    """Intent and tenant of a node are those of its own end, although it is recorded after the state has changed."""

    def first(state: State) -> State:
        return {"intent": "first"}

    def second(state: State) -> State:
        return {"intent": "second"}

    _, later = handlers_of_two_kinds(queued=True)
    await graph_of(first, second).compile().ainvoke({"answers": []}, {"callbacks": [later.handler]})
    later.handler.flush()

    assert [(run.node, run.intent) for run in later.records.of(NodeRun)] == [("first", "first"), ("second", "second")]


async def test_calls_come_before_their_node_and_the_request_last() -> None:
    """A node's record holds the sum of its calls, so it is made after them."""
    _, later = handlers_of_two_kinds(queued=True)
    await graph({"callbacks": [later.handler]})
    later.handler.flush()

    assert [type(record) for record in later.records.all] == [LLMCall, NodeRun, LLMCall, NodeRun, GraphRun]
    assert later.records.request.llm_calls == 2
    assert later.records.request.cost.total_usd == sum(call.cost.total_usd for call in later.records.calls if call.cost)


async def test_at_most_64_runs_wait(registry: CollectorRegistry) -> None:
    """Where the worker does not come to it, the next end records what waits."""
    handler = Eco2CallbackHandler(registry=registry)
    most = 0
    # No other thread runs while this one does not wait.
    for _ in range(3 * MAX_WAITING):
        await FakeModel().ainvoke("hello", {"callbacks": [handler]})
        most = max(most, len(handler._tracker._queue))

    assert most <= MAX_WAITING
    assert exposed(registry, "llm_calls_total") == 3 * MAX_WAITING


def test_a_flush_pauses_after_a_slice(registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch) -> None:
    """Between two pauses, in which other threads run, at most 64 runs are recorded and counted."""
    handler = Eco2CallbackHandler(registry=registry)
    queue = handler._tracker._queue
    monkeypatch.setattr(queue._settler, "settle_soon", lambda: None)
    for _ in range(MAX_WAITING - 1):
        FakeModel().invoke("hello", {"callbacks": [handler]})
    waiting = [len(queue)]
    monkeypatch.setattr(snapshots, "pause", lambda: waiting.append(len(queue)))

    handler.flush()

    slices = [before - after for before, after in pairwise(waiting)]
    assert sum(slices) == MAX_WAITING - 1
    assert max(slices) <= 16


def test_ends_of_many_threads_are_each_recorded_once(registry: CollectorRegistry) -> None:
    """Errors record what waits while other threads end plain calls."""
    handler = Eco2CallbackHandler(registry=registry)

    def work() -> None:
        for number in range(60):
            if number % 5:
                FakeModel().invoke("hello", {"callbacks": [handler]})
            else:
                with pytest.raises(ValueError, match="no"):
                    FakeModel(fails=[ValueError("no")]).invoke("hello", {"callbacks": [handler]})

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert registry.get_sample_value("eco2_callbacks_open_runs") == 0
    assert exposed(registry, "llm_calls_total") == 240
    assert exposed(registry, "llm_errors_total") == 48


def test_a_message_of_another_class_is_recorded_at_once(registry: CollectorRegistry) -> None:
    """An answer that is no plain message is billed as before, and nothing of it waits."""
    handler = Eco2CallbackHandler(registry=registry)

    class Blocks(FakeModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            message = AIMessage(
                content=[{"type": "web_search_call", "id": "1", "action": {"type": "search"}}],
                usage_metadata=self.usage,
                response_metadata=self._response_metadata(),
            )
            return ChatResult(generations=[ChatGeneration(message=message)])

    Blocks().invoke([HumanMessage("hello")], {"callbacks": [handler]})

    assert len(handler._tracker._queue) == 0
    assert exposed(registry, "llm_server_tool_calls_total") == 1


class Recording(RunObserver):
    """Keeps the thread that records from going on until ``go_on`` is set."""

    def __init__(self, events: list[str]) -> None:
        self._events = events
        self.begins, self.go_on = threading.Event(), threading.Event()

    def on_end(self, run: OpenRun, record: Record | None) -> None:
        self.begins.set()
        self.go_on.wait(STUCK_SECONDS)
        self._events.append("recorded")


class NotedLock:
    """A lock that sets an event when a thread is about to wait for it."""

    def __init__(self, lock: Any, event: threading.Event) -> None:
        self._lock, self._event = lock, event

    def __enter__(self) -> None:
        self._event.set()
        self._lock.acquire()

    def __exit__(self, *_: object) -> None:
        self._lock.release()


def test_settling_waits_for_a_record_that_another_thread_makes(registry: CollectorRegistry) -> None:
    """Whoever settles then finds every number, also of a run that has left the queue and is not recorded yet."""
    handler = Eco2CallbackHandler(registry=registry)
    events: list[str] = []
    recording = Recording(events)
    handler._tracker.add_observer(recording)
    queue = handler._tracker._queue
    FakeModel().invoke("hello", {"callbacks": [handler]})
    recorder = threading.Thread(target=queue.settle, daemon=True)
    recorder.start()
    assert recording.begins.wait(STUCK_SECONDS)
    waits_or_is_done = threading.Event()
    queue._lock = NotedLock(queue._lock, waits_or_is_done)  # type: ignore[assignment]

    def settle() -> None:
        queue.settle()
        events.append("settled")
        waits_or_is_done.set()

    settler = threading.Thread(target=settle, daemon=True)
    settler.start()
    assert waits_or_is_done.wait(STUCK_SECONDS)
    recording.go_on.set()
    for thread in (recorder, settler):
        thread.join(STUCK_SECONDS)

    assert events == ["recorded", "settled"]
