"""A stand-in for both providers: a loopback server that answers from a script, in their wire formats."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support import gemini_wire, openai_wire
from tests.support.loopback import Loopback
from tests.support.parsed_request import ParsedRequest, from_chat, from_gemini, from_responses
from tests.support.scripted_answer import Chunk, ModelAnswer, fit_answer
from tests.support.scripts import SCRIPT, Script, answer

__all__ = ["HOSTS", "LIFELIKE", "Pace", "StandIn"]

HOSTS = ("api.openai.com", "generativelanguage.googleapis.com")
_MIN_CACHED_TOKENS, _CACHE_STEP_TOKENS = 1024, 128
_IMAGE_TOKENS = {"openai": 630, "gemini": 1120}  # per image in a prompt


@dataclass(frozen=True)
class Pace:
    """The speed of a model.

    Attributes:
        first_byte_seconds: The time until the answer begins, without reasoning.
        token_seconds: The time per reasoning or output token.
    """

    first_byte_seconds: float = 0.0
    token_seconds: float = 0.0


LIFELIKE = Pace(first_byte_seconds=0.45, token_seconds=0.011)
"""About the speed of the default models."""


class StandIn(Loopback):
    """Serves both providers on one loopback port during the block.

    Args:
        script: The answers. A request without a matching line gets status 400.
        pace: The speed.
    """

    def __init__(self, script: Script = SCRIPT, *, pace: Pace = Pace()) -> None:
        self.script, self.pace = script, pace
        self.requests: list[ParsedRequest] = []
        self._previous_prompts: dict[str, list[list[int]]] = {}
        self._lock = threading.Lock()

    def _open(self) -> ThreadingHTTPServer:
        return _Server(self)

    @property
    def upstream(self) -> dict[str, str]:
        """The ``upstream`` argument of ``graph.replay.record``."""
        return dict.fromkeys(HOSTS, self.url)

    def answer(self, provider: str, request: ParsedRequest) -> ModelAnswer | None:
        """Return the answer to a request; None if no line matches."""
        scripted = answer(self.script, request)
        with self._lock:
            self.requests.append(request)
            if scripted is None:
                return None
            prompts = self._previous_prompts.setdefault(request.model, [])
            cached = max((_common_prefix(tokens, request.tokens) for tokens in prompts), default=0)
            prompts.append(request.tokens)
        cached = cached // _CACHE_STEP_TOKENS * _CACHE_STEP_TOKENS if cached >= _MIN_CACHED_TOKENS else 0
        draws = "image_generation" in request.builtin or "image" in request.model
        image_tokens = _IMAGE_TOKENS[provider]
        return fit_answer(request, scripted, cached_tokens=cached, image_tokens=image_tokens, draws=draws)


class _Server(ThreadingHTTPServer):
    # server_close then waits for the running answers.
    daemon_threads = False

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, the base class's default, closes the connection after each answer.
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions":
            self._chat_completions(body)
        elif self.path == "/v1/responses":
            self._responses(body)
        elif called := re.fullmatch(
            r"/v1/models/([\w.-]+):(generateContent|streamGenerateContent\?alt=sse)", self.path
        ):
            self._generate_content(called[1], body, streamed=called[2] != "generateContent")
        else:
            self._fail(404, openai_wire.error(404, f"No such path: {self.path}"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass

    def _chat_completions(self, body: dict[str, Any]) -> None:
        request = from_chat(body)
        answer = self.server.stand_in.answer("openai", request)
        if answer is None:
            self._fail(400, openai_wire.error(400, _no_line(request)))
        elif body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            self._send(answer, "text/event-stream; charset=utf-8", openai_wire.chat_events(answer, usage=usage))
        else:
            self._send(answer, "application/json", [openai_wire.completion(answer)])

    def _responses(self, body: dict[str, Any]) -> None:
        request = from_responses(body)
        answer = self.server.stand_in.answer("openai", request)
        if answer is None:
            self._fail(400, openai_wire.error(400, _no_line(request)))
        elif body.get("stream"):
            self._send(answer, "text/event-stream; charset=utf-8", openai_wire.response_events(answer, body))
        else:
            self._send(answer, "application/json", [openai_wire.response(answer, body)])

    def _generate_content(self, model: str, body: dict[str, Any], *, streamed: bool) -> None:
        request = from_gemini(model, body)
        answer = self.server.stand_in.answer("gemini", request)
        if answer is None:
            self._fail(400, gemini_wire.error(400, _no_line(request)))
        elif streamed:
            self._send(answer, "text/event-stream", gemini_wire.content_events(answer))
        else:
            self._send(answer, "application/json; charset=UTF-8", [gemini_wire.content(answer)])

    def _send(self, answer: ModelAnswer, content_type: str, chunks: Iterable[Chunk]) -> None:
        pace = self.server.stand_in.pace
        due = time.monotonic() + pace.first_byte_seconds + answer.reasoning_tokens * pace.token_seconds
        for number, chunk in enumerate(_joined(chunks, streamed="event-stream" in content_type)):
            due += chunk.tokens * pace.token_seconds
            time.sleep(max(0.0, due - time.monotonic()))
            if not number:
                self._begin(200, content_type)
            self.wfile.write(chunk.text.encode())
            self.wfile.flush()

    def _fail(self, status: int, body: str) -> None:
        self._begin(status, "application/json")
        self.wfile.write(body.encode())

    def _begin(self, status: int, content_type: str) -> None:
        self.send_response(status)
        headers = {
            "content-type": content_type,
            # A recording must remove these.
            "openai-organization": "user-standinstandinstandin",
            "openai-project": "proj_standinstandinstandin",
            "set-cookie": "__cf_bm=standin; path=/; HttpOnly; Secure",
            "x-request-id": "req_standinstandinstandin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _joined(chunks: Iterable[Chunk], *, streamed: bool) -> Iterator[Chunk]:
    """Join chunks of the same moment: a server sends them in one piece."""
    joined = Chunk("")
    for chunk in chunks:
        if streamed and joined.text and chunk.tokens:
            yield joined
            joined = Chunk("")
        joined = Chunk(joined.text + chunk.text, joined.tokens + chunk.tokens)
    yield joined


def _common_prefix(one: list[int], other: list[int]) -> int:
    return next(
        (index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


def _no_line(request: ParsedRequest) -> str:
    return (
        f"No line matches node {request.node!r}, user text {request.last_user_text[-200:]!r}, "
        f"functions {[*request.functions]}, tools {[*request.builtin]}; add one to script.yaml."
    )
