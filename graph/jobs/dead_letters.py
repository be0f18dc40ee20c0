"""Lists the dead letters of the queue, and puts them back."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import aio_pika
from aio_pika.abc import AbstractChannel, AbstractIncomingMessage
from pydantic import ValidationError

from graph.jobs.job import Job, readable_job_id
from graph.jobs.settings import DEAD_QUEUE, EXCHANGE, QUEUE
from graph.streams import JobNotFoundError, JobStore

__all__ = ["DeadLetter", "list_dead_letters", "replay_dead_letters"]

_OWNER = "dead letters"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A message in the dead-letter queue: its job's id if it can be read, RabbitMQ's reason, and its size in bytes."""

    job_id: str | None
    reason: str
    size_bytes: int


async def list_dead_letters(amqp_url: str) -> list[DeadLetter]:
    """Return all dead letters, the oldest first. They stay in the queue."""
    async with _messages(amqp_url) as (_, messages):
        return [_describe(message) for message in messages]


async def replay_dead_letters(amqp_url: str, store: JobStore, job_ids: Collection[str] | None = None) -> list[str]:
    """Put dead letters back into the queue and let their jobs run again.

    A job's waiting begins anew, so that none is too old for its worker.

    Args:
        amqp_url: RabbitMQ.
        store: Forgets the crashes of these jobs.
        job_ids: Only these jobs; None puts back every letter whose job can be read.

    Returns:
        The jobs that were put back.
    """
    replayed = []
    async with _messages(amqp_url) as (channel, messages):
        exchange = await channel.get_exchange(EXCHANGE)
        for message in messages:
            job_id = _describe(message).job_id
            if job_id is None or (job_ids is not None and job_id not in job_ids):
                continue
            accepted_at = datetime.now(UTC)
            content = _accepted_again(message.body, accepted_at)
            try:
                await store.reopen(job_id, accepted_at=accepted_at)
            except JobNotFoundError:
                await _create_again(store, content["kwargs"]["job"])
            await exchange.publish(
                aio_pika.Message(json.dumps(content).encode(), delivery_mode=aio_pika.DeliveryMode.PERSISTENT),
                routing_key=QUEUE,
            )
            await message.ack()
            replayed.append(job_id)
    return replayed


@asynccontextmanager
async def _messages(amqp_url: str) -> AsyncIterator[tuple[AbstractChannel, list[AbstractIncomingMessage]]]:
    """Yield all messages of the dead-letter queue. Those without an acknowledgement go back when the block ends."""
    async with await aio_pika.connect(amqp_url) as connection:
        channel = await connection.channel()
        queue = await channel.declare_queue(DEAD_QUEUE, passive=True)
        messages = []
        while (message := await queue.get(fail=False)) is not None:
            messages.append(message)
        yield channel, messages


async def _create_again(store: JobStore, content: Mapping[str, Any]) -> None:
    """Create an expired job as one that has run, so that its next run goes on at its checkpoint."""
    with suppress(ValidationError):  # it is no job, and becomes a dead letter again
        job = Job.model_validate(content).described()
        await store.restore(job, 1, owner=_OWNER, lease_seconds=0)
        await store.hand_back(job.job_id, 1, owner=_OWNER)


def _accepted_again(body: bytes, accepted_at: datetime) -> dict[str, Any]:
    """Return a message whose job's id can be read, with the job accepted now."""
    content: dict[str, Any] = json.loads(body)
    content["kwargs"]["job"]["accepted_at"] = accepted_at.isoformat()
    return content


def _describe(message: AbstractIncomingMessage) -> DeadLetter:
    try:
        kwargs = json.loads(message.body)["kwargs"]
        job_id = readable_job_id(kwargs["job"])
    except (ValueError, KeyError, TypeError):
        job_id = None
    return DeadLetter(job_id, str(message.headers.get("x-first-death-reason", "")), len(message.body))
