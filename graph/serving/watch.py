"""Watches a process: whether its loop is alive, whether its servers answer, and how many jobs wait."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import suppress

from langgraph.checkpoint.base import BaseCheckpointSaver

from graph.jobs import JobMetrics, JobQueue, QueueUnavailableError
from graph.streams import JobStore, StoreUnavailableError

__all__ = ["ProcessWatch"]

_STUCK_SECONDS = 60.0
_BEAT_SECONDS = 1.0
_CHECK_SECONDS = 2.0
_CHECKPOINTS_SECONDS = 1.5  # a pool waits longer for a connection
_COUNT_EVERY_SECONDS = 5.0


class ProcessWatch:
    """Answers the probes of a process. Create it on the process's loop.

    Args:
        store: Must answer for the process to be ready.
        queue: The same.
        metrics: Receives the number of waiting jobs, and whether the process is ready.
        stopped: Set when the process stops.
        checkpointer: Must answer too, where jobs run; None in a process without a worker.
    """

    def __init__(
        self,
        store: JobStore,
        queue: JobQueue,
        metrics: JobMetrics,
        stopped: asyncio.Event,
        *,
        checkpointer: BaseCheckpointSaver[str] | None = None,
    ) -> None:
        self._store, self._queue, self._metrics, self._stopped = store, queue, metrics, stopped
        self._checkpointer = checkpointer
        self._loop = asyncio.get_running_loop()
        self._last_beat = time.monotonic()
        self.connected = False

    async def run(self, waiting_here: Callable[[], int]) -> None:
        """Record that the loop is alive, whether the process is ready and how many jobs wait, until cancelled.

        Args:
            waiting_here: Returns how many jobs wait in this process.
        """
        counted_at = -_COUNT_EVERY_SECONDS
        while True:
            self._last_beat = time.monotonic()
            if self._last_beat - counted_at >= _COUNT_EVERY_SECONDS:
                counted_at = self._last_beat
                await self._update(waiting_here)
            await asyncio.sleep(_BEAT_SECONDS)

    async def _update(self, waiting_here: Callable[[], int]) -> None:
        try:
            problem = await asyncio.wait_for(self._check(), _CHECK_SECONDS)
        except TimeoutError:
            problem = "the servers do not answer in time"
        self._metrics.set_ready(ready=not problem)
        waiting = None
        if self.connected:
            with suppress(QueueUnavailableError, TimeoutError):
                in_queue = await asyncio.wait_for(self._queue.waiting(), _CHECK_SECONDS)
                waiting = in_queue if self._queue.is_durable else waiting_here()
        self._metrics.set_waiting(waiting)

    def stuck(self) -> str:
        """Return why the process should be restarted, ``""`` if it should not. For other threads."""
        silent_seconds = time.monotonic() - self._last_beat
        return f"the event loop has been blocked for {silent_seconds:.0f} s" if silent_seconds > _STUCK_SECONDS else ""

    def ready(self) -> str:
        """Return why the process should get no traffic, ``""`` if it should. For other threads."""
        if self._stopped.is_set():
            return "stopping"
        try:
            return asyncio.run_coroutine_threadsafe(self._check(), self._loop).result(_CHECK_SECONDS)
        except FutureTimeoutError:
            return "the servers do not answer in time"

    async def _check(self) -> str:
        if not self.connected:
            return "RabbitMQ does not answer yet"
        try:
            await self._store.ping()
        except StoreUnavailableError as error:
            return f"{str(error).partition(': ')[0]} does not answer: {type(error.__cause__).__name__}"
        try:
            await self._queue.waiting()
        except QueueUnavailableError as error:
            return f"RabbitMQ does not answer: {type(error.__cause__).__name__}"
        if self._checkpointer is not None:
            try:
                async with asyncio.timeout(_CHECKPOINTS_SECONDS):
                    await self._checkpointer.aget_tuple({"configurable": {"thread_id": "readyz"}})
            except Exception as error:  # each store's client has its own
                return f"ECO2_CHECKPOINTS does not answer: {type(error).__name__}"
        return ""
