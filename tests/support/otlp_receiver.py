"""A server on the loopback that keeps its requests: an OTLP/HTTP receiver and a stand-in for LangSmith."""

from __future__ import annotations

import gzip
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span as ProtoSpan

__all__ = ["Received", "Receiver", "Span", "receiving"]


@dataclass(frozen=True, slots=True)
class Received:
    """One request with its decompressed body."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    def holds(self, secret: str) -> bool:
        return secret in f"{self.path}{self.headers}" or secret.encode() in self.body


@dataclass(frozen=True, slots=True)
class Span:
    """One exported span; ``parent_id`` is "" for a root. ``kind`` is OpenTelemetry's, without its prefix."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    attributes: dict[str, Any]
    start: int = 0  # nanoseconds
    kind: str = ""
    service: str = ""


@dataclass
class Receiver:
    """The requests that arrived at ``url``, in order."""

    url: str
    requests: list[Received] = field(default_factory=list)

    @property
    def exports(self) -> list[Received]:
        return [request for request in self.requests if request.path.endswith("/v1/traces")]

    @property
    def spans(self) -> dict[str, Span]:
        """The exported spans by name."""
        return {span.name: span for span in self.all_spans}

    @property
    def all_spans(self) -> list[Span]:
        """The exported spans in the order they were sent."""
        return [
            Span(
                name=span.name,
                trace_id=span.trace_id.hex(),
                span_id=span.span_id.hex(),
                parent_id=span.parent_span_id.hex(),
                attributes=_attributes(span),
                start=span.start_time_unix_nano,
                kind=ProtoSpan.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                service=_attributes(resource.resource).get("service.name", ""),
            )
            for request in self.exports
            for resource in ExportTraceServiceRequest.FromString(request.body).resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def runs(self) -> list[Received]:
        """The requests that send runs to LangSmith."""
        return [request for request in self.requests if request.method != "GET" and "/runs" in request.path]


def _attributes(of: Any) -> dict[str, Any]:
    return {pair.key: _plain(pair.value) for pair in of.attributes}


def _plain(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_plain(item) for item in value.array_value.values]
    return getattr(value, kind)


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def _keep(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Content-Encoding") == "gzip":
            body = gzip.decompress(body)
        headers = {name.lower(): value for name, value in self.headers.items()}
        self.server.receiver.requests.append(Received(self.command, self.path, headers, body))
        # The answer to an export is an empty message, to LangSmith's client an empty object.
        answer = b"" if self.path.endswith("/v1/traces") else b"{}"
        self.send_response(200 if self.command == "GET" or not answer else 202)
        self.send_header("Content-Type", "application/json" if answer else "application/x-protobuf")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    do_GET = do_POST = do_PATCH = _keep  # noqa: N815 # the base class's names

    def log_message(self, *args: Any) -> None: ...


class _Server(ThreadingHTTPServer):
    # As daemons, the threads of kept-alive connections would outlive the test with their sockets.
    daemon_threads = False
    block_on_close = True
    receiver: Receiver


@contextmanager
def receiving() -> Iterator[Receiver]:
    """Serve until the block ends."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.receiver = Receiver(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server.receiver
        finally:
            server.shutdown()
            thread.join()
