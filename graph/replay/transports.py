"""Patches the transports of httpx and httpx2, so that a handler answers instead of a server."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import ModuleType
from typing import Any, Protocol
from unittest import mock

import httpx
import httpx2
from vcr.request import Request

__all__ = ["Handler", "recorded_request", "restore_body", "transports_handled_by"]


class Handler(Protocol):
    """Answers requests. ``send`` is the transport's own method, for requests that pass through."""

    def handle(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Replace ``handle_request`` of a library's transport."""

    async def handle_async(self, library: ModuleType, transport: Any, request: Any, send: Callable[..., Any]) -> Any:
        """Replace ``handle_async_request`` of a library's transport."""


@contextmanager
def transports_handled_by(handler: Handler) -> Iterator[None]:
    """Send every request of both libraries to the handler during the block.

    google-genai prefers aiohttp where it is installed, and has no setting against it; it uses httpx in this block.
    Tested with google-genai 3.6.
    """
    with ExitStack() as stack:
        stack.enter_context(mock.patch("google.genai._api_client.has_aiohttp", new=False))
        for library in (httpx, httpx2):
            for transport, method, handle in (
                (library.HTTPTransport, "handle_request", handler.handle),
                (library.AsyncHTTPTransport, "handle_async_request", handler.handle_async),
            ):
                stack.enter_context(mock.patch.object(transport, method, _method(library, transport, method, handle)))
        yield


def recorded_request(request: Any, body: bytes) -> Request:
    """Return a request of httpx or httpx2 as vcrpy's."""
    return Request(request.method, str(request.url), body, dict(request.headers))


def restore_body(library: ModuleType, request: Any, body: bytes) -> Any:
    """Return the request with its body again, after the body was read."""
    request.stream = library.ByteStream(body)
    return request


def _method(library: ModuleType, transport: type, method: str, handle: Callable[..., Any]) -> Callable[..., Any]:
    send = getattr(transport, method)
    return lambda self, request: handle(library, self, request, send)
