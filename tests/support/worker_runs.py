"""Runs workers in a test, on the demo's recordings or a graph of the test."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry
from taskiq import InMemoryBroker

from eco2_callbacks import LedgerSink, Settings
from graph.app import make_handler
from graph.jobs import Job, JobMetrics, JobQueue
from graph.runtime import CASSETTES, Runtime
from graph.streams import JobStore, StreamEvent, follow
from graph.worker import RunRecords, Worker, WorkerSettings
from tests.support.record_sink import Records

__all__ = [
    "GREETING",
    "joined_tokens",
    "load_cassette",
    "paced_greeting",
    "read",
    "recorded_answer",
    "running_worker",
    "submit",
    "until",
    "write_joined_cassette",
]

GREETING = CASSETTES / "greeting.yaml"


@asynccontextmanager
async def running_worker(
    store: JobStore,
    queue: JobQueue | None = None,
    *,
    registry: CollectorRegistry | None = None,
    runtime: Runtime | None = None,
    records: Records | None = None,
    ledger: LedgerSink | None = None,
    max_wait_seconds: float = 900.0,
    **settings: Any,
) -> AsyncIterator[tuple[Worker, JobQueue]]:
    """Run a worker in this process during the block, without a queue on one in memory."""
    runtime, registry = runtime or Runtime(), registry or CollectorRegistry()
    queue = queue or JobQueue(InMemoryBroker())
    collected = RunRecords()
    sinks = [collected, records] if records else [collected]
    with make_handler(Settings(), sinks=sinks, registry=registry, ledger=ledger) as handler:
        async with runtime.open_graph() as graph:
            worker = Worker(
                runtime,
                graph,
                handler,
                collected,
                store,
                queue,
                WorkerSettings(**settings),
                JobMetrics(registry, slots=8),
                ledger=ledger,
                max_wait_seconds=max_wait_seconds,
            )
            await queue.startup(worker.run_job, worker.bury_malformed)
            task = asyncio.create_task(worker.run())
            try:
                yield worker, queue
            finally:
                worker.stop()
                await task
                await queue.shutdown()


async def submit(store: JobStore, queue: JobQueue, **fields: Any) -> Job:
    """Accept a job and publish it, as the API does."""
    job = Job(**{"job_id": "1", "message": "안녕!"} | fields)
    await store.accept(job.described())
    await queue.publish(job)
    return job


async def read(store: JobStore, job_id: str = "1") -> list[StreamEvent]:
    """Return a job's events when it has ended."""
    return [event async for event in follow(store, job_id)]


async def until(store: JobStore, kind: str) -> StreamEvent:
    """Return the first event of a kind of job 1."""
    async for event in follow(store, "1"):
        if event.kind == kind:
            return event
    raise AssertionError(f"no event {kind!r} came")


def joined_tokens(events: list[StreamEvent]) -> str:
    """Return the answer as a reader sees it, who forgets the tokens of earlier runs."""
    last = max(event.position.run for event in events)
    return "".join(event.text for event in events if event.position.run == last)


def recorded_answer(path: Path) -> str:
    """Return the answer that the provider streamed in a recording."""
    *_, last = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
    events = [line.removeprefix("data: ") for line in last["response"]["body"]["string"].splitlines() if line]
    choices = [choice for event in events if event != "[DONE]" for choice in json.loads(event)["choices"]]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def load_cassette(intent: str) -> dict[str, Any]:
    return yaml.safe_load((CASSETTES / f"{intent}.yaml").read_text(encoding="utf-8"))


def write_joined_cassette(tmp_path: Path, *cassettes: dict[str, Any]) -> Path:
    """Write one cassette with these conversations, since a replay uses one file."""
    interactions = [interaction for cassette in cassettes for interaction in cassette["interactions"]]
    path = tmp_path / "joined.yaml"
    path.write_text(yaml.safe_dump({**cassettes[0], "interactions": interactions}, allow_unicode=True, sort_keys=False))
    return path


def paced_greeting(seconds: float) -> dict[str, Any]:
    """Return the greeting's cassette with a slow answer. All other answers, and its first words, arrive at once."""
    cassette = load_cassette("greeting")
    for interaction in cassette["interactions"]:
        interaction["timing"] = {"first_byte_seconds": 0.0, "chunk_offsets": []}
    offsets = load_cassette("greeting")["interactions"][-1]["timing"]["chunk_offsets"]
    last = len(offsets) - 1
    steps = [[seconds * max(0, number - 1) / (last - 1), end] for number, (_, end) in enumerate(offsets)]
    cassette["interactions"][-1]["timing"]["chunk_offsets"] = steps
    return cassette
