"""A stand-in of OpenAI's Chat Completions that gives every request the same answer, whole or streamed."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.loopback import Loopback

__all__ = ["USD", "ChatCompletions"]

_MODEL = "gpt-5.2-2025-12-11"
_USAGE = {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100}
USD = 0.00315
"""What each answer costs: 1000 x 1.75 + 100 x 14 USD per million tokens."""


class ChatCompletions(Loopback):
    """Serves the endpoint during the block, and counts its answers.

    Attributes:
        served: The number of answers so far.
        gate: The number of requests to wait for before any of the first ones is answered.
    """

    def __init__(self, *, gate: int = 1) -> None:
        self.served = 0
        self.gate = threading.Barrier(gate) if gate > 1 else None
        self._lock = threading.Lock()

    @property
    def environment(self) -> dict[str, str]:
        """The variables that lead the openai client here."""
        return {"OPENAI_BASE_URL": f"{self.url}/v1", "OPENAI_API_KEY": "sk-test", "LANGSMITH_TRACING": "false"}

    def _open(self) -> ThreadingHTTPServer:
        standin = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                request = json.loads(self.rfile.read(int(self.headers["content-length"])))
                with standin._lock:
                    standin.served += 1
                    number = standin.served
                if standin.gate is not None and number <= standin.gate.parties:
                    standin.gate.wait(timeout=120)
                body, kind = _stream() if request.get("stream") else _whole()
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                """Write no log."""

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def _whole() -> tuple[bytes, str]:
    message = {"role": "assistant", "content": "in the bin"}
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": _MODEL,
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
        "usage": _USAGE,
    }
    return json.dumps(answer).encode(), "application/json"


def _stream() -> tuple[bytes, str]:
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": _MODEL}
    chunks: list[dict[str, Any]] = [
        {**common, "choices": [{"index": 0, "delta": {"content": text}}]} for text in ("in ", "the bin")
    ]
    chunks.append({**common, "choices": [], "usage": _USAGE})
    lines = [f"data: {json.dumps(chunk)}\n\n" for chunk in chunks]
    return "".join([*lines, "data: [DONE]\n\n"]).encode(), "text/event-stream"
