"""Limits of each tenant: questions in a minute, and open streams."""

from __future__ import annotations

import asyncio
import math
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from limits import RateLimitItemPerMinute
from limits.aio.storage import MemoryStorage, RedisStorage
from limits.aio.strategies import SlidingWindowCounterRateLimiter
from redis.asyncio import BlockingConnectionPool

from graph.api.problems import ProblemError
from graph.streams import StoreUnavailableError

__all__ = ["TenantLimits"]

_MAX_CONNECTIONS = 50
_TIMEOUT_SECONDS = 5.0


class TenantLimits:
    """Counts what each tenant does.

    Args:
        redis_url: Counts questions of all processes there; ``""`` counts those of this process.
        requests_per_minute: The most questions in a minute.
        max_streams: The most open streams in this process.
    """

    def __init__(self, *, redis_url: str = "", requests_per_minute: int, max_streams: int) -> None:
        self._pool = _redis_pool(redis_url) if redis_url else None
        storage = MemoryStorage() if self._pool is None else _redis_storage(redis_url, self._pool)
        self._limiter = SlidingWindowCounterRateLimiter(storage)
        self._rate = RateLimitItemPerMinute(requests_per_minute)
        self._max_streams = max_streams
        self._streams: Counter[str] = Counter()

    async def close(self) -> None:
        """Close the connections."""
        if self._pool is not None:
            await self._pool.disconnect()

    async def count_question(self, tenant_id: str) -> None:
        """Count one question.

        Raises:
            ProblemError: 429 if the tenant has asked too many.
        """
        try:
            if await self._limiter.hit(self._rate, "chat", tenant_id):
                return
            window = await self._limiter.get_window_stats(self._rate, "chat", tenant_id)
        except Exception as error:  # what the storage's client raises
            raise StoreUnavailableError(f"{type(error).__name__}: {error}") from error
        seconds = max(1, math.ceil(window.reset_time - time.time()))
        raise ProblemError(
            429,
            f"More than {self._rate.amount} questions came in a minute; wait {seconds} s.",
            headers={"Retry-After": str(seconds)},
        )

    @contextmanager
    def stream(self, tenant_id: str) -> Iterator[None]:
        """Count an open stream during the block.

        Raises:
            ProblemError: 429 if the tenant has too many open.
        """
        if self._streams[tenant_id] >= self._max_streams:
            raise ProblemError(
                429,
                f"{self._max_streams} streams are open, wanted fewer; close some.",
                headers={"Retry-After": "5"},
            )
        self._streams[tenant_id] += 1
        try:
            yield
        finally:
            self._streams[tenant_id] -= 1
            if not self._streams[tenant_id]:
                del self._streams[tenant_id]

    async def wait_for_streams(self, seconds: float) -> None:
        """Wait until no stream is open, at most so long."""
        until = time.monotonic() + seconds
        while self._streams and time.monotonic() < until:
            await asyncio.sleep(0.05)


def _redis_pool(url: str) -> BlockingConnectionPool:
    """Return connections that a question waits for; the client's own pool refuses the 101st of a burst."""
    return BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=_TIMEOUT_SECONDS,  # for a free connection
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
    )


def _redis_storage(url: str, pool: BlockingConnectionPool) -> RedisStorage:
    options: dict[str, Any] = {"connection_pool": pool}  # typed as text by the library, and handed to redis-py
    return RedisStorage(f"async+{url}", implementation="redispy", **options)
