"""Helpers of the tests of recording and replay."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import yaml

__all__ = ["URL", "http_service", "write_cassette"]

URL = "https://provider.example/v1/answers"


def write_cassette(
    path: Path, bodies: Sequence[str], *, first: float = 0.0, offsets: Sequence[Sequence[float]] = ()
) -> Path:
    """Write a cassette of equal requests with these answers, and return its path."""
    interaction = {
        "request": {"method": "POST", "uri": URL, "body": "{}", "headers": {"content-type": ["application/json"]}},
        "response": {"status": {"code": 200, "message": "OK"}, "headers": {"content-type": ["text/event-stream"]}},
        "timing": {"first_byte_seconds": first, "chunk_offsets": [list(offset) for offset in offsets]},
    }
    answers = [{**interaction["response"], "body": {"string": body}} for body in bodies]
    interactions = [{**interaction, "response": answer} for answer in answers]
    path.write_text(yaml.safe_dump({"version": 1, "interactions": interactions}), encoding="utf-8")
    return path


@contextmanager
def http_service(answer: bytes, *, headers: Mapping[str, str], cut: int = 0) -> Iterator[str]:
    """Serve one answer to every request and yield the URL. ``cut`` drops that many bytes at its end."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            for name, value in {**headers, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[: len(answer) - cut])

        do_GET = do_POST  # noqa: N815 # the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
