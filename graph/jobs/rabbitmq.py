"""RabbitMQ as TaskIQ's broker: quorum queue, delivery limit, dead letters, and a verdict for each message.

taskiq-aio-pika acknowledges whatever a task returns, and drops what it cannot read. This broker adds the two other
verdicts that a job needs: hand it back, and move it to the dead-letter queue. Tested with taskiq-aio-pika 0.6.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import logging
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

from aio_pika import ExchangeType, RobustConnection
from aio_pika.abc import AbstractIncomingMessage
from aio_pika.exceptions import ChannelPreconditionFailed
from pydantic import ValidationError
from taskiq import AckableMessage
from taskiq_aio_pika import AioPikaBroker, Exchange, Queue, QueueType

from graph.jobs.job import Job, describe_invalid, readable_job_id
from graph.jobs.settings import DEAD_QUEUE, EXCHANGE, QUEUE

__all__ = ["MAX_DELIVERIES", "Delivery", "OnMalformed", "RabbitBroker", "Verdict"]

Verdict: TypeAlias = Literal["ack", "requeue", "dead"]
OnMalformed: TypeAlias = Callable[[str | None, str], Awaitable[None]]
"""Receives the job's id, if it can be read, and why the message is no job."""

MAX_DELIVERIES = 20
"""How often a worker accepts a job, hand-backs included. The queue's own limit lies above, as the last resort."""
_MAX_LOOKS = 1_000_000  # at a dead letter, which goes back each time: RabbitMQ 4 drops it after 20 by default
_RECONNECT_SECONDS = 1
_CLOSE_SECONDS = 5.0
_LABEL = "eco2_delivery"
_TRACE_HEADERS = ("traceparent", "tracestate")  # https://www.w3.org/TR/trace-context/

_logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Delivery:
    """One delivery of a job to this process.

    Attributes:
        count: How often the job was delivered before.
        verdict: What becomes of the message when its task has returned or failed.
    """

    count: int = 0
    verdict: Verdict = "requeue"

    @property
    def is_repeated(self) -> bool:
        """Whether another delivery of the same message came before."""
        return self.count > 0


class RabbitBroker(AioPikaBroker):
    """TaskIQ's RabbitMQ broker on the exchange ``chat_tasks`` and the quorum queue ``chat.process``.

    Args:
        url: ``amqp://`` or ``amqps://``.
        prefetch: How many messages this process holds at once.
        max_waiting: The queue's length, beyond which it refuses messages.

    Attributes:
        on_malformed: Called for a message that is no job, before it becomes a dead letter.
        has_other_length: Whether the queue was made with another maximum length.
    """

    def __init__(
        self,
        url: str,
        *,
        prefetch: int = 1,
        max_waiting: int = 10_000,
    ) -> None:
        self._queue = Queue(
            name=QUEUE,
            type=QueueType.QUORUM,
            arguments={
                "x-delivery-limit": MAX_DELIVERIES + 5,
                "x-max-length": max_waiting,
                "x-overflow": "reject-publish",
            },
        )
        super().__init__(
            url,
            qos=prefetch,
            exchange=Exchange(name=EXCHANGE, type=ExchangeType.DIRECT),
            task_queues=[self._queue],
            dead_letter_queue=Queue(name=DEAD_QUEUE, type=QueueType.QUORUM, arguments={"x-delivery-limit": _MAX_LOOKS}),
            reconnect_interval=_RECONNECT_SECONDS,
            connection_class=self._make_connection,
        )
        self._connections: list[RobustConnection] = []
        self.on_malformed: OnMalformed | None = None
        self.has_other_length = False
        self._numbers = itertools.count(1)
        self._deliveries: dict[str, Delivery] = {}

    def delivery(self, labels: Mapping[str, Any]) -> Delivery:
        """Return the delivery that a task's labels belong to."""
        return self._deliveries.get(str(labels.get(_LABEL)), Delivery())

    async def startup(self) -> None:
        """Connect, and declare exchange and queues. A failed start leaves no connection.

        A queue with another maximum length is used as it is: RabbitMQ changes no argument of a queue.
        """
        try:
            await self._start()
        except ChannelPreconditionFailed as error:
            if "'x-max-length'" not in str(error):
                raise
            _logger.error(
                "The queue %r keeps the maximum length that it was made with; ECO2_MAX_WAITING_JOBS is another (%s). "
                "Set the queue's own for every process, or delete the queue while it is empty and no process runs.",
                QUEUE,
                error,
            )
            self.has_other_length = True
            self.with_queues(replace(self._queue, declare=False))
            await self._start()

    async def _start(self) -> None:
        try:
            await super().startup()
        except BaseException:
            await self._close_connections()
            raise

    async def shutdown(self) -> None:
        """Close the connections, within seconds also where RabbitMQ does not answer."""
        try:
            async with asyncio.timeout(_CLOSE_SECONDS):
                await super().shutdown()
        except TimeoutError:
            _logger.warning("RabbitMQ does not answer; its connections are closed without it.")
        await self._close_connections()

    def _make_connection(self, *args: Any, **options: Any) -> RobustConnection:
        # Kept from the start: one that is still connecting goes on, and holds up the process's end, until it is closed.
        self._connections.append(RobustConnection(*args, **options))
        return self._connections[-1]

    async def _close_connections(self) -> None:
        closing = [asyncio.create_task(connection.close()) for connection in self._connections]
        self._connections.clear()
        if closing:
            await asyncio.wait(closing, timeout=_CLOSE_SECONDS)

    async def waiting(self) -> int:
        """Return how many messages are ready in the queue."""
        if self.write_conn is None:
            return 0
        async with self.write_conn.channel() as channel:
            queue = await channel.declare_queue(QUEUE, passive=True)
            return queue.declaration_result.message_count or 0

    async def listen(self) -> AsyncGenerator[AckableMessage, None]:
        """Yield the messages that are jobs; move others to the dead-letter queue."""
        async for message in super().listen():
            # The only way to the message's headers: the base class passes on its method alone.
            incoming: AbstractIncomingMessage = message.ack.__self__  # type: ignore[attr-defined]
            try:
                content = _content(incoming.body)
            except _MalformedError as error:
                await self._bury(incoming, error)
                continue
            number = str(next(self._numbers))
            count = incoming.headers.get("x-delivery-count")
            delivery = Delivery(count=count if isinstance(count, int) else int(bool(incoming.redelivered)))
            self._deliveries[number] = delivery
            content["labels"] = {**_trace_headers(incoming), **content["labels"], _LABEL: number}

            async def settle(number: str = number, incoming: AbstractIncomingMessage = incoming) -> None:
                await _settle(incoming, self._deliveries.pop(number).verdict)

            yield AckableMessage(data=json.dumps(content).encode(), ack=settle)

    async def _bury(self, incoming: AbstractIncomingMessage, error: _MalformedError) -> None:
        _logger.error("A message is no job and becomes a dead letter (job %s): %s.", error.job_id or "unknown", error)
        if self.on_malformed is not None:
            try:
                await self.on_malformed(error.job_id, str(error))
            except Exception:
                _logger.exception("The reader of a malformed job could not be answered.")
        await _settle(incoming, "dead")


