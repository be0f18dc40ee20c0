"""Takes jobs from the queue, decides for each whether it may run, and stops in order."""

from __future__ import annotations

import asyncio
import logging
import socket
from contextlib import suppress
from datetime import UTC, datetime
from uuid import UUID, uuid4

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LangSmithTelemetry, LedgerSink
from graph.jobs import MAX_DELIVERIES, DeadReason, Delivery, Job, JobMetrics, JobQueue, Verdict
from graph.runtime import Graph, Runtime
from graph.streams import START, Claim, JobStore, NewJob, StoreUnavailableError, StreamEvent
from graph.worker.answering import Answering
from graph.worker.run_events import RunRecords
from graph.worker.settings import WorkerSettings
from graph.worker.slots import JobSlots

__all__ = ["Worker"]

_RETRY_SECONDS = 0.2  # while the store does not answer

_logger = logging.getLogger(__name__)


class Worker:
    """Runs jobs until :meth:`stop`.

    Args:
        runtime: Creates the turns.
        graph: The graph.
        handler: The telemetry handler; ``records`` is one of its sinks.
        records: Receives the handler's records.
        store: Job state and streams.
        queue: The queue.
        settings: The worker's settings.
        metrics: The metrics of jobs.
        ledger: Learns of runs whose worker died; None without a ledger.
        environment: The deployment environment, a tag of each trace.
        max_wait_seconds: A job that waited longer is not run any more.
        makes_spans: Whether each run becomes OpenTelemetry spans.
    """

    def __init__(
        self,
        runtime: Runtime,
        graph: Graph,
        handler: Eco2CallbackHandler,
        records: RunRecords,
        store: JobStore,
        queue: JobQueue,
        settings: WorkerSettings,
        metrics: JobMetrics,
        *,
        ledger: LedgerSink | None = None,
        environment: str = "",
        max_wait_seconds: float = 900.0,
        makes_spans: bool = True,
    ) -> None:
        self._store, self._queue, self._ledger = store, queue, ledger
        self._settings, self._metrics, self._max_wait_seconds = settings, metrics, max_wait_seconds
        self._slots = slots = JobSlots(settings.concurrency)
        metrics.watch_busy(lambda: slots.busy)
        self._stop, self._out_of_grace = asyncio.Event(), asyncio.Event()
        self._running: dict[str, asyncio.Event] = {}
        self._answering = Answering(
            runtime=runtime,
            graph=graph,
            handler=handler,
            records=records,
            telemetry=LangSmithTelemetry(handler, environment=environment),
            store=store,
            metrics=metrics,
            lease_seconds=settings.lease_seconds,
            out_of_grace=self._out_of_grace,
            makes_spans=makes_spans,
        )

    def stop(self) -> None:
        """Take no more jobs. Running jobs get the grace period."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    @property
    def waiting(self) -> int:
        """How many jobs wait for a slot here."""
        return self._slots.waiting

    async def run(self) -> None:
        """Run jobs until :meth:`stop`, then until the running jobs end or the grace period is over."""
        grace = asyncio.create_task(self._end_grace())
        try:
            await self._queue.listen(self._stop, concurrency=self._settings.concurrency)
        finally:
            grace.cancel()

    async def run_job(self, job: Job, delivery: Delivery) -> Verdict:
        """Run one delivered job, unless it has its outcome or another worker runs it; return the message's verdict."""
        described = job.described()
        if (running := self._running.get(job.job_id)) is not None and delivery.is_repeated:
            await running.wait()  # delivered again after a lost connection, while it runs here
        alone = False
        while not self.stopping:
            async with self._slots.take(alone=alone):
                claim = await self._claim(described, alone=alone)
                if claim is None or self.stopping:
                    if claim is not None and claim.outcome == "started":
                        await self._store.hand_back(job.job_id, claim.run, owner=claim.owner)
                    break
                if claim.outcome == "finished":
                    self._mark_dead_runs(job, claim)
                    # A dead letter that comes back did not reach the dead-letter queue.
                    return "dead" if claim.is_dead and delivery.is_repeated else "ack"
                if claim.outcome == "started":
                    return await self._run_claimed(job, claim, delivery)
            if claim.outcome == "suspect":
                alone = True
            elif delivery.is_repeated:
                # The other worker may be alive, with a lost connection to the queue.
                await self._sleep(min(claim.held_seconds, 1.0) + 0.05)
            else:
                _logger.info("Job %s was sent twice; the first one runs.", job.job_id)
                return "ack"
        return await self._refuse(described)

    async def bury_malformed(self, job_id: str | None, reason: str) -> None:
        """Answer the reader of a message that is no job, and count it."""
        self._metrics.dead("malformed")
        if job_id is None:
            return
        job = NewJob(job_id=job_id, accepted_at=datetime.now(UTC))
        data = {"type": "malformed", "title": "The job is malformed", "detail": reason}
        await self._store.finish(job, "dead", StreamEvent(START, "error", data))

    async def _claim(self, job: NewJob, *, alone: bool) -> Claim | None:
        """Claim a job as soon as the store answers; None when the worker stops before."""
        owner = f"{socket.gethostname()}-{uuid4().hex}"
        while True:
            try:
                return await self._store.claim(
                    job,
                    owner=owner,
                    alone=alone,
                    lease_seconds=self._settings.lease_seconds,
                    max_shared_crashes=self._settings.max_shared_crashes,
                )
            except StoreUnavailableError as error:
                _logger.warning("Job %s waits for the store: %s.", job.job_id, error)
                if await self._sleep(_RETRY_SECONDS):
                    return None

    async def _run_claimed(self, job: Job, claim: Claim, delivery: Delivery) -> Verdict:
        waited_seconds = (datetime.now(UTC) - (claim.accepted_at or job.described().accepted_at)).total_seconds()
        if claim.run == 1:
            self._metrics.started(waited_seconds)
        else:
            self._metrics.redelivered()
            _logger.warning("Job %s: run %d starts after %d crashes.", job.job_id, claim.run, claim.crashes)
        if claim.dead_run:
            _logger.error("Job %s: the worker of run %d died.", job.job_id, claim.dead_run)
        self._mark_dead_runs(job, claim)
        if claim.crashes_alone >= self._settings.max_crashes_alone or delivery.count >= MAX_DELIVERIES:
            return await self._bury(job, claim, "poison", "Every worker that ran this job crashed")
        if claim.run == 1 and waited_seconds > self._max_wait_seconds:
            return await self._bury(job, claim, "expired", "The job waited too long")
        done = self._running[job.job_id] = asyncio.Event()
        try:
            ending = await self._answering.run(job, claim, is_repeated=delivery.is_repeated)
        finally:
            del self._running[job.job_id]
            done.set()
        if ending != "handed_back":
            return "ack"
        _logger.warning("Job %s is handed back: the grace period is over.", job.job_id)
        return await self._refuse(job.described())

    async def _bury(self, job: Job, claim: Claim, reason: DeadReason, title: str) -> Verdict:
        """Tell the reader, and move the job to the dead-letter queue."""
        _logger.error("Job %s becomes a dead letter (%s): %s.", job.job_id, reason, title)
        publisher = self._answering.publisher(job.described(), claim)
        try:
            written = await publisher.finish("error", "dead", type=reason, title=title)
        finally:
            await publisher.stop()
        if written:
            self._metrics.dead(reason)
        return "dead" if written else "ack"

    def _mark_dead_runs(self, job: Job, claim: Claim) -> None:
        """Give the ledger the requests that their workers could not end: their calls are there, each with its cost.

        A mark has the key of the request's own record. So the ledger keeps one of them, if both are made.
        """
        for run in claim.runs:
            if run.is_recorded or self._ledger is None:
                continue
            self._ledger.emit(
                GraphRun(
                    trace_id=UUID(run.trace_id),
                    job_id=job.job_id,
                    tenant_id=job.tenant_id or "",
                    user_id=job.user_id,
                    session_id=job.session_id or job.job_id,
                    status="error",
                    error_type="WorkerDied",
                    started_at=run.started_at,
                    duration_seconds=0.0,
                    llm_calls=run.totals.llm_calls,
                    usage=run.totals.usage,
                    cost=run.totals.cost,
                    estimated=run.totals.estimated,
                    unpriced_calls=run.totals.unpriced_calls + run.open_calls,
                    metadata={"job_run": run.run},
                )
            )

    async def _refuse(self, job: NewJob) -> Verdict:
        """Hand a job back. Without a durable queue no worker runs it again, so its reader gets an error."""
        if not self._queue.is_durable:
            data = {"type": "stopped", "title": "The server stops"}
            await self._store.finish(job, "error", StreamEvent(START, "error", data))
        return "requeue"

    async def _sleep(self, seconds: float) -> bool:
        """Wait; return whether the worker stops."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stop.wait()
        return self.stopping

    async def _end_grace(self) -> None:
        await self._stop.wait()
        _logger.info("Stopping; running jobs: %d.", self._slots.busy)
        await asyncio.sleep(self._settings.grace_seconds)
        self._out_of_grace.set()
