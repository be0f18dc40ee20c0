"""Serves the worker's metrics and health checks over HTTP, for Prometheus and the kubelet."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any, TypeAlias
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import CollectorRegistry, make_wsgi_app

__all__ = ["serve_health"]

Check: TypeAlias = Callable[[], str]


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True  # an idle connection of a scraper must not delay the shutdown
    allow_reuse_address = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name in http.server
        """Log nothing: probes arrive every few seconds."""


@contextmanager
def serve_health(port: int, registry: CollectorRegistry, *, alive: Check, ready: Check) -> Iterator[int]:
    """Serve ``/metrics``, ``/healthz`` and ``/readyz`` on all interfaces during the block, and yield the port.

    Args:
        port: The port; 0 picks a free one.
        registry: The registry that ``/metrics`` exposes.
        alive: Returns the problem, ``""`` if there is none. Called on the server's threads.
        ready: The same, for ``/readyz``.

    Raises:
        OSError: If the port cannot be served.
    """
    metrics = make_wsgi_app(registry)
    checks = {"/healthz": alive, "/readyz": ready}

    def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ["PATH_INFO"]
        if path == "/metrics":
            exposition: Iterable[bytes] = metrics(environ, start_response)
            return exposition
        check = checks.get(path)
        problem = "not found" if check is None else check()
        status = "404 Not Found" if check is None else "503 Service Unavailable" if problem else "200 OK"
        start_response(status, [("Content-Type", "text/plain; charset=utf-8")])
        return [f"{problem or 'ok'}\n".encode()]

    # Probes and scrapes come from outside the pod.
    server = make_server("0.0.0.0", port, answer, _Server, _QuietHandler)  # noqa: S104
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
