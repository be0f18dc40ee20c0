"""ClickHouse's HTTP interface in front of its engine in process (chDB): a server for tests, in a process of its own.

    python clickhouse_server.py FOLDER PORT

It answers what clickhouse-connect asks: queries with bound parameters, settings, and inserts in the Native format. One
process at a time can open a chDB folder, so that several writers need this server.
"""

from __future__ import annotations

import re
import sys
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import chdb

__all__ = ["main"]

_OWN = {"database", "query", "session_id", "query_id", "client_protocol_version", "role", "compress", "decompress"}
_OWN |= {"enable_http_compression", "http_headers_progress_interval_ms", "send_progress_in_http_headers"}
_OWN |= {"wait_end_of_query", "session_timeout", "quota_key", "default_format", "buffer_size", "user", "password"}
_FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*$", re.IGNORECASE)
_INSERT = re.compile(rb"\s*(INSERT\s.*?\bFORMAT\s+\w+)[ \t]*\n", re.IGNORECASE | re.DOTALL)


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    connection_to_engine: Any
    lock = threading.Lock()
    folder: str

    def do_GET(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def log_message(self, *args: object) -> None:
        """Stay silent."""

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        body = b""
        while size := int(self.rfile.readline(), 16):
            body += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return body

    def _answer(self) -> None:
        url = urlsplit(self.path)
        asked = dict(parse_qsl(url.query, keep_blank_values=True))
        body = self._body()
        if url.path == "/ping":
            self._send(200, b"Ok.\n")
            return
        try:
            self._send(200, self._run(asked, body))
        except RuntimeError as error:
            message = str(error)
            code = re.search(r"Code: (\d+)", message)
            self._send(500, message.encode(), {"X-ClickHouse-Exception-Code": code.group(1)} if code else {})

    def _run(self, asked: dict[str, str], body: bytes) -> bytes:
        if "query" in asked:
            sql, data = asked["query"], body
        elif found := _INSERT.match(body):
            # The data follows in the same body.
            sql, data = found.group(1).decode(), body[found.end() :]
        else:
            sql, data = body.decode(), b""
        params = {key.removeprefix("param_"): value for key, value in asked.items() if key.startswith("param_")}
        settings = {k: v for k, v in asked.items() if k not in _OWN and not k.startswith("param_")}
        with self.lock:
            engine = self.connection_to_engine
            if database := asked.get("database"):
                engine.query(f"USE `{database}`")
            for name, value in settings.items():
                engine.query(f"SET {name} = '{value}'")
            try:
                if data and sql.lstrip()[:6].upper() == "INSERT":
                    return self._insert(sql, data)
                found = _FORMAT.search(sql)
                wanted = found.group(1) if found else asked.get("default_format", "TabSeparated")
                return bytes(engine.query(sql, wanted, params=params).bytes())
            finally:
                for name in settings:
                    engine.query(f"SET {name} = DEFAULT")

    def _insert(self, sql: str, data: bytes) -> bytes:
        head, _, wanted = sql.rpartition("FORMAT")
        with tempfile.NamedTemporaryFile(dir=self.folder) as file:
            file.write(data)
            file.flush()
            self.connection_to_engine.query(f"{head} FROM INFILE '{file.name}' FORMAT {wanted}")
        return b""

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in {"Content-Length": str(len(body)), "X-ClickHouse-Summary": "{}", **(headers or {})}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)


def main(folder: str, port: int) -> None:
    """Serve the engine's folder on a port of the loopback."""
    (Path(folder) / "uploads").mkdir(parents=True, exist_ok=True)
    _Handler.folder = str(Path(folder) / "uploads")
    _Handler.connection_to_engine = chdb.connect(str(Path(folder) / "data"))
    server = ThreadingHTTPServer(("127.0.0.1", port), _Handler)
    server.daemon_threads = True
    server.serve_forever()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
