"""The API on the loopback, with a worker on fake models in the same process."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from graph.api import ApiContext, ApiSettings, FeedbackSender, TenantLimits, create_app, make_authenticator
from graph.jobs import JobQueue
from graph.serving.http import HttpServer, bind
from graph.streams import JobStore, MemoryJobStore
from tests.support import fake_runtime
from tests.support.worker_runs import running_worker

__all__ = ["ApiServer", "api_server"]


@dataclass
class ApiServer:
    """A running API and a client of it."""

    url: str
    client: httpx.AsyncClient
    store: JobStore
    queue: JobQueue
    context: ApiContext
    recoveries: list[tuple[str, str]] = field(default_factory=list)

    async def ask(self, message: str = "안녕!", *, headers: dict[str, str] | None = None, **fields: Any) -> str:
        """Ask a question and return its job."""
        answer = await self.client.post("/api/v1/chat", json={"message": message} | fields, headers=headers)
        assert answer.status_code == 202, answer.text
        job_id: str = answer.json()["job_id"]
        return job_id

    async def events(
        self, job_id: str, *, headers: dict[str, str] | None = None, limit: int = 0
    ) -> list[dict[str, Any]]:
        """Return the events of a job, or so many of them, with their data parsed."""
        found: list[dict[str, Any]] = []
        event: dict[str, Any] = {}
        async with self.client.stream("GET", f"/api/v1/chat/{job_id}/events", headers=headers) as answer:
            assert answer.status_code == 200, await answer.aread()
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    found.append({"comment": line[1:].strip()})
                elif line:
                    name, _, value = line.partition(": ")
                    event[name] = json.loads(value) if name == "data" else value
                elif event:
                    found.append(event)
                    event = {}
                if limit and len(found) >= limit:
                    break
        return found

    async def until_ended(self, job_id: str, *, headers: dict[str, str] | None = None) -> dict[str, Any]:
        """Return a job's answer when it has ended."""
        await self.events(job_id, headers=headers)
        answer: dict[str, Any] = (await self.client.get(f"/api/v1/chat/{job_id}", headers=headers)).json()
        return answer


@asynccontextmanager
async def api_server(
    tmp_path: Path,
    settings: ApiSettings | None = None,
    *,
    store: JobStore | None = None,
    feedback: FeedbackSender | None = None,
    max_connections: int = 1000,
    **nodes: Callable[..., Any],
) -> AsyncIterator[ApiServer]:
    """Serve the API during the block, on a graph with these nodes."""
    settings, store = settings or ApiSettings(), store or MemoryJobStore()
    recoveries: list[tuple[str, str]] = []
    runtime = fake_runtime.runtime(tmp_path, **nodes)
    async with running_worker(store, runtime=runtime, grace_seconds=0) as (_, queue):
        context = ApiContext(
            store=store,
            queue=queue,
            authenticator=make_authenticator(settings),
            limits=TenantLimits(requests_per_minute=settings.requests_per_minute, max_streams=settings.max_streams),
            feedback=feedback or FeedbackSender(None),
            settings=settings,
            on_recovery=lambda *pair: recoveries.append(pair),
        )
        server = HttpServer(create_app(context), bind("127.0.0.1", 0), max_connections=max_connections)
        url = f"http://127.0.0.1:{server.port}"
        async with server.running(), httpx.AsyncClient(base_url=url, timeout=60, trust_env=False) as client:
            yield ApiServer(url, client, store, queue, context, recoveries)
            context.stopping.set()
