"""Jobs: what the worker is asked, taken from one Redis stream by a group of workers."""

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
_BLOCK_MILLISECONDS = 200  # a stop waits for as long, since a job must not come when nobody listens any more
_MOST_DELIVERIES = 3  # a job that three workers did not survive is not given to a fourth
_MOST_PENDING = 1000
_SECONDS_TO_ANSWER = 3.0

_logger = logging.getLogger(__name__)


def connect(url: str) -> Redis:
    """Return a client for jobs and tokens; a question that was broken off is asked twice more within a second."""
    return Redis.from_url(
        url,
        protocol=2,  # the shapes of the answers differ between the protocols
        socket_timeout=_SECONDS_TO_ANSWER,
        socket_connect_timeout=_SECONDS_TO_ANSWER,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2),
    )


class Job(BaseModel):
    """One request, as JSON in the field ``job`` of an entry; numbers will do as identifiers."""

    model_config = ConfigDict(coerce_numbers_to_str=True, frozen=True, hide_input_in_errors=True)

    job_id: str = Field(min_length=1, max_length=200)
    message: str = ""
    image: str = Field(default="", pattern=r"^(data:image/|$)")
    """The data URL of a picture."""
    session_id: str | None = Field(default=None, min_length=1)
    """The conversation that it goes on with; None is one of its own."""
    user_id: str | None = None
    tenant_id: str | None = None

    @model_validator(mode="after")
    def _asks_something(self) -> Job:
        if not self.message and not self.image:
            raise ValueError("neither message nor image says what is asked")
        return self


@dataclass(frozen=True, slots=True)
class Entry:
    """A job as it was taken: its id in the stream, its JSON, and how many workers it was given to."""

    entry_id: bytes
    content: bytes
    deliveries: int = 1

    @property
    def exhausted(self) -> bool:
        """Whether too many workers died of it."""
        return self.deliveries > _MOST_DELIVERIES


class JobQueue:
    """The jobs of one worker in the group.

    A job is the group's until it is acknowledged. One whose worker has not said for ``reclaim_seconds`` that it is at
    it goes to another worker, so a job runs at least once, and twice where its worker died or lost Redis.

    Args:
        redis: A client that decodes nothing, since a job need not be UTF-8.
        consumer: The worker's name in the group.
        reclaim_seconds: After how long a job counts as abandoned.
    """

    def __init__(self, redis: Redis, *, consumer: str, reclaim_seconds: float) -> None:
        self._redis = redis
        self._consumer = consumer
        self._reclaim_milliseconds = int(reclaim_seconds * 1000)
        self._reclaim_at = 0.0
        self._joined = False

    async def take(self) -> Entry | None:
        """Return the next job, an abandoned one first; None if a moment brought none."""
        try:
            await self._join()
            return await self._reclaimed() or await self._new()
        except ResponseError as error:
            if not str(error).startswith("NOGROUP"):
                raise
            self._joined = False  # Redis came back without its data
            return None

    async def keep(self, entry_ids: Collection[bytes]) -> None:
        """Say that these jobs are still being worked at, but for those that another worker has taken by now."""
        kept: list[Any] = [entry_id for entry_id in await self._pending() if entry_id in entry_ids]
        if kept:
            await self._redis.xclaim(JOBS, GROUP, self._consumer, 0, kept, justid=True)

    async def hand_back(self, entry_id: bytes) -> None:
        """Let another worker take this job at once, as if it had never been given to this one."""
        await self._redis.xclaim(
            JOBS, GROUP, self._consumer, 0, [entry_id], idle=self._reclaim_milliseconds, retrycount=0, justid=True
        )

    async def acknowledge(self, entry_id: bytes) -> None:
        """Take a job that is done off the stream."""
        async with self._redis.pipeline(transaction=True) as pipeline:
            pipeline.xack(JOBS, GROUP, entry_id)
            pipeline.xdel(JOBS, entry_id)
            await pipeline.execute()

    async def leave(self) -> None:
        """Leave the group, unless a job would be lost with the name that it is pending under."""
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
        _logger.warning("The job in entry %s is taken over from a worker that left it.", entry_id.decode())
        return Entry(entry_id, _content(fields), int(pending["times_delivered"]))

    async def _pending(self) -> list[bytes]:
        pending: list[Any] = await self._redis.xpending_range(
            JOBS, GROUP, min="-", max="+", count=_MOST_PENDING, consumername=self._consumer
        )
        return [one["message_id"] for one in pending]


def _content(fields: dict[Any, Any]) -> bytes:
    content = fields.get(b"job", b"")
    return content if isinstance(content, bytes) else b""
