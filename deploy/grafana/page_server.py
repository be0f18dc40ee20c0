"""Serves the page that draws the dashboards, with Prometheus and the ledger behind it."""

from __future__ import annotations

import json
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from decimal import Decimal
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import psycopg

__all__ = ["serve_page"]

_TIMEOUT_SECONDS: Final = 300


@contextmanager
def serve_page(page: Path, dashboards: Mapping[str, str], *, prometheus: str, ledger: str = "") -> Iterator[str]:
    """Serve the page on a free port of the loopback while the block runs, and yield its URL.

    Args:
        page: Folder with the built page.
        dashboards: The dashboards' JSON by uid.
        prometheus: URL of the Prometheus, or of what answers its API.
        ledger: URL of the ledger's PostgreSQL; without it the panels on the ledger have no rows.
    """

    class Handler(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, directory=str(page), **options)

        def do_GET(self) -> None:
            name = self.path.removeprefix("/dashboards/").removesuffix(".json")
            if name in dashboards:
                self._send(200, dashboards[name].encode())
            else:
                super().do_GET()

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.path == "/ledger":
                self._send(200, json.dumps(_rows(ledger, json.loads(body)["sql"])).encode())
            else:
                self._send(*_answer(prometheus + self.path.removeprefix("/prometheus"), body))

        def _send(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Suppress the log."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def _answer(url: str, body: bytes) -> tuple[int, bytes]:
    request = urllib.request.Request(url, data=body)  # noqa: S310  the address that the caller gave
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310
            return answer.status, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.read()


def _rows(ledger: str, query: str) -> dict[str, Any]:
    if not ledger:
        return {"columns": [], "rows": []}
    with psycopg.connect(ledger) as connection:
        try:
            cursor = connection.execute(query.encode())
        except psycopg.Error as error:
            return {"error": str(error)}
        columns = [column.name for column in cursor.description or ()]
        return {"columns": columns, "rows": [[_plain(value) for value in row] for row in cursor]}


def _plain(value: Any) -> Any:
    """Return a value as Grafana's PostgreSQL data source sends it: numbers as floats."""
    if isinstance(value, Decimal):
        return float(value)
    if isinstance(value, date):
        return value.isoformat()
    return str(value) if isinstance(value, UUID) else value
