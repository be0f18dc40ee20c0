"""Bounds the size of a request's body and the time that it may take to arrive."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.api.problems import problem_response

__all__ = ["BodyLimit"]

_BODY_SECONDS = 30.0
# A client that is still sending would see a reset connection instead of the answer, so the rest is read and dropped.
_DISCARD_SECONDS = 5.0
_DISCARD_BYTES = 100_000_000


class BodyLimit:
    """Reads the body before the app does, and answers 413 or 408 instead of the app.

    Args:
        app: The app.
        max_bytes: The most bytes of a body.
        max_seconds: How long the whole body may take to arrive.
    """

    def __init__(self, app: ASGIApp, *, max_bytes: int, max_seconds: float = _BODY_SECONDS) -> None:
        self._app, self._max_bytes, self._max_seconds = app, max_bytes, max_seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        length = dict(scope["headers"]).get(b"content-length", b"")
        if length.isdigit() and int(length) > self._max_bytes:
            await self._refuse(413, scope, receive, send)
            return
        try:
            async with asyncio.timeout(self._max_seconds):
                body = await self._read(receive)
        except TimeoutError:
            await self._refuse(408, scope, receive, send)
            return
        if body is None:
            await self._refuse(413, scope, receive, send)
            return
        messages: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return messages.pop() if messages else await receive()

        await self._app(scope, replay, send)

    async def _read(self, receive: Receive) -> bytes | None:
        """Return the body; None if it is too large."""
        parts, size = [], 0
        while True:
            message = await receive()
            part = message.get("body", b"")
            size += len(part)
            if size > self._max_bytes:
                return None
            parts.append(part)
            if not message.get("more_body", False):  # a disconnect ends it too
                return b"".join(parts)

    async def _refuse(self, status: int, scope: Scope, receive: Receive, send: Send) -> None:
        with suppress(TimeoutError):
            async with asyncio.timeout(_DISCARD_SECONDS):
                await _discard(receive)
        detail = {
            408: f"The body did not arrive within {self._max_seconds:g} s; send it again.",
            413: f"The body is larger than {self._max_bytes:,} bytes; scale the image down.",
        }[status]
        await problem_response(status, detail, headers={"Connection": "close"})(scope, receive, send)


async def _discard(receive: Receive) -> None:
    size = 0
    while size < _DISCARD_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
