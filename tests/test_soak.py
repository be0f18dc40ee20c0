"""Thousands of concurrent requests, streams and failures: sums are exact, and nothing stays in memory."""

from __future__ import annotations

import asyncio
import gc
import random
import threading
from contextlib import aclosing, suppress
from itertools import pairwise
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, answer, graph_of, intent

pytestmark = pytest.mark.slow
LABELS = {"tenants": [f"tenant-{number}" for number in range(5)], "intents": ["waste", "general", "location"]}


class Total(Records):
    """Adds up the records it gets and keeps none."""

    def __init__(self) -> None:
        super().__init__()
        self.calls_seen, self.tokens, self.usd, self.streamed = 0, 0, 0.0, 0
        self._lock = threading.Lock()

    def emit(self, record: Any) -> None:
        if type(record).__name__ != "LLMCall":
            return
        with self._lock:
            self.calls_seen += 1
            self.tokens += 0 if record.usage is None else record.usage.total_tokens
            self.usd += 0.0 if record.cost is None else float(record.cost.total_usd)
            self.streamed += record.streamed_tokens


async def one(chance: random.Random, config: Any) -> None:
    """Run one random kind of model call."""
    kind = chance.randrange(6)
    if kind == 0:
        await graph_of(intent, answer).compile().ainvoke({"answers": []}, config)
    elif kind == 1:
        async for _ in FakeModel().astream("hello", config=config):
            pass
    elif kind == 2:
        async with aclosing(FakeModel(usage=None).astream("hello", config=config)) as stream:
            async for _ in stream:
                break
    elif kind == 3:
        with suppress(ConnectionError):
            async for _ in FakeModel(fails=[ConnectionError("reset")], fails_after=2).astream("hello", config=config):
                pass
    elif kind == 4:
        task = asyncio.create_task(FakeModel(pause_seconds=0.05).ainvoke("hello", config=config))
        await asyncio.sleep(0.001)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
    else:

        async def node(state: State) -> State:
            async for _ in FakeModel(pause_seconds=0.005).astream("hello"):
                pass
            return {}

        task = asyncio.create_task(graph_of(node).compile().ainvoke({"answers": []}, config))
        await asyncio.sleep(0.012 * chance.random())
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def many(seed: int, number: int, handler: Eco2CallbackHandler) -> None:
    chance = random.Random(seed)

    async def run_some(count: int) -> None:
        for _ in range(count):
            metadata = {"tenant_id": chance.choice(LABELS["tenants"]), "intent": chance.choice(LABELS["intents"])}
            await one(chance, {"callbacks": [handler], "metadata": metadata})

    await asyncio.gather(*(run_some(number // 20) for _ in range(20)))


def on_eight_threads(number: int, handler: Eco2CallbackHandler) -> None:
    threads = [
        threading.Thread(target=lambda seed=seed: asyncio.run(many(seed, number // 8, handler)))  # type: ignore[misc]
        for seed in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_after_thousands_of_requests_the_sums_are_exact_and_nothing_is_left(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The metrics equal the sums of the records, and the process has not grown."""
    # The memory of ended requests is full before the first count.
    monkeypatch.setattr("eco2_callbacks.runs.enclosing._MAX_ENDED", 100)
    total = Total()
    handler = Eco2CallbackHandler(registry=registry, sinks=[total])

    def objects() -> int:
        # On a busy machine the last threads and loops let go of their objects a little later.
        counts = [0, 1]
        while counts[-1] != counts[-2] and len(counts) < 200:
            threading.Event().wait(0.05)
            generate_latest(registry)  # counts the queued records
            gc.collect()
            counts.append(len(gc.get_objects()))
        return counts[-1]

    on_eight_threads(800, handler)
    kept = [objects()]
    for _ in range(2):
        on_eight_threads(2400, handler)
        kept.append(objects())
    handler.close()

    assert total.calls_seen == exposed(registry, "llm_calls_total") > 2400
    assert exposed(registry, "llm_tokens_total") == exposed(registry, "graph_node_tokens_total") == total.tokens
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(total.usd, rel=1e-9)
    assert exposed(registry, "chat_stream_tokens_total") == total.streamed
    assert exposed(registry, "chat_stream_token_count_sum") == total.streamed
    for gauge in ("chat_stream_active", "eco2_callbacks_open_runs", "agent_active_sessions"):
        assert exposed(registry, gauge) == 0, gauge
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
    assert exposed(registry, "eco2_callbacks_evicted_runs_total") == 0
    # What is kept of requests grows each time; threads and caches of other tests of this process do not.
    assert min(after - before for before, after in pairwise(kept)) < 500
