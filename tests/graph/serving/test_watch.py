"""What a process shows of the servers that it needs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from math import isnan

import pytest
from prometheus_client import CollectorRegistry
from taskiq import InMemoryBroker

from graph.jobs import QUEUE, JobMetrics, JobQueue, QueueUnavailableError
from graph.serving import watch as watching
from graph.streams import MemoryJobStore, StoreUnavailableError


class _Queue(JobQueue):
    is_away = False

    async def waiting(self) -> int:
        if self.is_away:
            raise QueueUnavailableError("away") from ConnectionError()
        return await super().waiting()


class _Store(MemoryJobStore):
    is_away = False

    async def ping(self) -> None:
        if self.is_away:
            raise StoreUnavailableError("Redis: away") from ConnectionError()


@pytest.fixture(autouse=True)
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watching, "_COUNT_EVERY_SECONDS", 0.0)
    monkeypatch.setattr(watching, "_BEAT_SECONDS", 0.01)


async def until(check: Callable[[], bool]) -> None:
    while not check():
        await asyncio.sleep(0.01)


async def test_a_process_shows_whether_its_servers_answer(registry: CollectorRegistry) -> None:
    """It is ready once RabbitMQ answers, and not while Redis is away."""
    store = _Store()
    watch = watching.ProcessWatch(store, _Queue(InMemoryBroker()), JobMetrics(registry), asyncio.Event())

    def ready() -> float | None:
        return registry.get_sample_value("chat_ready")

    async with asyncio.timeout(60):
        running = asyncio.create_task(watch.run(lambda: 0))
        assert ready() == 0
        watch.connected = True
        await until(lambda: ready() == 1)
        store.is_away = True
        await until(lambda: ready() == 0)
        store.is_away = False
        await until(lambda: ready() == 1)
        watch.connected = False
        await until(lambda: ready() == 0)
    running.cancel()


async def test_how_many_jobs_wait_is_unknown_without_the_queue(registry: CollectorRegistry) -> None:
    """While RabbitMQ does not answer, the process shows neither 0 nor its last number."""
    queue = _Queue(InMemoryBroker())
    watch = watching.ProcessWatch(_Store(), queue, JobMetrics(registry), asyncio.Event())

    def waiting() -> float:
        return registry.get_sample_value("chat_jobs_waiting", {"queue": QUEUE}) or 0.0

    async with asyncio.timeout(60):
        running = asyncio.create_task(watch.run(lambda: 7))
        await until(lambda: isnan(waiting()))
        watch.connected = True
        await until(lambda: waiting() == 7)
        queue.is_away = True
        await until(lambda: isnan(waiting()))
    running.cancel()
