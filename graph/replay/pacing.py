"""Replays a recorded body in its recorded chunks and at its recorded pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, Protocol, TypedDict

import httpx
import httpx2

from graph.replay.clock import ReplayClock

__all__ = ["ClockPace", "Pace", "PacedBody", "RealPace", "Timing", "last_offset_seconds"]


class Timing(TypedDict):
    """When an answer arrived, in seconds since its request began. Stored beside each interaction."""

    first_byte_seconds: float
    """Until the headers arrived."""
    chunk_offsets: list[list[float]]
    """``[seconds, bytes]``: when so many bytes of the cassette's body had arrived."""


def last_offset_seconds(timing: Timing) -> float:
    """Return when the last byte of an answer arrived."""
    offsets = timing["chunk_offsets"]
    return offsets[-1][0] if offsets else timing["first_byte_seconds"]


class Pace(Protocol):
    """The pace of one answer, from the moment at which its request began."""

    async def reach(self, offset_seconds: float) -> None:
        """Wait until so many recorded seconds have passed since the request."""

    def reach_blocking(self, offset_seconds: float) -> None:
        """Do the same on the current thread."""


class RealPace:
    """Waits in real time.

    Args:
        speed: Recorded seconds per real second; None does not wait.
    """

    def __init__(self, speed: float | None) -> None:
        self._factor = 1 / speed if speed else 0.0
        self._began = time.monotonic()

    async def reach(self, offset_seconds: float) -> None:
        """Wait until so many recorded seconds have passed since the request."""
        if self._factor:  # yields to the loop even if the chunk is late, so that parallel streams alternate
            await asyncio.sleep(max(0.0, self._left(offset_seconds)))

    def reach_blocking(self, offset_seconds: float) -> None:
        """Do the same on the current thread."""
        if (left := self._left(offset_seconds)) > 0:
            time.sleep(left)

    def _left(self, offset_seconds: float) -> float:
        return self._began + offset_seconds * self._factor - time.monotonic()


class ClockPace:
    """Waits on a replay's clock.

    Args:
        clock: The clock; coroutines wait in its :class:`ReplayLoop`.
    """

    def __init__(self, clock: ReplayClock) -> None:
        self._clock = clock
        self._began, self._began_real = clock.seconds(), time.monotonic()

    async def reach(self, offset_seconds: float) -> None:
        """Wait until so many recorded seconds have passed since the request."""
        await self._clock.sleep_until(self._began + offset_seconds, not_before=self._real(offset_seconds))

    def reach_blocking(self, offset_seconds: float) -> None:
        """Do the same on the current thread."""
        time.sleep(max(0.0, self._real(offset_seconds) - time.monotonic()))
        self._clock.move_to(self._began + offset_seconds)

    def _real(self, offset_seconds: float) -> float:
        return self._began_real + self._clock.real_seconds(offset_seconds)


class PacedBody(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Streams a recorded body and sends no chunk before its time.

    Args:
        answer: The recorded response.
        pace: The pace of this answer.
    """

    def __init__(self, answer: Mapping[str, Any], pace: Pace) -> None:
        self._body: bytes = answer["body"]["string"]
        timing: Timing = answer.get("timing", Timing(first_byte_seconds=0.0, chunk_offsets=[]))
        self._pace = pace
        self.first_byte_seconds = timing["first_byte_seconds"]
        """When the headers are due, in recorded seconds since the request."""
        self._offsets = timing["chunk_offsets"]

    def _chunks(self) -> Iterator[tuple[float, bytes]]:
        begin, offset_seconds = 0, self.first_byte_seconds
        for offset_seconds, end in self._offsets:
            yield offset_seconds, self._body[begin : int(end)]
            begin = int(end)
        if begin < len(self._body):
            yield offset_seconds, self._body[begin:]

    def __iter__(self) -> Iterator[bytes]:
        for offset_seconds, chunk in self._chunks():
            self._pace.reach_blocking(offset_seconds)
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for offset_seconds, chunk in self._chunks():
            await self._pace.reach(offset_seconds)
            yield chunk

    def close(self) -> None:
        """Do nothing: no connection is open."""

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""
