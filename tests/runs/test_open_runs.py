"""Open runs: each one is closed, their number is bounded, and none of them stays in memory."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
import threading
import uuid
from pathlib import Path

import pytest
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.runs import enclosing
from tests.support.fake_model import COST, USAGE, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, intent, sample
from tests.support.started_calls import start_call

ROOT = Path(__file__).parents[2]


async def test_a_cancelled_call_is_closed_by_its_parent_run(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """LangChain fires no end callback for a cancelled ``ainvoke``; its parent run closes it with an estimate."""
    waits = asyncio.Event()

    async def slow(state: State) -> State:
        await FakeModel(pause_seconds=60, on_pause=waits.set).ainvoke("Wait for me")
        return {}

    task = asyncio.create_task(graph_of(slow).compile().ainvoke({"answers": []}, {"callbacks": [handler]}))
    await waits.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("cancelled", "CancelledError", "cancelled")
    assert call.usage is not None
    assert call.usage.input_tokens > 0
    assert (records.nodes["slow"].status, records.request.status) == ("cancelled", "cancelled")
    assert sample(registry, "eco2_callbacks_open_runs") == 0
    assert sample(registry, "agent_active_sessions", agent_name="eco2", tenant_id="") == 0


def llm_result() -> LLMResult:
    message = AIMessage("fine", usage_metadata=USAGE)
    return LLMResult(generations=[[ChatGeneration(message=message)]])


def test_runs_without_an_end_callback_are_closed_by_their_parent(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A run without an end callback is closed with its parent, and a late end callback counts nothing twice."""
    root, middle = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start({}, {}, run_id=root)
    handler.on_chain_start({}, {}, run_id=middle, parent_run_id=root)
    call = start_call(handler, middle)

    handler.on_chain_end({}, run_id=root)
    handler.on_llm_end(llm_result(), run_id=call)
    handler.on_chain_end({}, run_id=middle)

    assert (records.call.status, records.call.error_type) == ("cancelled", None)
    assert records.request.llm_calls == 1
    assert sample(registry, "eco2_callbacks_open_runs") == 0


def test_the_number_of_open_runs_is_bounded(
    registry: CollectorRegistry, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound the oldest run is closed as cancelled and counted as evicted."""
    monkeypatch.setattr("eco2_callbacks.runs.tracker._MAX_OPEN_RUNS", 3)
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    runs = [start_call(handler) for _ in range(4)]

    assert sample(registry, "eco2_callbacks_open_runs") == 3
    assert sample(registry, "eco2_callbacks_evicted_runs_total") == 1
    assert (records.call.run_id, records.call.status) == (runs[0], "cancelled")


def test_close_ends_open_calls(handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry) -> None:
    """close() turns open calls into records before it closes the sinks."""
    start_call(handler)

    handler.close()

    assert records.call.status == "cancelled"
    assert sample(registry, "eco2_callbacks_open_runs") == 0


def test_siblings_of_a_run_that_another_thread_ends_are_closed(handler: Eco2CallbackHandler, records: Records) -> None:
    """A run that another thread ends first does not keep its siblings open."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()))
    first, *_ = (start_call(handler, root) for _ in range(3))
    runs = handler._tracker._runs
    open_root = runs.get(root)
    assert open_root is not None
    assert open_root.children is not None
    stale = dict(open_root.children)
    handler.on_llm_end(llm_result(), run_id=first)
    open_root.children = stale

    handler.on_chain_end({}, run_id=root)

    assert sorted(call.status for call in records.calls) == ["cancelled", "cancelled", "success"]
    assert len(runs) == 0


def test_a_tree_of_any_depth_is_closed(handler: Eco2CallbackHandler, records: Records) -> None:
    """Three thousand nested runs end with the topmost one."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()))
    parent = root
    for _ in range(3000):
        handler.on_chain_start({}, {}, run_id=(child := uuid.uuid4()), parent_run_id=parent)
        parent = child

    handler.on_chain_end({}, run_id=root)

    assert records.request.status == "success"
    assert len(handler._tracker._runs) == 0


def test_eight_threads_lose_nothing(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """Sums are exact when calls end on eight threads at once."""

    def work() -> None:
        for _ in range(50):
            FakeModel().invoke("hello", config={"callbacks": [handler], "metadata": {"tenant_id": "acme"}})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(records.calls) == 400
    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": "acme"}
    assert sample(registry, "llm_cost_dollars_total", **labels) == pytest.approx(400 * float(COST), abs=1e-9)
    assert sample(registry, "llm_tokens_total", token_type="output", **labels) == 40_000
    assert sample(registry, "eco2_callbacks_open_runs") == 0


async def test_five_hundred_concurrent_streams_leave_no_open_run(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """Concurrent streams stay separate, and nothing of them is kept after their end."""
    model = FakeModel(words=["word "] * 20)

    async def consume() -> None:
        async for _ in model.astream("hello", config={"callbacks": [handler]}):
            await asyncio.sleep(0)

    await asyncio.gather(*(consume() for _ in range(500)))

    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": ""}
    assert sample(registry, "llm_tokens_total", token_type="output", **labels) == 50_000
    assert sample(registry, "eco2_callbacks_open_runs") == 0
    tracker = handler._tracker
    assert len(tracker._runs) == 0
    assert len(tracker._retries) == 0


async def growth_of_objects() -> int:
    """Return how many more objects live after five thousand calls, past a warm-up."""
    enclosing._MAX_ENDED = 100
    registry = CollectorRegistry()
    handler = Eco2CallbackHandler(registry=registry)
    graph = graph_of(intent, answer).compile()

    async def calls(number: int) -> int:
        for _ in range(number // 2):
            await graph.ainvoke({"answers": []}, {"callbacks": [handler]})
        generate_latest(registry)
        gc.collect()
        return len(gc.get_objects())

    await calls(500)
    before = await calls(500)
    return await calls(5000) - before


@pytest.mark.slow
def test_five_thousand_calls_do_not_grow_the_process() -> None:
    """After a warm-up the number of live objects stays the same. In a process where nothing else runs."""
    program = "import asyncio; from tests.runs.test_open_runs import growth_of_objects as g; print(asyncio.run(g()))"

    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True)

    assert int(ended.stdout.splitlines()[-1]) < 500


def test_a_topmost_run_without_an_end_is_closed_after_six_hours(registry: CollectorRegistry, records: Records) -> None:
    """No end callback fires for a cancelled call without a parent; it is closed past the maximum age."""
    seconds = [0.0]
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], clock=lambda: seconds[0])
    oldest = start_call(handler)

    seconds[0] = 6 * 3600.0
    start_call(handler)
    assert records.calls == []
    seconds[0] += 1
    start_call(handler)

    assert (records.call.run_id, records.call.status) == (oldest, "cancelled")
    assert sample(registry, "eco2_callbacks_evicted_runs_total") == 1
