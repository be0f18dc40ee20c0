"""Calls without an end callback: they are found, billed and closed, and no running call is."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypedDict

import pytest
from langchain_core.callbacks import AsyncCallbackManager, BaseCallbackHandler, CallbackManager
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from langgraph.graph import START, StateGraph
from prometheus_client import CollectorRegistry
from pydantic import Field, PrivateAttr

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.fake_model import USAGE, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.tracing_modes import activate

V3 = pytest.mark.needs_core("1.4")  # v3 streams
BETA = pytest.mark.filterwarnings("ignore:The method .* is in beta")
PROMPT = "How do I sort this?"  # 12 tokens with the overhead of a message
SORT = TokenUsage(input_tokens=12, output_tokens=2 + 4)  # "sort " and the overhead of an answer


class State(TypedDict, total=False):
    message: str


class Halting(FakeModel):
    """Streams its first word, and the others once ``go_on`` is set."""

    go_on: Any = Field(default_factory=asyncio.Event)

    async def _astream(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> Any:
        for number, chunk in enumerate(self._chunks()):
            if number:
                await self.go_on.wait()
            yield chunk


async def wait_until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(5):
        while not condition():
            await asyncio.sleep(0.002)


def open_runs(registry: CollectorRegistry) -> float:
    return exposed(registry, "eco2_callbacks_open_runs")


async def cancel(handler: Eco2CallbackHandler) -> Any:
    waits = asyncio.Event()
    model = FakeModel(pause_seconds=60, on_pause=waits.set)
    task = asyncio.create_task(model.ainvoke(PROMPT, {"callbacks": [handler]}))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError) as kept:
        await task
    return kept


async def give_up(handler: Eco2CallbackHandler) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await FakeModel(pause_seconds=60).ainvoke(PROMPT, {"callbacks": [handler]})
    await asyncio.sleep(0)


@pytest.mark.parametrize("end", [cancel, give_up])
async def test_a_cancelled_topmost_call_is_closed(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records, end: Any
) -> None:
    """Whether its task ends, with a reference to the exception left, or goes on: it is closed as an estimate."""
    kept = await end(handler)
    gc.collect()

    assert open_runs(registry) == 0
    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("cancelled", None, "cancelled")
    assert call.usage == TokenUsage(input_tokens=12)
    del kept


async def test_the_next_event_is_enough(handler: Eco2CallbackHandler, records: Records) -> None:
    """An abandoned call is recorded although no one reads the registry."""
    await cancel(handler)
    assert records.calls == []

    await FakeModel().ainvoke("hello", {"callbacks": [handler]})

    assert sorted(call.status for call in records.calls) == ["cancelled", "success"]


async def test_closing_the_handler_is_enough(handler: Eco2CallbackHandler, records: Records) -> None:
    """At the end no further event is needed."""
    await cancel(handler)

    handler.close()

    assert (records.call.status, records.call.error_type) == ("cancelled", None)


class Events(FakeModel):
    """Fires no token callback, so that its v3 stream is reported by events alone."""

    def _stream(self, *args: Any, **kwargs: Any) -> Any:
        yield from self._chunks()


@V3
@BETA
@pytest.mark.parametrize("model", [FakeModel(usage=None), Events(usage=None)], ids=["chunks_and_events", "events"])
def test_a_v3_stream_left_unread_ends_with_the_run_above(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records, model: Any
) -> None:
    """LangChain runs it as it is read, and fires no end callback when reading stops."""

    def answer(state: State) -> State:
        for _ in model.stream_events(PROMPT, version="v3"):
            if exposed(registry, "chat_stream_tokens_total"):
                break
        return {}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    graph.invoke({"message": PROMPT}, {"callbacks": [handler]})

    assert (open_runs(registry), exposed(registry, "chat_stream_active")) == (0, 0)
    assert registry.get_sample_value("chat_stream_requests_total", {"status": "cancelled"}) == 1
    assert (records.call.status, records.call.usage) == ("cancelled", SORT)


@V3
@BETA
def test_a_v3_stream_left_unread_below_no_run_ends_with_the_handler(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """Nothing tells such a stream from one that is read slowly; close() ends it."""
    for _ in FakeModel(usage=None).stream_events(PROMPT, {"callbacks": [handler]}, version="v3"):
        if exposed(registry, "chat_stream_tokens_total"):
            break
    assert open_runs(registry) == 1

    handler.close()

    assert (open_runs(registry), exposed(registry, "chat_stream_active")) == (0, 0)
    assert (records.call.status, records.call.usage) == ("cancelled", SORT)


@V3
@BETA
async def test_an_async_v3_stream_left_unread_runs_to_its_end(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """It runs in a task of its own, and its end callback fires."""

    async def look() -> None:
        stream: Any = await model.astream_events(PROMPT, {"callbacks": [handler]}, version="v3")
        await anext(aiter(stream))

    model: Any = Halting()
    await asyncio.create_task(look())
    gc.collect()
    assert open_runs(registry) == 1

    model.go_on.set()
    await wait_until(lambda: open_runs(registry) == 0)

    assert (records.call.status, records.call.estimated) == ("success", False)


def test_the_other_prompts_of_a_failed_generate_end(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """LangChain reports the failure alone, and drops what was answered before it."""
    model = FakeModel(fails=[ValueError("no")])

    with suppress(ValueError):
        model.generate([[HumanMessage(PROMPT)], [HumanMessage(PROMPT)]], callbacks=[handler])
    gc.collect()

    assert open_runs(registry) == 0
    assert [(call.status, call.error_type) for call in records.calls] == [("error", "ValueError"), ("cancelled", None)]


@pytest.mark.parametrize("way", ["environment", "tracer_before", "tracer_after"])
async def test_a_stream_cancelled_with_its_graph_is_closed_on_langsmith(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records, way: str
) -> None:
    """For a model that streams because its graph does, no callback fires either."""

    async def answer(state: State) -> State:
        await Halting(usage=None).ainvoke(state["message"])
        return {}

    async def consume(callbacks: Any) -> None:
        graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
        async for _ in graph.astream({"message": PROMPT}, {"callbacks": callbacks}, stream_mode="messages"):
            pass

    with LangSmithServer() as server:
        with activate(way, server, handler) as active:
            task = asyncio.create_task(consume(active.callbacks))
            await wait_until(lambda: exposed(registry, "chat_stream_tokens_total") == 1)
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            gc.collect()
            assert open_runs(registry) == 0
        run = server.run(run_type="llm")

    assert (records.call.status, records.call.usage) == ("cancelled", SORT)
    assert run["end_time"]
    assert run["error"] == "CancelledError: the run above ended before this one"
    assert run["extra"]["metadata"]["usage_metadata"] == usage_metadata(SORT, records.call.cost)
    assert len(server.patches(run["id"])) <= 1


async def test_an_abandoned_generator_fires_its_end_callback(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """asyncio closes it, and it ends with GeneratorExit."""
    held: list[Any] = [FakeModel(usage=None).astream(PROMPT, {"callbacks": [handler]})]
    held.append(held)
    await anext(held[0])

    del held
    gc.collect()
    assert open_runs(registry) == 1
    await wait_until(lambda: open_runs(registry) == 0)

    assert (records.call.error_type, records.call.usage) == ("GeneratorExit", SORT)


ANSWERED = LLMResult(generations=[[ChatGeneration(message=AIMessage("well", usage_metadata=USAGE))]])  # type: ignore[arg-type]


def test_a_call_by_other_code_is_not_watched(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """Only LangChain's own models are known to end in the thread in which they start."""
    (run,) = CallbackManager([handler]).on_chat_model_start({}, [[HumanMessage(PROMPT)]])
    gc.collect()
    assert open_runs(registry) == 1

    run.on_llm_end(ANSWERED)

    assert (open_runs(registry), records.call.status) == (0, "success")


