"""Runs one job through the graph and publishes its answer: one run, from its claim to its outcome."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from langchain_core.runnables import RunnableConfig
from langchain_core.utils.uuid import uuid7

from eco2_callbacks import Eco2CallbackHandler, GraphRun, TelemetryConfig
from graph.answer_stream import ANSWER_NODE
from graph.app import AGENT_NAME
from graph.jobs import Job, JobMetrics
from graph.runtime import Graph, Runtime
from graph.streams import CANCELLED, Claim, JobStatus, JobStore, NewJob, Publisher, StoreUnavailableError
from graph.worker.run_events import RunEvents, RunRecords
from graph.worker.run_spans import RunSpans

__all__ = ["Answering", "Ending"]

Ending: TypeAlias = Literal["answered", "failed", "cancelled", "fenced", "handed_back"]

_RECORD_SECONDS = 5.0  # for the handler's record of an ended run
_LAST_WRITE_SECONDS = 5.0  # after the grace period
# The last event, the job's status, and the metrics' label.
_OUTCOMES: Mapping[Ending, tuple[Literal["done", "error"], JobStatus, str]] = MappingProxyType(
    {
        "answered": ("done", "done", "success"),
        "failed": ("error", "error", "error"),
        "cancelled": ("error", "cancelled", "cancelled"),
    }
)

_logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Runs jobs through the graph.

    Attributes:
        runtime: Creates the turns.
        graph: The graph, with its checkpointer.
        handler: The telemetry handler. ``records`` is one of its sinks.
        records: Receives the handler's records.
        telemetry: Makes the configs of requests.
        store: Job state and streams.
        metrics: The metrics of jobs.
        lease_seconds: How long a run counts as alive without a write.
        out_of_grace: Set when running jobs must end.
        makes_spans: Whether each run becomes OpenTelemetry spans; False where LangSmith's SDK makes them.
    """

    runtime: Runtime
    graph: Graph
    handler: Eco2CallbackHandler
    records: RunRecords
    telemetry: TelemetryConfig
    store: JobStore
    metrics: JobMetrics
    lease_seconds: float
    out_of_grace: asyncio.Event
    makes_spans: bool = True

    def publisher(self, job: NewJob, claim: Claim) -> Publisher:
        """Return the publisher of a claimed run."""
        return Publisher(
            self.store,
            job,
            claim.run,
            owner=claim.owner,
            lease_seconds=self.lease_seconds,
            earlier=claim.runs,
            on_written=self.handler.stream_metrics.published,
        )

    async def run(self, job: Job, claim: Claim, *, is_repeated: bool) -> Ending:
        """Run a claimed job to its outcome, unless a newer run owns it or the grace period ends.

        ``is_repeated`` says that the job's message was delivered before: it may have run, though the store has no run.
        """
        described = job.described()
        publisher = self.publisher(described, claim)
        spans = None
        if self.makes_spans:
            spans = RunSpans(agent_name=AGENT_NAME, job_id=job.job_id, session_id=described.session_id)
        events = RunEvents(
            publisher,
            accepted_at=claim.accepted_at or described.accepted_at,
            started_at=self.handler.request_started_at,
            spans=spans,
        )
        root = uuid7()
        config = self._config(job, claim)
        config["run_id"], config["callbacks"] = root, [self.handler, events]
        running = asyncio.create_task(self._answer(job, config, resumes=claim.run > 1 or is_repeated))
        watched = {
            asyncio.create_task(event.wait()): ending
            for event, ending in (
                (publisher.fenced, "fenced"),
                (publisher.cancelled, "cancelled"),
                (self.out_of_grace, "handed_back"),
            )
        }
        try:
            with self.records.of(root, events):
                await asyncio.wait({running, *watched}, return_when=asyncio.FIRST_COMPLETED)
                ended_by = next((ending for task, ending in watched.items() if task.done()), "")
                if not running.done():  # without a reader, the rest of the answer would cost money for nothing
                    running.cancel()
                await asyncio.gather(running, return_exceptions=True)
                record = await _record_of(events)
            return await self._end(job, claim, publisher, running, record, ended_by)
        finally:
            for task in (running, *watched):  # when this run is cancelled, its graph may not go on unobserved
                task.cancel()
            await publisher.stop()
            if spans is not None:
                spans.close()

    async def _end(
        self,
        job: Job,
        claim: Claim,
        publisher: Publisher,
        running: asyncio.Task[Mapping[str, Any]],
        record: GraphRun | None,
        ended_by: str,
    ) -> Ending:
        figures = {"seconds": round(record.duration_seconds, 3) if record is not None else None}
        if running.cancelled() or (ended_by and running.exception() is not None):
            if ended_by == "fenced":
                return await self._leave(job, claim, publisher)
            if ended_by == "handed_back":
                return await self._hand_back(job, claim, publisher)
            return await self._finish(job, claim, publisher, record, "cancelled", {**CANCELLED.data, **figures})
        if (error := running.exception()) is not None:
            _logger.error("Job %s failed.", job.job_id, exc_info=error)
            data: dict[str, Any] = {"type": type(error).__name__, "title": "The answer failed"}
            return await self._finish(job, claim, publisher, record, "failed", data | figures)
        state = running.result()
        answer, images = state.get("answer", ""), list(state.get("images") or ())
        if answer and not publisher.has_tokens:  # no model wrote the answer
            publisher.put("token", node=ANSWER_NODE, text=answer)
        data = {"answer": answer, "images": images, "intent": state.get("intent", "")}
        return await self._finish(job, claim, publisher, record, "answered", data | figures)

    async def _finish(
        self,
        job: Job,
        claim: Claim,
        publisher: Publisher,
        record: GraphRun | None,
        ending: Ending,
        data: Mapping[str, Any],
    ) -> Ending:
        """Write the outcome, however long the store is away; only the end of the grace period ends the wait."""
        kind, status, label = _OUTCOMES[ending]
        written = asyncio.create_task(publisher.finish(kind, status, **data))
        grace = asyncio.create_task(self.out_of_grace.wait())
        try:
            await asyncio.wait({written, grace}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({written}, timeout=_LAST_WRITE_SECONDS)
            if not written.done():
                return await self._hand_back(job, claim, publisher)
            if not written.result():
                return await self._leave(job, claim, publisher)
        finally:
            written.cancel()
            grace.cancel()
        accepted_at = claim.accepted_at or job.described().accepted_at
        seconds = (datetime.now(UTC) - accepted_at).total_seconds()
        self.metrics.ended(record.intent if record else "unclassified", label, seconds)
        return ending

    async def _leave(self, job: Job, claim: Claim, publisher: Publisher) -> Ending:
        """End a run whose job a newer one owns; what it cost is the job's all the same."""
        _logger.warning("Job %s: run %d ends, a newer one owns the job.", job.job_id, claim.run)
        try:
            await publisher.store_spending()
        except StoreUnavailableError as error:
            _logger.warning("Job %s: run %d ends without its cost so far: %s.", job.job_id, claim.run, error)
        return "fenced"

    async def _hand_back(self, job: Job, claim: Claim, publisher: Publisher) -> Ending:
        try:
            async with asyncio.timeout(_LAST_WRITE_SECONDS):
                await self.store.hand_back(job.job_id, claim.run, owner=claim.owner, spending=publisher.spending)
        except (StoreUnavailableError, TimeoutError) as error:
            _logger.warning("Job %s is handed back without its cost so far: %s.", job.job_id, error)
        return "handed_back"

    def _config(self, job: Job, claim: Claim) -> RunnableConfig:
        config = self.telemetry.run_config(
            job_id=job.job_id,
            session_id=job.session_id or job.job_id,
            user_id=job.user_id,
            tenant_id=job.tenant_id,
            metadata={"job_run": claim.run},
        )
        config["configurable"] = {"thread_id": job.thread_id}
        return config

    async def _answer(self, job: Job, config: RunnableConfig, *, resumes: bool) -> Mapping[str, Any]:
        """Return the graph's final state. A later run goes on where the last one stopped."""
        turn: Any = self.runtime.make_turn(job.message, image=job.image)
        if resumes and self.graph.checkpointer:
            saved = await self.graph.aget_state({"configurable": {"thread_id": job.thread_id}})
            metadata: Mapping[str, Any] = saved.metadata or {}
            if metadata.get("job_id") == job.job_id and metadata.get("source") == "loop":
                if not saved.tasks:  # ``next`` is empty too when all nodes of a step have ended, before the next step
                    return dict(saved.values)  # only the outcome was missing
                turn = None
            # A worker that died while the input was stored leaves a checkpoint without tasks: the turn begins again.
        # "sync": a node's result is stored before the next node starts, so that no later run pays for it again.
        durability: Literal["sync"] | None = "sync" if self.graph.checkpointer else None
        state: Mapping[str, Any] = await self.graph.ainvoke(turn, config, durability=durability)
        return state


async def _record_of(events: RunEvents) -> GraphRun | None:
    if not events.has_started:
        return None  # only the outcome was missing
    try:
        return await asyncio.wait_for(asyncio.shield(events.record), _RECORD_SECONDS)
    except TimeoutError:
        _logger.error("The handler made no record of an ended run, so its last calls may be missing in its cost.")
        return None
