"""Serves metrics and health checks on a port and a thread of their own, for Prometheus and the kubelet."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from typing import TypeAlias

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from graph.serving.http import HttpServer

__all__ = ["serve_ops"]

Check: TypeAlias = Callable[[], str]

_MAX_CONNECTIONS = 100


@contextmanager
def serve_ops(listening: socket.socket, registry: CollectorRegistry, *, alive: Check, ready: Check) -> Iterator[int]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz`` during the block, and yield the port.

    The thread of its own answers even if the application's loop is blocked, and says so.

    Args:
        listening: A bound socket.
        registry: The registry that ``/metrics`` exposes.
        alive: Returns the problem, ``""`` if there is none. Called on other threads.
        ready: The same, for ``/readyz``.
    """
    started: Future[asyncio.Event] = Future()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        stop = asyncio.Event()
        server = HttpServer(_app(registry, alive, ready), listening, max_connections=_MAX_CONNECTIONS)
        async with server.running():
            started.set_result(stop)
            await stop.wait()

    def run() -> None:
        try:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(serve())
        except BaseException as error:
            if not started.done():
                started.set_exception(error)
            raise

    thread = threading.Thread(target=run, name="eco2-ops", daemon=True)
    thread.start()
    stop = started.result()
    try:
        yield listening.getsockname()[1]
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


def _app(registry: CollectorRegistry, alive: Check, ready: Check) -> Starlette:
    def metrics(request: Request) -> Response:  # a plain function: Starlette runs it on a worker thread
        encoder, content_type = choose_encoder(request.headers.get("accept", ""))
        return Response(encoder(registry), headers={"Content-Type": content_type})

    def check_with(check: Check) -> Callable[[Request], Response]:
        def answer(_: Request) -> Response:
            problem = check()
            return PlainTextResponse(f"{problem or 'ok'}\n", 503 if problem else 200)

        return answer

    routes = [
        Route("/metrics", metrics),
        Route("/healthz", check_with(alive)),
        Route("/readyz", check_with(ready)),
    ]
    return Starlette(routes=routes)
