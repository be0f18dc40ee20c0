"""What KEDA scales on: busy slots on /metrics and the queue's length, with the manifest's own thresholds."""

from __future__ import annotations

import asyncio
from math import ceil
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import CollectorRegistry

from graph.jobs import QUEUE, JobMetrics, JobQueue, RabbitBroker
from graph.serving.watch import ProcessWatch
from graph.streams import RedisJobStore
from tests.graph.jobs.test_rabbitmq import Gate
from tests.support import fake_runtime
from tests.support.rabbit_process import RabbitProcess
from tests.support.worker_runs import read, running_worker, submit

pytestmark = pytest.mark.slow

SCALED_OBJECT = Path(__file__).parents[3] / "deploy/kubernetes/base/scaledobject.yaml"
SLOTS, WAITING = 40, 500


def wanted_replicas(busy_slots: float, waiting_jobs: int) -> int:
    """Return the replicas that the autoscaler asks for: of each trigger the sum by its share of one replica."""
    (spec,) = (document["spec"] for document in yaml.safe_load_all(SCALED_OBJECT.read_text()))
    metadata: dict[str, Any] = {trigger["type"]: trigger["metadata"] for trigger in spec["triggers"]}
    assert "sum(chat_worker_slots_busy{" in metadata["prometheus"]["query"]
    assert (metadata["rabbitmq"]["queueName"], metadata["rabbitmq"]["mode"]) == (QUEUE, "QueueLength")
    by_slots = ceil(busy_slots / float(metadata["prometheus"]["threshold"]))
    by_queue = ceil(waiting_jobs / float(metadata["rabbitmq"]["value"]))
    return max(by_slots, by_queue, 1)


async def until_shown(store: RedisJobStore, queue: JobQueue, waiting: int) -> None:
    """Wait until a process shows so many waiting jobs, as the API and every worker do."""
    registry = CollectorRegistry()
    watch = ProcessWatch(store, queue, JobMetrics(registry), asyncio.Event())
    watch.connected = True
    watching = asyncio.create_task(watch.run(lambda: 0))
    while registry.get_sample_value("chat_jobs_waiting", {"queue": QUEUE}) != waiting:
        await asyncio.sleep(0.05)
    watching.cancel()


async def test_a_full_worker_with_500_jobs_waiting_is_scaled(
    rabbit: RabbitProcess, store: RedisJobStore, tmp_path: Path, registry: CollectorRegistry
) -> None:
    """40 of 40 slots are busy and 500 jobs wait: both numbers are shown and ask for more workers; afterwards none."""
    gate = Gate()
    runtime = fake_runtime.runtime(tmp_path, router=gate)
    queue = JobQueue(RabbitBroker(rabbit.url, prefetch=SLOTS))
    async with running_worker(store, queue, registry=registry, runtime=runtime, concurrency=SLOTS):
        for number in range(SLOTS + WAITING):
            await submit(store, queue, job_id=str(number))
        while gate.came < SLOTS or await rabbit.length() != WAITING:
            await asyncio.sleep(0.05)
        busy, waiting = registry.get_sample_value("chat_worker_slots_busy"), await rabbit.length()
        await until_shown(store, queue, WAITING)
        await rabbit.purge()
        gate.open.set()
        for number in range(SLOTS):
            await read(store, str(number))
        while registry.get_sample_value("chat_worker_slots_busy") != 0:
            await asyncio.sleep(0.05)

    assert (busy, waiting) == (SLOTS, WAITING)
    assert wanted_replicas(SLOTS, 0) == 2
    assert wanted_replicas(0, WAITING) == 25
    assert wanted_replicas(0, await rabbit.length()) == 1
