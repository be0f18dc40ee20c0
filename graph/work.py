"""Work: jobs from Redis through the graph, several at once, their answers' tokens published as they come."""

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
from graph.jobs import Entry, Job, JobQueue
from graph.stage import Graph, Stage
from graph.tokens import Listener, TokenStream
from graph.worker_env import WorkerSettings

__all__ = ["RECLAIM_SECONDS", "Worker"]

RECLAIM_SECONDS = 60.0
_PAUSE_SECONDS = 1.0  # before Redis is asked again
_CANCEL_SECONDS = 5.0  # for what was cancelled to say so
_STUCK_SECONDS = 60.0

_logger = logging.getLogger(__name__)


class Worker:
    """Runs jobs until it is told to stop.

    Args:
        stage: Whose turns the graph takes.
        graph: The graph.
        handler: What measures it.
        redis: A client that decodes nothing.
        settings: The worker's.
        environment: Where it runs, for the tags of a trace.
        reclaim_seconds: After how long a silent worker's job is taken over.
    """

    def __init__(
        self,
        stage: Stage,
        graph: Graph,
        handler: Eco2CallbackHandler,
        redis: Redis,
        settings: WorkerSettings,
        *,
        environment: str = "",
        reclaim_seconds: float = RECLAIM_SECONDS,
    ) -> None:
        self._stage, self._graph, self._handler, self._redis = stage, graph, handler, redis
        self._settings = settings
        self._telemetry = LangSmithTelemetry(handler, environment=environment)
        self._reclaim_seconds = reclaim_seconds
        consumer = f"{socket.gethostname()}-{uuid4().hex[:8]}"
        self._queue = JobQueue(redis, consumer=consumer, reclaim_seconds=reclaim_seconds)
        self._under_way: dict[bytes, asyncio.Task[None]] = {}
        self._stop = asyncio.Event()
        self._beat = time.monotonic()
        self._failing = False

    def stop(self) -> None:
        """Take no more jobs; those under way have their grace."""
        self._stop.set()

    @property
    def stopping(self) -> bool:
        """Whether it was told to stop."""
        return self._stop.is_set()

    def stuck(self) -> str:
        """Return why the process should be started anew, ``""`` if it should not."""
        silent_seconds = time.monotonic() - self._beat
        return f"the event loop stands still for {silent_seconds:.0f} s" if silent_seconds > _STUCK_SECONDS else ""

    async def run(self) -> None:
        """Work until :meth:`stop`, and then until the jobs under way are done or their grace is over."""
        stopped = asyncio.create_task(self._stop.wait())
        keeping = asyncio.create_task(self._keep())
        try:
            while not self.stopping:
                if len(self._under_way) >= self._settings.concurrency:
                    await asyncio.wait({stopped, *self._under_way.values()}, return_when=asyncio.FIRST_COMPLETED)
                else:
                    await self._next()
            await self._finish()
        finally:
            for task in (stopped, keeping):
                task.cancel()
            await asyncio.gather(stopped, keeping, return_exceptions=True)

    async def _next(self) -> None:
        """Take a job, if there is one, and begin it; an error is waited out, whatever it is."""
        try:
            entry = await self._queue.take()
            if entry is not None and self.stopping:
                await self._queue.hand_back(entry.entry_id)
                return
        except Exception as error:
            if not self._failing:
                self._failing = True
                _logger.error("No jobs can be taken: %s.", error, exc_info=_unforeseen(error))
            with suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), _PAUSE_SECONDS)
            return
        if self._failing:
            self._failing = False
            _logger.info("Jobs can be taken again.")
        # After a long absence of Redis its own job can seem abandoned.
        if entry is not None and entry.entry_id not in self._under_way:
            task = asyncio.create_task(self._work(entry))
            self._under_way[entry.entry_id] = task
            task.add_done_callback(lambda _: self._under_way.pop(entry.entry_id))

    async def _work(self, entry: Entry) -> None:
        """Do one job; whatever becomes of it, only without Redis does it stay in the queue."""
        name = entry.entry_id.decode()
        try:
            try:
                job = Job.model_validate_json(entry.content)
            except ValidationError as error:
                _logger.error("The job in entry %s cannot be read and is dropped: %s.", name, _what(error))
            else:
                await self._do(job, exhausted=entry.exhausted)
            await self._queue.acknowledge(entry.entry_id)
        except Exception as error:
            _logger.error("The job in entry %s stays in the queue: %s.", name, error, exc_info=_unforeseen(error))

    async def _do(self, job: Job, *, exhausted: bool) -> None:
        stream = TokenStream(self._redis, job.job_id, published=self._handler.stream_metrics.published)
        try:
            await stream.begin()
            if exhausted:
                _logger.error("Job %s is given up: every worker that began it died.", job.job_id)
                await stream.failed("abandoned")
                return
            state = await self._answer(job, stream)
        except asyncio.CancelledError:
            _logger.warning("Job %s is cancelled: the worker's grace is over.", job.job_id)
            await stream.failed("cancelled")
        except RedisError:
            raise
        except Exception as error:
            _logger.exception("Job %s failed.", job.job_id)
            await stream.failed(type(error).__name__)
        else:
            await stream.done(state.get("answer", ""), state.get("images", ()))

    async def _answer(self, job: Job, stream: TokenStream) -> Mapping[str, Any]:
        """Run the graph, publish what it says while it does, and return its last state."""
        config = self._telemetry.run_config(
            job_id=job.job_id,
            session_id=job.session_id or job.job_id,
            user_id=job.user_id,
            tenant_id=job.tenant_id,
        )
        listener = Listener()
        config["callbacks"] = [self._handler, listener]
        running = asyncio.create_task(self._graph.ainvoke(self._stage.turn(job.message, image=job.image), config))
        running.add_done_callback(lambda _: listener.close())
        try:
            async for heard in listener:
                await stream.add(heard)
            return await running
        finally:  # nobody would read the rest, so nobody should pay for it
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)

    async def _keep(self) -> None:
        """Keep the jobs under way, and show that the loop turns."""
        while True:
            self._beat = time.monotonic()
            if self._under_way:
                try:
                    await self._queue.keep(tuple(self._under_way))
                except Exception as error:
                    _logger.warning("The jobs under way may be taken over: %s.", error)
            await asyncio.sleep(self._reclaim_seconds / 4)

    async def _finish(self) -> None:
        if tasks := set(self._under_way.values()):
            _logger.info("Stopping, with %d under way.", len(tasks))
            _, late = await asyncio.wait(tasks, timeout=self._settings.grace_seconds)
            for task in late:
                task.cancel()
            if late:
                await asyncio.wait(late, timeout=_CANCEL_SECONDS)
        try:
            await self._queue.leave()
        except Exception as error:
            _logger.warning("The worker's name stays in the group: %s.", error)


def _unforeseen(error: Exception) -> bool:
    return not isinstance(error, RedisError)


def _what(error: ValidationError) -> str:
    """Return what is wrong with a job, without what it holds."""
    lines = error.errors(include_url=False, include_input=False, include_context=False)
    return "; ".join(f"{'.'.join(map(str, line['loc'])) or 'job'}: {line['msg']}" for line in lines)
