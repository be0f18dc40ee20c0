"""The job queue: TaskIQ is the port, in memory by default and RabbitMQ for production."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from typing import Any, TypeAlias

from aio_pika.exceptions import DeliveryError
from opentelemetry import trace
from opentelemetry.context import Context as OtelContext
from opentelemetry.propagate import extract, inject
from opentelemetry.trace import SpanKind
from taskiq import AsyncBroker, Context, InMemoryBroker, TaskiqDepends
from taskiq.receiver import Receiver

from graph.jobs.job import Job
from graph.jobs.rabbitmq import Delivery, OnMalformed, RabbitBroker, Verdict
from graph.jobs.settings import QUEUE

__all__ = ["JobQueue", "QueueUnavailableError", "RunJob"]

RunJob: TypeAlias = Callable[[Job, Delivery], Awaitable[Verdict]]
"""Runs one job and says what becomes of its message."""

_PUBLISH_SECONDS = 5.0
_RECONNECT_SECONDS = 0.5
_STOP_SECONDS = 5.0  # for RabbitMQ's answers, after the last job has ended

_logger = logging.getLogger(__name__)


class QueueUnavailableError(RuntimeError):
    """The queue did not take a job: it does not answer, or it is full.

    Args:
        reason: Why.
        is_refused: Whether the queue cannot have the job. Without an answer it may have it all the same.
    """

    def __init__(self, reason: str, *, is_refused: bool = False) -> None:
        super().__init__(reason)
        self.is_refused = is_refused


class JobQueue:
    """Publishes jobs, and runs them where :meth:`listen` is called.

    Args:
        broker: ``RabbitBroker``, or TaskIQ's ``InMemoryBroker`` for one process without servers.
    """

    def __init__(self, broker: AsyncBroker) -> None:
        self._broker = broker
        self._run_job: RunJob | None = None
        self._running = 0
        self._idle = asyncio.Event()
        self._idle.set()

        async def process(job: dict[str, Any], context: Context = TaskiqDepends()) -> None:  # noqa: B008 - TaskIQ's way
            await self._process(job, context)

        self._task = broker.register_task(process, task_name=QUEUE)

    @property
    def is_durable(self) -> bool:
        """Whether a job outlives this process."""
        return not isinstance(self._broker, InMemoryBroker)

    async def startup(self, run_job: RunJob | None = None, on_malformed: OnMalformed | None = None) -> None:
        """Connect.

        Args:
            run_job: Runs jobs in this process; None only publishes.
            on_malformed: Called for a message that is no job, before it becomes a dead letter.

        Raises:
            QueueUnavailableError: If the broker cannot be reached.
        """
        self._run_job = run_job
        if isinstance(self._broker, RabbitBroker):
            self._broker.on_malformed = on_malformed
        self._broker.is_worker_process = run_job is not None
        try:
            await self._broker.startup()
        except Exception as error:
            raise QueueUnavailableError(f"{type(error).__name__}: {error}") from error

    async def shutdown(self) -> None:
        """Disconnect. Messages without a verdict go back to the queue."""
        await self._broker.shutdown()

    async def publish(self, job: Job) -> None:
        """Hand a job to the queue; it is stored when this returns. The message carries the current trace (W3C).

        Raises:
            QueueUnavailableError: If the queue did not take it.
        """
        with self._span("send", SpanKind.PRODUCER, job.job_id):
            headers: dict[str, str] = {}
            inject(headers)
            connecting = asyncio.create_task(self._until_connected())  # from then on, it may have been sent
            try:
                async with asyncio.timeout(_PUBLISH_SECONDS):
                    kicker = self._task.kicker().with_task_id(job.job_id).with_labels(**headers)
                    await kicker.kiq(job=job.model_dump(mode="json"))
            except Exception as error:  # taskiq wraps what its broker raises
                reason = error.__cause__ or error
                is_refused = not connecting.done() or isinstance(reason, DeliveryError)
                raise QueueUnavailableError(f"{type(reason).__name__}: {reason}", is_refused=is_refused) from error
            finally:
                connecting.cancel()

    @property
    def has_other_length(self) -> bool:
        """Whether the queue was made with another maximum length than this process has."""
        return isinstance(self._broker, RabbitBroker) and self._broker.has_other_length

    async def _until_connected(self) -> None:
        """Wait until RabbitMQ is connected, be it for a moment; for ever where it is not used or not started."""
        connection = self._broker.write_conn if isinstance(self._broker, RabbitBroker) else None
        await (connection.connected if connection is not None else asyncio.Event()).wait()

    async def waiting(self) -> int:
        """Return how many jobs wait in the queue.

        Raises:
            QueueUnavailableError: If the broker does not answer.
        """
        if not isinstance(self._broker, RabbitBroker):
            return 0
        try:
            return await self._broker.waiting()
        except Exception as error:
            raise QueueUnavailableError(f"{type(error).__name__}: {error}") from error

    async def listen(self, stop: asyncio.Event, *, concurrency: int) -> None:
        """Run jobs until ``stop`` is set and the running ones have ended; reconnect meanwhile.

        A broker that does not answer then is left to :meth:`shutdown`.
        """
        if not self.is_durable:  # an in-memory broker runs a job when it is published
            await stop.wait()
            await self._broker.wait_all()  # type: ignore[attr-defined]
            return
        while True:
            receiver = Receiver(self._broker, max_async_tasks=concurrency, run_startup=False, validate_params=False)
            try:
                await self._listen(receiver, stop)
            except Exception as error:
                _logger.warning("The queue cannot be read, it is tried again: %s: %s.", type(error).__name__, error)
            if stop.is_set():
                return
            await asyncio.sleep(_RECONNECT_SECONDS)

    async def _listen(self, receiver: Receiver, stop: asyncio.Event) -> None:
        listening, stopped = asyncio.create_task(receiver.listen(stop)), asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({listening, stopped}, return_when=asyncio.FIRST_COMPLETED)
            while not listening.done():
                await self._idle.wait()
                await asyncio.wait({listening}, timeout=_STOP_SECONDS)
                if self._idle.is_set() and not listening.done():
                    _logger.warning("The queue does not answer; its consumer is left to it.")
                    return
            listening.result()
        finally:
            stopped.cancel()
            listening.cancel()

    async def _process(self, job: dict[str, Any], context: Context) -> None:
        self._running += 1
        self._idle.clear()
        try:
            await self._run(job, context)
        finally:
            self._running -= 1
            if not self._running:
                self._idle.set()

    async def _run(self, job: dict[str, Any], context: Context) -> None:
        delivery = Delivery()
        if isinstance(self._broker, RabbitBroker):
            delivery = self._broker.delivery(context.message.labels)
        if self._run_job is not None:
            question = Job.model_validate(job)
            labels = {name: value for name, value in context.message.labels.items() if isinstance(value, str)}
            with self._span("process", SpanKind.CONSUMER, question.job_id, extract(labels)) as span:
                delivery.verdict = await self._run_job(question, delivery)
                span.set_attribute("eco2.verdict", delivery.verdict)

    def _span(
        self, operation: str, kind: SpanKind, job_id: str, parent: OtelContext | None = None
    ) -> AbstractContextManager[trace.Span]:
        """Return a span under the names of OpenTelemetry's messaging conventions."""
        return trace.get_tracer(__name__).start_as_current_span(
            f"{operation} {QUEUE}",
            context=parent,
            kind=kind,
            attributes={
                "messaging.system": "rabbitmq" if self.is_durable else "memory",
                "messaging.operation.type": operation,
                "messaging.operation.name": operation,
                "messaging.destination.name": QUEUE,
                "messaging.message.id": job_id,
            },
        )
