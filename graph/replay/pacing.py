"""Replays a recorded body in its recorded chunks and at its recorded pace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any, TypedDict

import httpx
import httpx2

__all__ = ["PacedBody", "Timing", "last_offset_seconds"]


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


class PacedBody(httpx.SyncByteStream, httpx.AsyncByteStream, httpx2.SyncByteStream, httpx2.AsyncByteStream):
    """Streams a recorded body and sends no chunk before its time.

    Args:
        answer: The recorded response.
        began: Monotonic time at which the request began.
        pace: Factor on the recorded times: 1 is real time, 0 does not wait.
    """

    def __init__(self, answer: Mapping[str, Any], began: float, pace: float) -> None:
        self._body: bytes = answer["body"]["string"]
        self._began, self._pace = began, pace
        timing: Timing = answer.get("timing", Timing(first_byte_seconds=0.0, chunk_offsets=[]))
        self.headers_due = began + timing["first_byte_seconds"] * pace
        """Monotonic time at which the headers are due."""
        self._offsets = timing["chunk_offsets"]

    def _chunks(self) -> Iterator[tuple[float, bytes]]:
        begin = 0
        for offset_seconds, end in self._offsets:
            yield self._began + offset_seconds * self._pace, self._body[begin : int(end)]
            begin = int(end)
        if begin < len(self._body):
            yield 0.0, self._body[begin:]

    def __iter__(self) -> Iterator[bytes]:
        for due, chunk in self._chunks():
            if (wait := due - time.monotonic()) > 0:
                time.sleep(wait)
            yield chunk

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for due, chunk in self._chunks():
            if self._pace:  # yields to the loop even if the chunk is late, so that parallel streams alternate
                await asyncio.sleep(max(0.0, due - time.monotonic()))
            yield chunk

    def close(self) -> None:
        """Do nothing: no connection is open."""

    async def aclose(self) -> None:
        """Do nothing: no connection is open."""