async def test_an_async_call_by_other_code_may_outlast_its_task(
    handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records
) -> None:
    """It may end in another task than the one in which it started."""
    begin = AsyncCallbackManager([handler]).on_chat_model_start({}, [[HumanMessage(PROMPT)]])
    (run,) = await asyncio.create_task(begin)
    gc.collect()
    assert open_runs(registry) == 1

    await run.on_llm_end(ANSWERED)

    assert (open_runs(registry), records.call.status) == (0, "success")


async def test_nothing_is_kept_of_calls_that_ended(handler: Eco2CallbackHandler) -> None:
    """A task that makes many calls keeps nothing of them."""
    model = FakeModel()

    async def work() -> Any:
        for _ in range(20):
            await model.ainvoke("hello", {"callbacks": [handler]})
            model.invoke("hello", {"callbacks": [handler]})
            _ = [chunk async for chunk in model.astream("hello", {"callbacks": [handler]})]
        return asyncio.current_task()

    task = await asyncio.create_task(work())

    detector = handler._tracker._abandoned
    assert (detector.calls_by_place, list(detector.abandoned)) == ({}, [])
    assert not task._callbacks


class HangingOnce(FakeModel):
    """Answers from its second call on."""

    _calls: int = PrivateAttr(0)

    async def _pause(self) -> None:
        self._calls += 1
        if self._calls == 1:
            await asyncio.Event().wait()


