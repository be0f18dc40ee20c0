"""LangSmith: streams cut short and calls cancelled end once, with an estimate."""

from __future__ import annotations

import asyncio
import threading
from contextlib import aclosing, suppress
from typing import Any

import pytest
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig, RunnableLambda

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, metadata, model_runs, usage_of
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records
from tests.support.traced_graphs import State, one_node, sync_answer
from tests.support.tracing_modes import CALL_MODES, TRACING_MODES, activate


async def cancel_in_stream(model: FakeModel, config: RunnableConfig) -> None:
    async def consume() -> None:
        async for _ in slow.astream("hello", config):
            arrived.set()

    arrived = asyncio.Event()
    slow = model.model_copy(update={"pause_seconds": 0.03})
    task = asyncio.create_task(consume())
    await arrived.wait()
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def close_stream(model: FakeModel, config: RunnableConfig) -> None:
    async with aclosing(model.astream("hello", config)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break


async def break_stream(model: FakeModel, config: RunnableConfig) -> None:
    for _ in model.stream("hello", config):
        break


async def fail_in_stream(model: FakeModel, config: RunnableConfig) -> None:
    with suppress(ValueError):
        list(model.model_copy(update={"fails": [ValueError("cut")], "fails_after": 2}).stream("hello", config))


@pytest.mark.parametrize("cut_short", [cancel_in_stream, close_stream, break_stream, fail_in_stream])
@pytest.mark.parametrize("tracing_mode", ["environment", "tracer_before", "tracer_after"])
async def test_a_stream_cut_short_carries_its_estimate(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str, cut_short: Any
) -> None:
    """The text received is estimated, marked as an estimate, and the same as in the record."""
    with activate(tracing_mode, server, handler) as active:
        await cut_short(FakeModel(), {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    call = records.call
    assert call.usage is not None
    assert call.cost is not None
    assert call.estimated
    assert usage_of(run) == usage_metadata(call.usage, call.cost)
    assert metadata(run)["cost_estimated"] is True
    assert metadata(run)["estimate_reason"] == call.estimate_reason
    assert metadata(run)["cost_usd"] == float(call.cost.total_usd) > 0
    assert run["error"]


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_a_cancelled_call_is_closed_on_langsmith_too(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str
) -> None:
    """No end callback fires for a cancelled call without a stream; its LangSmith run is closed all the same."""
    waits = asyncio.Event()

    async def slow(state: State) -> State:
        await FakeModel(pause_seconds=30, on_pause=waits.set).ainvoke("hello")
        return {}

    with activate(tracing_mode, server, handler) as active:
        task = asyncio.create_task(CALL_MODES["ainvoke"](active, one_node(slow), {"message": "hello"}))
        await waits.wait()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert records.call.status == "cancelled"
    run = server.run(run_type="llm")
    assert run["end_time"]
    assert run["error"] == "CancelledError: the run above ended before this one"
    assert len(server.patches(run["id"])) <= 1
    assert usage_of(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    assert metadata(run)["cost_estimated"] is True


@pytest.mark.parametrize("tracing_mode", ["environment", "tracer_before"])
async def test_a_call_that_outlives_its_cancelled_request_is_counted_as_it_ends(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str
) -> None:
    """A thread cannot be cancelled: its answer is billed, and record and run both show that."""
    requested, cancelled, answered = threading.Event(), threading.Event(), threading.Event()

    class Slow(FakeModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            requested.set()
            cancelled.wait(60)
            return super()._generate(*args, **kwargs)

    def node(state: State) -> State:
        RunnableLambda(lambda text: Slow(usage=DETAILED_USAGE).invoke(text)).invoke("hello")
        answered.set()
        return {}

    with activate(tracing_mode, server, handler) as active:
        task = asyncio.create_task(CALL_MODES["ainvoke"](active, one_node(node), {"message": "hello"}))
        await asyncio.to_thread(requested.wait, 60)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        cancelled.set()
        await asyncio.to_thread(answered.wait, 60)
        await asyncio.sleep(0.01)

    assert records.request.status == "cancelled"
    assert (records.call.status, records.call.estimated) == ("success", False)
    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    assert run.get("error") is None
    assert len(server.patches(run["id"])) <= 1
    assert len(handler._tracker._runs) == 0


@pytest.mark.parametrize("tracing_mode", ["environment", "tracer_before"])
async def test_a_call_cancelled_inside_a_node_that_continues_is_closed(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str
) -> None:
    """A node that stops waiting for its call and continues leaves no run open."""
    waits = asyncio.Event()

    async def node(state: State) -> State:
        call = asyncio.create_task(FakeModel(pause_seconds=30, on_pause=waits.set).ainvoke("hello"))
        await waits.wait()
        with suppress(TimeoutError):
            await asyncio.wait_for(call, 0.02)
        return {"answers": ["later"]}

    with activate(tracing_mode, server, handler) as active:
        result = await CALL_MODES["ainvoke"](active, one_node(node), {"message": "hello"})

    assert result["answers"] == ["later"]
    assert (records.request.status, records.call.status) == ("success", "cancelled")
    (run,) = model_runs(server)
    assert run["end_time"]
    assert metadata(run)["cost_estimated"] is True
    assert usage_of(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)


async def test_a_call_in_the_background_is_counted_as_it_ends(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """A task that outlives its request ends later, with its own usage."""
    tasks = []
    waits, answers = asyncio.Event(), asyncio.Event()

    class Slow(FakeModel):
        async def _agenerate(self, *args: Any, **kwargs: Any) -> ChatResult:
            waits.set()
            await answers.wait()
            return await super()._agenerate(*args, **kwargs)

    async def node(state: State) -> State:
        tasks.append(asyncio.create_task(Slow().ainvoke("hello")))
        await waits.wait()
        return {}

    with activate("tracer_before", server, handler) as active:
        await CALL_MODES["ainvoke"](active, one_node(node), {"message": "hello"})
        assert records.calls == []
        answers.set()
        await tasks[0]

    assert (records.call.status, records.call.estimated) == ("success", False)
    assert [usage_of(run) for run in model_runs(server)] == [PRICED_USAGE]


def test_a_run_that_evicts_its_parent_is_sent(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few runs may be open, a running one is not taken for an unfinished one."""
    monkeypatch.setattr(handler._tracker._runs, "_max_open", 1)

    with activate("tracer_before", server, handler) as active:
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    assert records.call.status == "success"
    assert [metadata(run)["usage_metadata"]["total_cost"] for run in model_runs(server)] == [0.0053872]
    for run in server.runs().values():
        assert run["end_time"]
        assert len(server.patches(run["id"])) <= 1
