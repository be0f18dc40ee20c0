"""The providers' stand-in: a server on the loopback that answers a script in their wire shapes, at its own pace."""

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
from tests.support.parsed_request import Question, from_chat, from_gemini, from_responses
from tests.support.scripted_answer import Chunk, Said, say
from tests.support.scripts import SCRIPT, Script, answer

__all__ = ["HOSTS", "LIFELIKE", "Pace", "StandIn"]

HOSTS = ("api.openai.com", "generativelanguage.googleapis.com")
_LEAST_CACHED, _CACHED_IN_STEPS_OF = 1024, 128  # tokens
_IMAGE_TOKENS = {"openai": 630, "gemini": 1120}  # of a picture in a prompt


@dataclass(frozen=True)
class Pace:
    """How fast a model answers.

    Attributes:
        first_byte_seconds: Until the answer begins, if the model does not think.
        token_seconds: For each token that it thinks or writes.
    """

    first_byte_seconds: float = 0.0
    token_seconds: float = 0.0


LIFELIKE = Pace(first_byte_seconds=0.45, token_seconds=0.011)
"""About what the default models do."""


class StandIn(Loopback):
    """Serves both providers on one loopback port while its block runs.

    Args:
        script: What it says; a request that no line fits is answered 400.
        pace: How fast.
    """

    def __init__(self, script: Script = SCRIPT, *, pace: Pace = Pace()) -> None:
        self.script, self.pace = script, pace
        self.questions: list[Question] = []
        self._seen: dict[str, list[list[int]]] = {}
        self._lock = threading.Lock()

    def _open(self) -> ThreadingHTTPServer:
        return _Server(self)

    @property
    def upstream(self) -> dict[str, str]:
        """For ``graph.cassette.record``."""
        return dict.fromkeys(HOSTS, self.url)

    def say(self, provider: str, question: Question) -> Said | None:
        """Answer a request, None if the script does not."""
        found = answer(self.script, question)
        with self._lock:
            self.questions.append(question)
            if found is None:
                return None
            seen = self._seen.setdefault(question.model, [])
            cached = max((_shared(tokens, question.tokens) for tokens in seen), default=0)
            seen.append(question.tokens)
        cached = cached // _CACHED_IN_STEPS_OF * _CACHED_IN_STEPS_OF if cached >= _LEAST_CACHED else 0
        draws = "image_generation" in question.builtin or "image" in question.model
        image_tokens = _IMAGE_TOKENS[provider]
        return say(question, found, cached_tokens=cached, image_tokens=image_tokens, draws=draws)


class _Server(ThreadingHTTPServer):
    # server_close then waits for the answers under way.
    daemon_threads = False

    def __init__(self, stand_in: StandIn) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.stand_in = stand_in


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, the base class's default, ends every connection with its answer: no client keeps one open.
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions":
            self._chat_completions(body)
        elif self.path == "/v1/responses":
            self._responses(body)
        elif called := re.fullmatch(
            r"/v1beta/models/([\w.-]+):(generateContent|streamGenerateContent\?alt=sse)", self.path
        ):
            self._generate_content(called[1], body, streamed=called[2] != "generateContent")
        else:
            self._fail(404, openai_wire.error(404, f"No such path: {self.path}"))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass

    def _chat_completions(self, body: dict[str, Any]) -> None:
        question = from_chat(body)
        said = self.server.stand_in.say("openai", question)
        if said is None:
            self._fail(400, openai_wire.error(400, _unrehearsed(question)))
        elif body.get("stream"):
            usage = bool((body.get("stream_options") or {}).get("include_usage"))
            self._send(said, "text/event-stream; charset=utf-8", openai_wire.chat_events(said, usage=usage))
        else:
            self._send(said, "application/json", [openai_wire.completion(said)])

    def _responses(self, body: dict[str, Any]) -> None:
        question = from_responses(body)
        said = self.server.stand_in.say("openai", question)
        if said is None:
            self._fail(400, openai_wire.error(400, _unrehearsed(question)))
        elif body.get("stream"):
            self._send(said, "text/event-stream; charset=utf-8", openai_wire.response_events(said, body))
        else:
            self._send(said, "application/json", [openai_wire.response(said, body)])

    def _generate_content(self, model: str, body: dict[str, Any], *, streamed: bool) -> None:
        question = from_gemini(model, body)
        said = self.server.stand_in.say("gemini", question)
        if said is None:
            self._fail(400, gemini_wire.error(400, _unrehearsed(question)))
        elif streamed:
            self._send(said, "text/event-stream", gemini_wire.content_events(said))
        else:
            self._send(said, "application/json; charset=UTF-8", [gemini_wire.content(said)])

    def _send(self, said: Said, content_type: str, chunks: Iterable[Chunk]) -> None:
        pace = self.server.stand_in.pace
        due = time.monotonic() + pace.first_byte_seconds + said.reasoning_tokens * pace.token_seconds
        for number, chunk in enumerate(_after(chunks, streamed="event-stream" in content_type)):
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
            # What a cassette must not hold.
            "openai-organization": "user-standinstandinstandin",
            "openai-project": "proj_standinstandinstandin",
            "set-cookie": "__cf_bm=standin; path=/; HttpOnly; Secure",
            "x-request-id": "req_standinstandinstandin",
        }
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()


def _after(chunks: Iterable[Chunk], *, streamed: bool) -> Iterator[Chunk]:
    """Join what comes at one moment: a server sends it in one piece."""
    joined = Chunk("")
    for chunk in chunks:
        if streamed and joined.text and chunk.tokens:
            yield joined
            joined = Chunk("")
        joined = Chunk(joined.text + chunk.text, joined.tokens + chunk.tokens)
    yield joined


def _shared(one: list[int], other: list[int]) -> int:
    return next(
        (index for index, pair in enumerate(zip(one, other, strict=False)) if pair[0] != pair[1]),
        min(len(one), len(other)),
    )


def _unrehearsed(question: Question) -> str:
    return (
        f"Not rehearsed: node {question.node!r}, asked {question.asked[-200:]!r}, "
        f"functions {[*question.functions]}, tools {[*question.builtin]}; add a line to scripts.py."
    )
