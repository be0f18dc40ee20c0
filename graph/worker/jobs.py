"""The job queue: one Redis stream, read by a consumer group of workers."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.exceptions import ResponseError

__all__ = ["GROUP", "JOBS", "Entry", "Job", "JobQueue", "connect"]

JOBS = "eco2:jobs"
GROUP = "eco2-chat-worker"
_BLOCK_MILLISECONDS = 200  # a stopping worker waits this long, so that no job is delivered to it afterwards
_MAX_DELIVERIES = 3  # after three crashed workers, no fourth one runs the job
_MAX_PENDING = 1000
_TIMEOUT_SECONDS = 3.0

_logger = logging.getLogger(__name__)


def connect(url: str) -> Redis:
    """Return a client for jobs and tokens. It retries a failed command twice within a second."""
    return Redis.from_url(
        url,
        protocol=2,  # replies differ between the protocols
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2),
    )


class Job(BaseModel):
    """One request, stored as JSON in the field ``job`` of an entry. Identifiers may be numbers."""

    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True, hide_input_in_errors=True)

    job_id: str = Field(min_length=1, max_length=200)
    message: str = ""
    image: str = Field(default="", pattern=r"^(data:image/|$)")
    """The data URL of an image."""
    session_id: str | None = Field(default=None, min_length=1)
    """The conversation to continue; None starts a new one."""
    user_id: str | None = None
    tenant_id: str | None = None

    @model_validator(mode="after")
    def _has_content(self) -> Job:
        if not self.message and not self.image:
            raise ValueError("message and image are both empty")
        return self


@dataclass(frozen=True, slots=True)
class Entry:
    """A delivered job: its entry id, its JSON, and how often it was delivered."""

    entry_id: bytes
    content: bytes
    deliveries: int = 1

    @property
    def exhausted(self) -> bool:
        """Whether too many workers crashed while running it."""
        return self.deliveries > _MAX_DELIVERIES


class JobQueue:
    """One worker's view of the job queue.

    A job stays pending until it is acknowledged. A job whose worker sent no heartbeat for ``reclaim_seconds`` is
    reassigned. So a job runs at least once, and again if its worker crashed or lost Redis.

    Args:
        redis: A client without decoding, since a job may not be UTF-8.
        consumer: The worker's name in the group.
        reclaim_seconds: How long a job may go without a heartbeat.
    """

    def __init__(self, redis: Redis, *, consumer: str, reclaim_seconds: float) -> None:
        self._redis = redis
        self._consumer = consumer
        self._reclaim_milliseconds = int(reclaim_seconds * 1000)
        self._reclaim_at = 0.0
        self._joined = False

    async def next_job(self) -> Entry | None:
        """Return the next job, abandoned jobs first; None if none arrives within a short wait."""
        try:
            await self._join()
            return await self._reclaimed() or await self._new()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._joined = False  # Redis restarted without its data
            return None

    async def heartbeat(self, entry_ids: Collection[bytes]) -> None:
        """Send a heartbeat for these jobs, except for those reassigned to another worker."""
        still_pending: list[Any] = [entry_id for entry_id in await self._pending() if entry_id in entry_ids]
        if still_pending:
            await self._redis.xclaim(JOBS, GROUP, self._consumer, 0, still_pending, justid=True)

    async def hand_back(self, entry_id: bytes) -> None:
        """Return this job to the queue at once, without counting the delivery."""
        await self._redis.xclaim(
            JOBS, GROUP, self._consumer, 0, [entry_id], idle=self._reclaim_milliseconds, retrycount=0, justid=True
        )

    async def acknowledge(self, entry_id: bytes) -> None:
        """Remove a finished job from the stream."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(JOBS, GROUP, entry_id)
            pipeline.xdel(JOBS, entry_id)
            await pipeline.execute()

    async def leave(self) -> None:
        """Leave the group, unless jobs are still pending for this worker: they would be lost."""
        if not await self._pending():
            await self._redis.xgroup_delconsumer(JOBS, GROUP, self._consumer)

    async def _join(self) -> None:
        if self._joined:
            return
        try:
            await self._redis.xgroup_create(JOBS, GROUP, id="0", mkstream=True)
        except ResponseError as error:
            if not str(error).startswith("BUSYGROUP"):
                raise
        self._joined = True

    async def _new(self) -> Entry | None:
        answer: Any = await self._redis.xreadgroup(
            GROUP, self._consumer, {JOBS: ">"}, count=1, block=_BLOCK_MILLISECONDS
        )
        for _, entries in answer or ():
            for entry_id, fields in entries:
                return Entry(entry_id, _content(fields))
        return None

    async def _reclaimed(self) -> Entry | None:
        if time.monotonic() < self._reclaim_at:
            return None
        answer: list[Any] = await self._redis.xautoclaim(
            JOBS, GROUP, self._consumer, self._reclaim_milliseconds, count=1
        )
        if not (entries := answer[1]):
            self._reclaim_at = time.monotonic() + self._reclaim_milliseconds / 4000
            return None
        ((entry_id, fields),) = entries
        (pending,) = await self._redis.xpending_range(JOBS, GROUP, min=entry_id, max=entry_id, count=1)
        _logger.warning("The job in entry %s is reassigned: its worker sent no heartbeat.", entry_id.decode())
        return Entry(entry_id, _content(fields), int(pending["times_delivered"]))

    async def _pending(self) -> list[bytes]:
        pending: list[Any] = await self._redis.xpending_range(
            JOBS, GROUP, min="-", max="+", count=_MAX_PENDING, consumername=self._consumer
        )
        return [one["message_id"] for one in pending]


def _content(fields: dict[Any, Any]) -> bytes:
    content = fields.get(b"job", b"")
    return content if isinstance(content, bytes) else b""
