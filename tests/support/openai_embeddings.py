"""A stand-in of OpenAI's endpoint for embeddings, on the loopback."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

TOKENS = 7  # reported for each text


class _OpenAI(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        texts = body["input"] if isinstance(body["input"], list) else [body["input"]]
        tokens = TOKENS * len(texts)
        vectors = [{"object": "embedding", "index": n, "embedding": [0.5, 0.5]} for n in range(len(texts))]
        answer = {
            "object": "list",
            "data": vectors,
            "model": body["model"],
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
        }
        content = json.dumps(answer).encode()
        self.send_response(200 if "boom" not in str(texts) else 400)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: object) -> None:
        pass


@contextmanager
def embeddings_server() -> Iterator[str]:
    """Yield the base URL of the server."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _OpenAI)
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/v1"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
