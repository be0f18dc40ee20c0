"""Runs the worker in a test, on the demo's recordings."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import yaml
from prometheus_client import CollectorRegistry

from eco2_callbacks import Settings
from graph.app import make_handler
from graph.runtime import CASSETTES, Runtime
from graph.worker import Worker, WorkerSettings, connect
from tests.support.record_sink import Records
from tests.support.redis_process import RedisProcess

__all__ = [
    "GREETING",
    "joined_tokens",
    "load_cassette",
    "paced_greeting",
    "recorded_answer",
    "running_worker",
    "write_joined_cassette",
]

GREETING = CASSETTES / "greeting.yaml"


@asynccontextmanager
async def running_worker(
    server: RedisProcess,
    registry: CollectorRegistry,
    *,
    runtime: Runtime | None = None,
    records: Records | None = None,
    reclaim_seconds: float = 30.0,
    **settings: Any,
) -> AsyncIterator[Worker]:
    """Run a worker in this process during the block."""
    runtime = runtime or Runtime()
    client = connect(server.url)
    with make_handler(Settings(), sinks=[records] if records else [], registry=registry) as handler:
        async with client, runtime.open_graph() as graph:
            worker = Worker(
                runtime, graph, handler, client, WorkerSettings(**settings), reclaim_seconds=reclaim_seconds
            )
            task = asyncio.create_task(worker.run())
            try:
                yield worker
            finally:
                worker.stop()
                await task


def joined_tokens(entries: list[dict[str, str]]) -> str:
    return "".join(entry["text"] for entry in entries if entry["type"] == "token")


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
