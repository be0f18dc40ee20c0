"""Runs jobs from Redis through the graph, several at once, and publishes their tokens."""

from __future__ import annotations

import asyncio
import logging
import socket
import time
from collections.abc import Mapping
from contextlib import suppress
from typing import Any
from uuid import uuid4

from pydantic import ValidationError
from redis.asyncio import Redis
from redis.exceptions import RedisError

from eco2_callbacks import Eco2CallbackHandler, LangSmithTelemetry
from graph.runtime import Graph, Runtime
from graph.worker.jobs import Entry, Job, JobQueue
from graph.worker.settings import WorkerSettings
from graph.worker.tokens import StreamEvents, TokenStream

__all__ = ["RECLAIM_SECONDS", "Worker"]

RECLAIM_SECONDS = 60.0
_RETRY_SECONDS = 1.0  # before the next attempt after a Redis error
_CANCEL_SECONDS = 5.0  # for cancelled jobs to publish their last entry
_STUCK_SECONDS = 60.0

_logger = logging.getLogger(__name__)


class Worker:
    """Runs jobs until :meth:`stop`.

    Args:
        runtime: Creates the turns.
        graph: The graph.
        handler: The telemetry handler.
        redis: A client without decoding.
        settings: The worker's settings.
        environment: The deployment environment, a tag of each trace.
        reclaim_seconds: How long a job may go without a heartbeat before it is reassigned.
    """

    def __init__(
        self,
        runtime: Runtime,
        graph: Graph,
        handler: Eco2CallbackHandler,
        redis: Redis,
        settings: WorkerSettings,
        *,
        environment: str = "",
        reclaim_seconds: float = RECLAIM_SECONDS,
    ) -> None:
        self._runtime, self._graph, self._handler, self._redis = runtime, graph, handler, redis
        self._settings = settings
        self._telemetry = LangSmithTelemetry(handler, environment=environment)
        self._reclaim_seconds = reclaim_seconds
        consumer = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._queue = JobQueue(redis, consumer=consumer, reclaim_seconds=reclaim_seconds)
        self._running: dict[bytes, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._last_beat = time.monotonic()
        self._failing = False

    def stop(self) -> None:
        """Take no more jobs. Running jobs get the grace period."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether :meth:`stop` was called."""
        return self._stop.is_set()

    def stuck(self) -> str:
        """Return why the process should be restarted, ``""`` if it should not."""
        silent_seconds = time.monotonic() - self._last_beat
        return f"the event loop has been blocked for {silent_seconds:.0f} s" if silent_seconds > _STUCK_SECONDS else ""

    async def run(self) -> None:
        """Run jobs until :meth:`stop`, then until the running jobs end or the grace period is over."""
        stopped = asyncio.create_task(self._stop.wait())
        heartbeats = asyncio.create_task(self._send_heartbeats())
        try:
            while not self.stopping:
                if len(self._running) >= self._settings.concurrency:
                    await asyncio.wait({stopped, *self._running.values()}, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._start_next()
            await self._drain()
        finally:
            for task in (stopped, heartbeats):
                task.cancel()
            await asyncio.gather(stopped, heartbeats, return_exceptions=True)

    async def _start_next(self) -> None:
        """Start the next job if there is one. After any error, wait before the next attempt."""
        try:
            entry = await self._queue.next_job()
            if entry is not None and self.stopping:
                await self._queue.hand_back(entry.entry_id)
                return
        except Exception as error:
            if not self._failing:
                self._failing = True
                _logger.error("Cannot take jobs: %s.", error, exc_info=_is_unexpected(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _RETRY_SECONDS)
            return
        if self._failing:
            self._failing = False
            _logger.info("Taking jobs again.")
        # After a long outage of Redis, this worker may receive its own job again.
        if entry is not None and entry.entry_id not in self._running:
            task = asyncio.create_task(self._run_entry(entry))
            self._running[entry.entry_id] = task
            task.add_done_callback(lambda _: self._running.pop(entry.entry_id))

    async def _run_entry(self, entry: Entry) -> None:
        """Run one job and acknowledge it, even if it failed. Only a Redis error leaves it in the queue."""
        name = entry.entry_id.decode()
        try:
            try:
                job = Job.model_validate_json(entry.content)
            except ValidationError as error:
                _logger.error("The job in entry %s is invalid and is dropped: %s.", name, _describe(error))
            else:
                await self._run_job(job, exhausted=entry.exhausted)
            await self._queue.acknowledge(entry.entry_id)
        except Exception as error:
            _logger.error("The job in entry %s stays in the queue: %s.", name, error, exc_info=_is_unexpected(error))

    async def _run_job(self, job: Job, *, exhausted: bool) -> None:
        stream = TokenStream(self._redis, job.job_id, published=self._handler.stream_metrics.published)
        try:
            await stream.begin()
            if exhausted:
                _logger.error("Job %s is dropped: every worker that started it crashed.", job.job_id)
                await stream.failed("abandoned")
                return
            state = await self._answer(job, stream)
        except asyncio.CancelledError:
            _logger.warning("Job %s is cancelled: the grace period is over.", job.job_id)
            await stream.failed("cancelled")
        except RedisError:
            raise
        except Exception as error:
            _logger.exception("Job %s failed.", job.job_id)
            await stream.failed(type(error).__name__)
        else:
            await stream.done(state.get("answer", ""), state.get("images", ()))

    async def _answer(self, job: Job, stream: TokenStream) -> Mapping[str, Any]:
        """Run the graph, publish its events meanwhile, and return its final state."""
        config = self._telemetry.run_config(
            job_id=job.job_id,
            session_id=job.session_id or job.job_id,
            user_id=job.user_id,
            tenant_id=job.tenant_id,
        )
        events = StreamEvents()
        config["callbacks"] = [self._handler, events]
        running = asyncio.create_task(
            self._graph.ainvoke(self._runtime.make_turn(job.message, image=job.image), config)
        )
        running.add_done_callback(lambda _: events.close())
        try:
            async for event in events:
                await stream.add(event)
            return await running
        finally:  # without a reader, the rest of the answer would cost money for nothing
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _send_heartbeats(self) -> None:
        """Send heartbeats of the running jobs, and record that the event loop is alive."""
        while True:
            self._last_beat = time.monotonic()
            if self._running:
                try:
                    await self._queue.heartbeat(tuple(self._running))
                except Exception as error:
                    _logger.warning("Heartbeat failed, running jobs may be reassigned: %s.", error)
            await asyncio.sleep(self._reclaim_seconds / 4)

    async def _drain(self) -> None:
        if tasks := set(self._running.values()):
            _logger.info("Stopping; running jobs: %d.", len(tasks))
            _, late = await asyncio.wait(tasks, timeout=self._settings.grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCEL_SECONDS)
        try:
            await self._queue.leave()
        except Exception as error:
            _logger.warning("Cannot leave the consumer group: %s.", error)


def _is_unexpected(error: Exception) -> bool:
    return not isinstance(error, RedisError)


def _describe(error: ValidationError) -> str:
    """Return why a job is invalid, without its content."""
    lines = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, line['loc'])) or 'job'}: {line['msg']}" for line in lines)
