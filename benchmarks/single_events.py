"""Measures single events: new label values, one slice of a flush, a scrape, memory, and how a call's cost grows."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median
from typing import Any
from uuid import UUID, uuid4

from langchain_core.messages import AIMessage, AIMessageChunk, BaseMessage, HumanMessage
from langchain_core.messages.ai import UsageMetadata
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, LLMResult
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.prometheus import snapshots
from handlers import counted, nothing
from workloads import WORKLOADS

__all__ = ["flush_slice", "growth", "memory", "new_label_values", "scrape"]

_ROUNDS = 300
_MESSAGES: list[list[BaseMessage]] = [[HumanMessage("question")]]
_USAGE: UsageMetadata = {"input_tokens": 1200, "output_tokens": 350, "total_tokens": 1550}


def _start(handler: Eco2CallbackHandler, **metadata: Any) -> UUID:
    run_id = uuid4()
    plain = {"ls_provider": "openai", "ls_model_name": "gpt-5.2"}
    handler.on_chat_model_start({}, _MESSAGES, run_id=run_id, metadata={**plain, **metadata}, invocation_params={})
    return run_id


def _end(handler: Eco2CallbackHandler, run_id: UUID) -> None:
    message = AIMessage("answer", usage_metadata=_USAGE, response_metadata={"model_name": "gpt-5.2"})
    handler.on_llm_end(LLMResult(generations=[[ChatGeneration(message=message)]]), run_id=run_id)


def new_label_values() -> dict[str, str]:
    """Return what a start costs the caller more where a tenant, an intent or a node is new."""
    handler = counted(max_label_values=10_000)
    measured = {}
    for label, key in (("tenant", "tenant_id"), ("intent", "intent"), ("node", "langgraph_node")):
        known: list[float] = []
        new: list[float] = []
        for number in range(_ROUNDS):
            for times, value in ((known, "known"), (new, f"{label}-{number}")):
                started = time.thread_time()
                run_id = _start(handler, **{key: value})
                times.append(time.thread_time() - started)
                _end(handler, run_id)
            handler.flush()
        measured[f"new {label}"] = f"{1e6 * (median(new) - median(known)):.1f} us"
    handler.close()
    return measured


@contextmanager
def _slices() -> Iterator[Callable[[], list[float]]]:
    """Yield what returns, and forgets, the seconds that threads worked between two pauses in which others can run."""
    found: list[float] = []
    pause = snapshots.pause
    # By thread: where its last pause ended, in its own CPU time.
    ended: dict[int, float] = {}

    def timed_pause() -> None:
        thread = threading.get_ident()
        if thread in ended:
            found.append(time.thread_time() - ended[thread])
        pause()
        ended[thread] = time.thread_time()

    def popped() -> list[float]:
        taken = found.copy()
        found.clear()
        ended.clear()
        return taken

    snapshots.pause = timed_pause
    try:
        yield popped
    finally:
        snapshots.pause = pause


def flush_slice() -> dict[str, str]:
    """Return the longest slice of a flush, as a median over flushes of 30 plain calls."""
    registry = CollectorRegistry()
    handler = counted(registry)
    longest = []
    family = registry.restricted_registry(["eco2_callbacks_open_runs"])
    with _slices() as popped:
        for _ in range(_ROUNDS):
            for _ in range(30):
                _end(handler, _start(handler))
            popped()
            list(family.collect())
            longest.append(max(popped(), default=0.0))
    handler.close()
    return {"longest slice of a flush": f"{1e6 * median(longest):.0f} us"}


def scrape() -> dict[str, str]:
    """Return what a scrape of about 8,000 samples takes, and its longest slice."""
    registry = CollectorRegistry()
    handler = counted(registry, max_label_values=10_000)
    number = samples = 0
    while samples < 8000:
        number += 1
        _end(handler, _start(handler, langgraph_node=f"node-{number}", tenant_id=f"tenant-{number}"))
        if number % 10 == 0:
            samples = _sample_count(registry)
    times, longest = [], []
    with _slices() as popped:
        for _ in range(20):
            popped()
            started = time.thread_time()
            generate_latest(registry)
            times.append(time.thread_time() - started)
            longest.append(max(popped(), default=0.0))
    handler.close()
    return {
        f"/metrics of {samples:,} samples": f"{1e3 * median(times):.1f} ms",
        "its longest slice": f"{1e3 * median(longest):.1f} ms",
    }


def _sample_count(registry: CollectorRegistry) -> int:
    return sum(not line.startswith(b"#") for line in generate_latest(registry).splitlines())


def memory() -> dict[str, str]:
    """Return the bytes that an open call takes, and those kept of it once it was counted."""
    handler = counted()
    for _ in range(200):
        _end(handler, _start(handler))
    handler.flush()
    calls = 1000
    # One metadata for all: the dictionary is LangChain's.
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5.2"}
    run_ids = [uuid4() for _ in range(calls)]
    sizes = []

    async def call(run_id: UUID, opened: asyncio.Event) -> None:
        handler.on_chat_model_start({}, _MESSAGES, run_id=run_id, metadata=metadata, invocation_params={}, batch_size=1)
        await opened.wait()
        _end(handler, run_id)

    async def calls_at_once() -> None:
        opened = asyncio.Event()
        tasks = [asyncio.ensure_future(call(run_id, opened)) for run_id in run_ids]
        sizes.append(_traced_bytes())
        await asyncio.sleep(0)
        sizes.append(_traced_bytes())
        opened.set()
        await asyncio.gather(*tasks)

    kept = []
    tracemalloc.start()
    for _ in range(2):
        # The second time the tables have their size, which follows the most calls open at once.
        asyncio.run(calls_at_once())
        handler.flush()
        kept.append(_traced_bytes())
    tracemalloc.stop()
    handler.close()
    return {
        "memory of an open call": f"{(sizes[1] - sizes[0]) / calls:.0f} bytes",
        "kept of it once counted": f"{(kept[1] - kept[0]) / calls:.0f} bytes",
    }


def _traced_bytes() -> int:
    gc.collect()
    return tracemalloc.get_traced_memory()[0]


def growth() -> dict[str, float]:
    """Return the microseconds that a call adds, while other runs and streams are open."""
    measured = {}
    for open_runs in (1, 100, 1_000, 10_000):
        handler = counted()
        for _ in range(open_runs):
            _start(handler)
        measured[f"{open_runs:,} open runs"] = _added(handler)
    for streams in (1, 50, 500):
        handler = counted()
        for _ in range(streams):
            run_id = _start(handler)
            chunk = ChatGenerationChunk(message=AIMessageChunk(content="word"))
            handler.on_llm_new_token("word", chunk=chunk, run_id=run_id)
        measured[f"{streams:,} open streams"] = _added(handler)
    return measured


def _added(handler: Eco2CallbackHandler) -> float:
    async def block(handlers: list[Any]) -> float:
        started = time.thread_time()
        await WORKLOADS["call"].run(handlers, 64)
        return (time.thread_time() - started) / 64

    def least(make: Callable[[], list[Any]]) -> float:
        handlers = make()
        return sorted(asyncio.run(block(handlers)) for _ in range(20))[5]

    added = 1e6 * (least(lambda: [handler]) - least(lambda: nothing().handlers))
    handler.close()
    return added
