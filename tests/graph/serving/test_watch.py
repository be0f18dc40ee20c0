"""What a process shows of the servers that it needs."""

from __future__ import annotations

import asyncio

import pytest
from prometheus_client import CollectorRegistry
from taskiq import InMemoryBroker

from graph.jobs import JobMetrics, JobQueue
from graph.serving import watch as watching
from graph.streams import MemoryJobStore, StoreUnavailableError


class _Store(MemoryJobStore):
    is_away = False

    async def ping(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("Redis: away") from ConnectionError()


async def test_a_process_shows_whether_its_servers_answer(
    registry: CollectorRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is ready once RabbitMQ answers, and not while Redis is away."""
    monkeypatch.setattr(watching, "_COUNT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watching, "_BEAT_SECONDS", 0.01)
    store = _Store()
    watch = watching.ProcessWatch(store, JobQueue(InMemoryBroker()), JobMetrics(registry), asyncio.Event())
    running = asyncio.create_task(watch.run(lambda: 0))

    async def until(wanted: float) -> None:
        while registry.get_sample_value("chat_ready") != wanted:
            assert not running.done()
            await asyncio.sleep(0.01)

    assert registry.get_sample_value("chat_ready") == 0
    watch.connected = True
    await until(1)
    store.is_away = True
    await until(0)
    store.is_away = False
    await until(1)
    watch.connected = False
    await until(0)
    running.cancel()
