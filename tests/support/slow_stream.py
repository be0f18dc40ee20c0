"""A chat API whose first token and last event come after known delays."""

from __future__ import annotations

import json
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.loopback import Loopback

__all__ = ["SlowStream"]


class SlowStream(Loopback):
    """Serves on a free port during the block.

    Args:
        first_token_seconds: From the question to the first token.
        pause_seconds: From there to the rest of the answer.
        last_event: The kind of the last event.
    """

    def __init__(self, *, first_token_seconds: float, pause_seconds: float, last_event: str = "done") -> None:
        self.first_token_seconds, self.pause_seconds = first_token_seconds, pause_seconds
        self.last_event = last_event
        self.questions: list[str] = []

    def _open(self) -> ThreadingHTTPServer:
        return _Server(self)


class _Server(ThreadingHTTPServer):
    def __init__(self, stream: SlowStream) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stream = stream


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def log_message(self, *args: Any) -> None: ...

    def do_POST(self) -> None:
        asked = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.server.stream.questions.append(asked["message"])
        body = json.dumps({"job_id": "1", "events_url": f"/api/v1/chat/{time.monotonic()}/events"}).encode()
        self.send_response(202)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        stream, asked_at = self.server.stream, float(self.path.split("/")[-2])
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self._send("queued")
        time.sleep(max(0.0, asked_at + stream.first_token_seconds - time.monotonic()))
        self._send("token", text="a")
        time.sleep(stream.pause_seconds)
        self._send("token", text="b")
        self._send(stream.last_event)
        self.wfile.write(b"0\r\n\r\n")

    def _send(self, kind: str, **data: Any) -> None:
        event = f"id: 1-1\nevent: {kind}\ndata: {json.dumps(data)}\n\n".encode()
        self.wfile.write(f"{len(event):x}\r\n".encode() + event + b"\r\n")
        self.wfile.flush()