async def test_a_call_left_for_another_one_is_closed(handler: Eco2CallbackHandler, records: Records) -> None:
    """A task that calls the same model again has left the unfinished call."""
    model = HangingOnce()
    with suppress(TimeoutError):
        async with asyncio.timeout(0.01):
            await model.ainvoke(PROMPT, {"callbacks": [handler]})

    await model.ainvoke("hello", {"callbacks": [handler]})
    await asyncio.sleep(0)
    await FakeModel().ainvoke("the next event", {"callbacks": [handler]})

    assert sorted(call.status for call in records.calls) == ["cancelled", "success", "success"]


class Wrapping(FakeModel):
    """Asks another model inside its own call, in the context of the run above."""

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        FakeModel().invoke("inner")
        FakeModel().invoke("inner again")
        return super()._generate(*args, **kwargs)


def test_a_model_that_asks_others_is_no_abandoned_call(handler: Eco2CallbackHandler, records: Records) -> None:
    """Below a run an end callback that still fires wins: the outer call is a success."""

    def answer(state: State) -> State:
        Wrapping().invoke(state["message"])
        return {}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    graph.invoke({"message": PROMPT}, {"callbacks": [handler]})

    assert [call.status for call in records.calls] == ["success"] * 3


async def test_a_call_left_inside_a_node_is_closed_with_it(handler: Eco2CallbackHandler, records: Records) -> None:
    """Its seconds end where its task went on, and its node and request count it."""

    async def answer(state: State) -> State:
        with suppress(TimeoutError):
            async with asyncio.timeout(0.01):
                await FakeModel(pause_seconds=60).ainvoke(state["message"])
        await FakeModel().ainvoke(state["message"])
        return {}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    await graph.ainvoke({"message": PROMPT}, {"callbacks": [handler]})

    assert sorted(call.status for call in records.calls) == ["cancelled", "success"]
    assert records.request.llm_calls == 2


class Routing(FakeModel):
    """Asks another model which one to use, inside its own call and outside any context."""

    router: Any

    def _generate(self, *args: Any, **kwargs: Any) -> Any:
        self.router.invoke("which one?")
        return super()._generate(*args, **kwargs)

    async def _astream(self, *args: Any, **kwargs: Any) -> Any:
        await self.router.ainvoke("which one?")
        await asyncio.sleep(0)  # the loop goes on
        async for chunk in super()._astream(*args, **kwargs):
            yield chunk


@pytest.mark.parametrize("in_loop", [False, True])
def test_a_topmost_model_may_ask_others(handler: Eco2CallbackHandler, records: Records, in_loop: bool) -> None:
    """A sync call that asks another model with the same handler is a success, on a thread and in a task."""
    router = FakeModel(callbacks=[handler], model="gpt-4.1-mini")
    model = Routing(callbacks=[handler], router=router)

    async def call() -> None:
        model.invoke(PROMPT)

    if in_loop:
        asyncio.run(call())
    else:
        model.invoke(PROMPT)

    assert [(call.status, call.estimated) for call in records.calls] == [("success", False)] * 2


async def test_a_topmost_stream_may_ask_another_model(handler: Eco2CallbackHandler, records: Records) -> None:
    """A stream that asks another model before its first chunk is a success, with the usage that it reports."""
    router = FakeModel(callbacks=[handler], model="gpt-4.1-mini")
    model = Routing(callbacks=[handler], router=router)

    _ = [chunk async for chunk in model.astream(PROMPT)]

    assert [(call.status, call.estimated) for call in records.calls] == [("success", False)] * 2


class Refusing(BaseCallbackHandler):
    """Stops a call that other handlers have seen start."""

    raise_error = True

    def on_chat_model_start(self, *args: Any, **kwargs: Any) -> Any:
        raise PermissionError


def test_a_call_left_in_a_thread_is_closed_by_the_next_one(handler: Eco2CallbackHandler, records: Records) -> None:
    """A thread that calls the same model again has left the call before."""
    model = FakeModel()
    with pytest.raises(PermissionError):
        model.invoke(PROMPT, {"callbacks": [handler, Refusing()]})

    model.invoke("again", {"callbacks": [handler]})

    assert [call.status for call in records.calls] == ["cancelled", "success"]
