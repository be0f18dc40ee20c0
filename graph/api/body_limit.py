"""Bounds what bodies may do: who sends one, its size, its time, and how many large ones are in memory at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack, suppress

from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from graph.api.problems import ProblemError, problem_response

__all__ = ["BodyLimit"]

_BODY_SECONDS = 30.0
_SMALL_BYTES = 64_000  # a question without an image
_MAX_LARGE = 8
# A client that is still sending would see a reset connection instead of the answer, so the rest is read and dropped.
_DISCARD_SECONDS = 5.0
_DISCARD_BYTES = 100_000_000


class BodyLimit:
    """Reads the body before the app does, and answers with a problem instead of the app.

    Nothing of a body is read before the headers' credential was checked. A large body counts from its first byte until
    the app has answered; beyond the bound the next one waits.

    Args:
        app: The app.
        authenticate: Raises ProblemError unless the headers have a valid credential.
        max_bytes: The most bytes of a body.
        max_large: The most bodies at once that have more than 64 kB, or an unknown length.
        max_seconds: How long a body may wait for its turn, and how long it may take to arrive.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        authenticate: Callable[[Request], Awaitable[object]],
        max_bytes: int,
        max_large: int = _MAX_LARGE,
        max_seconds: float = _BODY_SECONDS,
    ) -> None:
        self._app, self._authenticate = app, authenticate
        self._max_bytes, self._max_seconds = max_bytes, max_seconds
        self._turns = asyncio.Semaphore(max_large)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD", "DELETE", "OPTIONS"}:
            await self._app(scope, receive, send)
            return
        with ExitStack() as held:
            try:
                await self._authenticate(Request(scope))
                await self._take_turn(dict(scope["headers"]), held)
                messages: list[Message] = [{"type": "http.request", "body": await self._read(receive)}]
            except ProblemError as problem:
                held.close()
                await _refuse(problem, scope, receive, send)
                return

            async def replay() -> Message:
                return messages.pop() if messages else await receive()

            await self._app(scope, replay, send)

    async def _take_turn(self, headers: Mapping[bytes, bytes], held: ExitStack) -> None:
        """Wait until the body may come, and hold its turn."""
        length = headers.get(b"content-length", b"")
        size = int(length) if length.isdigit() else 0
        if size > self._max_bytes:
            raise self._too_large()
        if size <= _SMALL_BYTES and b"transfer-encoding" not in headers:
            return
        try:
            async with asyncio.timeout(self._max_seconds):
                await self._turns.acquire()
        except TimeoutError as error:
            detail = "Too many large bodies arrive at once; send it again."
            raise ProblemError(503, detail, headers={"Retry-After": "5"}) from error
        held.callback(self._turns.release)

    async def _read(self, receive: Receive) -> bytes:
        parts, size = [], 0
        try:
            async with asyncio.timeout(self._max_seconds):
                while True:
                    message = await receive()
                    part = message.get("body", b"")
                    size += len(part)
                    if size > self._max_bytes:
                        raise self._too_large()
                    parts.append(part)
                    if not message.get("more_body", False):  # a disconnect ends it too
                        return b"".join(parts)
        except TimeoutError as error:
            detail = f"The body did not arrive within {self._max_seconds:g} s; send it again."
            raise ProblemError(408, detail) from error

    def _too_large(self) -> ProblemError:
        return ProblemError(413, f"The body is larger than {self._max_bytes:,} bytes; scale the image down.")


async def _refuse(problem: ProblemError, scope: Scope, receive: Receive, send: Send) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            await _discard(receive)
    headers = {**(problem.headers or {}), "Connection": "close"}
    await problem_response(problem.status, problem.detail, headers=headers)(scope, receive, send)


async def _discard(receive: Receive) -> None:
    size = 0
    while size < _DISCARD_BYTES:
        message = await receive()
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return
