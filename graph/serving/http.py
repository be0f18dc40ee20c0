"""HTTP servers with bounds: on connections, on their idle time, and on the time of a request's headers."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from typing import Any

import h11
import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["BoundedProtocol", "HttpServer", "bind"]

_HEADER_SECONDS = 10.0
_KEEP_ALIVE_SECONDS = 15
_SHUTDOWN_SECONDS = 5

_logger = logging.getLogger(__name__)


class BoundedProtocol(H11Protocol):
    """uvicorn's HTTP protocol, which closes connections that send no request, and those beyond a bound.

    Uses uvicorn's protocol class as its ``http`` setting allows. Tested with uvicorn 0.54.
    """

    max_connections = 1000
    header_seconds = _HEADER_SECONDS

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start the time of the first request's headers, or refuse the connection."""
        self._deadline: asyncio.TimerHandle | None = None
        self._refused = len(self.server_state.connections) >= self.max_connections
        if self._refused:
            transport.abort()
            return
        super().connection_made(transport)
        self._expect_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the time."""
        if not self._refused:
            self._forget_deadline()
            super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Start the time with the first byte of a request's headers, and stop it with the last one."""
        if self._refused:
            return
        super().data_received(data)
        if self.conn.their_state is not h11.IDLE:
            self._forget_deadline()
        elif self._deadline is None and self.conn.trailing_data[0]:
            self._expect_headers()

    def _expect_headers(self) -> None:
        self._deadline = asyncio.get_running_loop().call_later(self.header_seconds, self._close_without_request)

    def _forget_deadline(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _close_without_request(self) -> None:
        self._deadline = None
        if self.conn.their_state is h11.IDLE and not self.transport.is_closing():
            self.transport.close()


class _Server(uvicorn.Server):
    """A server that leaves the process's signals alone."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing: the process handles its signals itself."""
        yield


class HttpServer:
    """Serves an ASGI app on the running loop.

    Args:
        app: The app.
        listening: A bound socket.
        max_connections: The most open connections; more are closed at once.
    """

    def __init__(self, app: Callable[..., Any], listening: socket.socket, *, max_connections: int = 1000) -> None:
        protocol = type("Protocol", (BoundedProtocol,), {"max_connections": max_connections})
        config = uvicorn.Config(
            app,
            http=protocol,
            ws="none",
            lifespan="off",
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_SECONDS,
            timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
            backlog=128,
        )
        self._server = _Server(config)
        self._socket = listening

    @property
    def port(self) -> int:
        """The port."""
        port: int = self._socket.getsockname()[1]
        return port

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Serve during the block; then let requests end, for some seconds."""
        task = asyncio.create_task(self._server.serve(sockets=[self._socket]))
        try:
            while not (self._server.started or task.done()):
                await asyncio.sleep(0.01)
            if task.done():
                task.result()
            yield
        finally:
            self._server.should_exit = True
            with suppress(asyncio.CancelledError):
                await task


def bind(host: str, port: int) -> socket.socket:
    """Return a socket that is bound to an address; port 0 picks a free one.

    Raises:
        OSError: If it cannot be bound.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    return socket.create_server((host, port), family=family, backlog=128)
