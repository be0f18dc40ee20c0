"""Requests that are cancelled as they begin: LangChain fires no end callback, and the handler closes them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.runnables import RunnableGenerator, RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun
from tests.support.fake_model import FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import answer, graph_of
from tests.support.tracing_modes import activate


class WaitingAtStart(AsyncCallbackHandler):
    """Its start callback never returns."""

    def __init__(self) -> None:
        self.starts = asyncio.Event()

    async def on_chain_start(self, *args: Any, **kwargs: Any) -> None:
        self.starts.set()
        await asyncio.Event().wait()


async def cancel_as_it_begins(callbacks: list[Any]) -> None:
    waiting = WaitingAtStart()
    config: Any = {"callbacks": [*callbacks, waiting]}
    task = asyncio.create_task(graph_of(answer).compile().ainvoke({"answers": []}, config))
    await waiting.starts.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_scrape_closes_it(handler: Eco2CallbackHandler, registry: CollectorRegistry, records: Records) -> None:
    """A scrape shows no open run, and the request is recorded as cancelled."""
    await cancel_as_it_begins([handler])

    assert exposed(registry, "eco2_callbacks_open_runs") == 0
    assert (records.request.status, records.request.llm_calls) == ("cancelled", 0)


async def test_the_next_event_closes_it(handler: Eco2CallbackHandler, records: Records) -> None:
    """It is recorded although no one reads the registry."""
    await cancel_as_it_begins([handler])
    assert records.of(GraphRun) == []

    await FakeModel().ainvoke("hello", {"callbacks": [handler]})

    assert records.request.status == "cancelled"


@pytest.mark.parametrize("tracing_mode", ["tracer_before", "tracer_after"])
async def test_its_run_on_langsmith_ends(handler: Eco2CallbackHandler, tracing_mode: str) -> None:
    """No tracer sends the end of such a run either."""
    # Installs the hooks: the start of the very first run of a process may leave before them.
    await FakeModel().ainvoke("hello", {"callbacks": [handler]})

    with LangSmithServer() as server:
        with activate(tracing_mode, server, handler) as active:
            await cancel_as_it_begins(active.callbacks)
            await FakeModel().ainvoke("the next event", {"callbacks": [handler]})
        run = server.run(name="LangGraph")

    assert run["error"] == "Cancelled: its task was cancelled as it began"


async def test_a_request_that_is_cancelled_later_is_recorded_once(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """LangChain fires its end callback, and nothing is closed twice."""
    begins = asyncio.Event()

    async def wait(text: str) -> None:
        begins.set()
        await asyncio.Event().wait()

    task = asyncio.create_task(RunnableLambda(wait).ainvoke("hello", {"callbacks": [handler]}))
    await begins.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await FakeModel().ainvoke("the next event", {"callbacks": [handler]})

    assert (records.request.status, records.request.error_type) == ("cancelled", "CancelledError")


async def test_a_stream_that_another_task_reads_on_stays_open(handler: Eco2CallbackHandler, records: Records) -> None:
    """The task that read its first item ends; the request is a success when the stream is read."""

    async def words(texts: AsyncIterator[str]) -> AsyncIterator[str]:
        async for text in texts:
            for word in text.split():
                yield word

    stream = RunnableGenerator(words).astream("sort it well", {"callbacks": [handler]})

    first = await asyncio.create_task(anext(stream))  # type: ignore[arg-type]
    await FakeModel().ainvoke("the next event", {"callbacks": [handler]})
    rest = [word async for word in stream]

    assert [first, *rest] == ["sort", "it", "well"]
    assert records.request.status == "success"


async def test_a_task_keeps_no_request_that_ended(handler: Eco2CallbackHandler) -> None:
    """A task that makes many requests keeps nothing of them while it goes on."""
    task: Any = asyncio.current_task()
    before = list(task._callbacks)

    for _ in range(5):
        await graph_of(answer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert list(task._callbacks) == before
