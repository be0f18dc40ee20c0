"""A job's events as server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from typing import Any

from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.types import Receive, Scope, Send

from graph.api.limits import TenantLimits
from graph.streams import JobStore, OnRecovery, Position, StreamEvent, follow

__all__ = ["event_stream"]

_SEND_TIMEOUT_SECONDS = 30.0  # a client that reads nothing for that long is dropped
_RETRY_MILLISECONDS = 1000


def event_stream(
    store: JobStore,
    job_id: str,
    *,
    tenant_id: str,
    after: Position | None,
    limits: TenantLimits,
    stopping: asyncio.Event,
    on_recovery: OnRecovery,
    heartbeat_seconds: float,
) -> EventSourceResponse:
    """Return the stream of a job's events, with heartbeat comments, until its last event or the server's end.

    The response is a problem with status 429 if the tenant has too many streams open when it begins.
    """

    async def events() -> AsyncIterator[ServerSentEvent]:
        following = follow(store, job_id, after=after, on_recovery=on_recovery)
        async for event in _until(following, stopping):
            yield ServerSentEvent(
                event.to_json_with_run(), event=event.kind, id=str(event.position), retry=_RETRY_MILLISECONDS
            )

    return _CountedResponse(
        events(),
        counted=limits.stream(tenant_id),
        ping=heartbeat_seconds,
        send_timeout=_SEND_TIMEOUT_SECONDS,
        sep="\n",
    )


class _CountedResponse(EventSourceResponse):
    """A stream that counts as open from before its first byte until it ends, however it ends.

    Args:
        counted: Held around the response. What it raises on entry is answered in place of the stream.
    """

    def __init__(
        self, events: AsyncIterator[ServerSentEvent], *, counted: AbstractContextManager[None], **options: Any
    ) -> None:
        super().__init__(events, **options)
        self._counted = counted

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer the request."""
        with self._counted:
            await super().__call__(scope, receive, send)


async def _until(events: AsyncIterator[StreamEvent], stopping: asyncio.Event) -> AsyncIterator[StreamEvent]:
    """Yield events until the server stops: the client connects again, to another process."""
    stopped = asyncio.create_task(stopping.wait())
    coming: asyncio.Future[StreamEvent] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(anext(events))
            await asyncio.wait({coming, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not coming.done():
                coming.cancel()
                await asyncio.gather(coming, return_exceptions=True)
                return
            try:
                yield coming.result()
            except StopAsyncIteration:
                return
    finally:
        stopped.cancel()
        if coming is not None:  # a reader that has left would hold its connection to the store until the next event
            coming.cancel()