class _MalformedError(ValueError):
    def __init__(self, reason: str, job_id: str | None = None) -> None:
        super().__init__(reason)
        self.job_id = job_id


def _content(body: bytes) -> dict[str, Any]:
    """Return what TaskIQ gets of a message, if it is a job as TaskIQ sends it."""
    try:
        content = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise _MalformedError("it is no JSON") from error
    if not isinstance(content, dict) or not isinstance(content.get("labels", {}), dict):
        raise _MalformedError("it is no TaskIQ message")
    kwargs = content.get("kwargs")
    job = kwargs.get("job") if isinstance(kwargs, dict) else None
    job_id = readable_job_id(job)
    if content.get("task_name") != QUEUE or not isinstance(content.get("task_id"), str) or job is None:
        raise _MalformedError(f"it is no TaskIQ message for {QUEUE!r} with the argument 'job'", job_id)
    try:
        Job.model_validate(job)
    except ValidationError as error:
        raise _MalformedError(describe_invalid(error), job_id) from error
    # Nothing else: TaskIQ obeys a message's labels (timeout, ack_type), and drops or never settles what it cannot use.
    labels = {name: value for name, value in content.get("labels", {}).items() if name in _TRACE_HEADERS}
    return {"task_id": content["task_id"], "task_name": QUEUE, "labels": labels, "args": [], "kwargs": {"job": job}}


def _trace_headers(incoming: AbstractIncomingMessage) -> dict[str, str]:
    """Return the trace that a producer without TaskIQ has put into the message's headers."""
    headers = ((name, incoming.headers.get(name)) for name in _TRACE_HEADERS)
    return {name: value for name, value in headers if isinstance(value, str)}


async def _settle(incoming: AbstractIncomingMessage, verdict: Verdict) -> None:
    """Acknowledge a message, hand it back, or make it a dead letter."""
    try:
        if verdict == "ack":
            await incoming.ack()
        else:
            await incoming.reject(requeue=verdict == "requeue")
    except Exception as error:
        # The connection is gone, so the broker delivers the message again; the job's state says that it has run.
        _logger.warning("A message could not be settled as %r: %s.", verdict, error or type(error).__name__)
