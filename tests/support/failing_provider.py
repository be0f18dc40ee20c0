"""A provider on the loopback that fails as it is told: Chat Completions, Responses and Gemini in their wire shapes."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, TypeAlias

from tests.support import gemini_wire, openai_wire
from tests.support.loopback import Loopback
from tests.support.parsed_request import Question, count, from_chat, from_gemini, from_responses, words
from tests.support.scripted_answer import Chunk, Said

__all__ = ["INPUT_TOKENS", "OUTPUT_TOKENS", "TEXT", "Api", "FailingProvider", "Plan", "text_of_pieces"]

Api: TypeAlias = Literal["chat", "responses", "gemini"]

TEXT = " ".join(
    f"Rinse bottle number {number} with cold water, take off its cap and its label, and put it into the blue bin."
    for number in range(1, 7)
)
INPUT_TOKENS, OUTPUT_TOKENS = 1000, count(TEXT)

_GEMINI_PATH = re.compile(r"/v1beta/models/(?P<model>[\w.-]+):(?P<method>\w+)(\?alt=sse)?")
_SORRY = "The server had an error while processing your request. Sorry about that!"


@dataclass(frozen=True)
class Plan:
    """How a request is answered.

    Attributes:
        status: Other than 200 the request is refused with it, and with ``headers``.
        ends: What becomes of a stream after some pieces of text: the rest of it (``whole``), the connection breaks
            (``cut``), the provider says that it failed (``error``, in Responses also ``failed``), what comes is no JSON
            (``garbage``), or nothing comes any more (``stall``). An answer in one piece ends so before its first byte.
        after: How many pieces of text a stream brings before that.
        pause_seconds: Before each piece.
        usage: Whether the provider tells it.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: Literal["whole", "cut", "error", "failed", "garbage", "stall"] = "whole"
    after: int = 0
    pause_seconds: float = 0.0
    usage: bool = True


class FailingProvider(Loopback):
    """Serves both providers on one loopback port while its block runs.

    Attributes:
        asked: The user's words of every request, in the order of arrival.
        closing: Set at the end of the block: what stalls is over then.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.closing = threading.Event()
        self._plans: dict[str, list[Plan]] = {}
        self._lock = threading.Lock()

    def _open(self) -> ThreadingHTTPServer:
        return _Server(self)

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.closing.set()
        super().__exit__(exc_type, exc, traceback)

    def answers(self, asked: str, *plans: Plan) -> None:
        """Answer requests with these words of the user by one plan after another, the last one ever after."""
        with self._lock:
            self._plans[asked] = list(plans)

    def plan(self, asked: str) -> Plan:
        """Return how to answer a request that just came."""
        with self._lock:
            self.asked.append(asked)
            plans = self._plans.get(asked, [Plan()])
            return plans.pop(0) if len(plans) > 1 else plans[0]


def text_of_pieces(api: Api, pieces: int) -> str:
    """Return the text that so many pieces of a stream make."""
    tokens = 24 if api == "gemini" else 6
    return "".join([piece for _, piece in words(TEXT, tokens)][:pieces])


class _Server(ThreadingHTTPServer):
    # server_close then waits for the answers under way.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, provider: FailingProvider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider


class _Handler(BaseHTTPRequestHandler):
    # Before 1.1 a stream's end is not marked, and a client cannot tell a broken one.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        self.close_connection = True
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        api, question, choices, streamed = _read(self.path, body)
        plan = self.server.provider.plan(question.asked)
        said = _say(question, choices)
        with suppress(ConnectionError):  # a client that leaves is part of what is tested
            if plan.status != 200:
                refusal = gemini_wire.error if api == "gemini" else openai_wire.error
                self._send(plan.status, refusal(plan.status, _SORRY), plan.headers)
            elif streamed:
                self._stream(api, said, body, choices, plan)
            else:
                self._whole(api, said, body, choices, plan)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass

    def _whole(self, api: Api, said: Said, body: Mapping[str, Any], choices: int, plan: Plan) -> None:
        match api:
            case "chat":
                answer = openai_wire.completion(said)
            case "responses":
                answer = openai_wire.response(said, body)
            case "gemini":
                answer = gemini_wire.content(said)
        content = _retold(json.loads(answer.text), choices, plan)
        if plan.ends == "stall":
            self.server.provider.closing.wait()
        elif plan.ends != "cut":
            self._send(200, "{" if plan.ends == "garbage" else json.dumps(content), {})

    def _send(self, status: int, content: str, headers: Mapping[str, str]) -> None:
        encoded = content.encode()
        self._begin(status, {"content-type": "application/json", "content-length": str(len(encoded)), **headers})
        self.wfile.write(encoded)

    def _stream(self, api: Api, said: Said, body: Mapping[str, Any], choices: int, plan: Plan) -> None:
        self._begin(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        pieces = 0
        for event in _events(api, said, body):
            if event.tokens:
                if plan.ends != "whole" and pieces == plan.after:
                    break
                pieces += 1
                time.sleep(plan.pause_seconds)
            self._chunk("".join(_retold_event(line, choices, plan) for line in event.text.splitlines(keepends=True)))
        match plan.ends:
            case "stall":
                self.server.provider.closing.wait()
            case "error" | "failed":
                self._chunk(_error_event(api, said, body, plan))
            case "garbage":
                self._chunk('data: {"choices": [{\n\n')
        if plan.ends not in {"cut", "stall"}:
            self._chunk("")

    def _chunk(self, text: str) -> None:
        encoded = text.encode()
        self.wfile.write(b"%x\r\n%b\r\n" % (len(encoded), encoded))

    def _begin(self, status: int, headers: Mapping[str, str]) -> None:
        self.send_response(status)
        for name, value in {**headers, "connection": "close"}.items():
            self.send_header(name, value)
        self.end_headers()


def _read(path: str, body: Mapping[str, Any]) -> tuple[Api, Question, int, bool]:
    """Return by which API was asked what, for how many choices, and whether streamed."""
    if path == "/v1/chat/completions":
        return "chat", from_chat(body), body.get("n") or 1, bool(body.get("stream"))
    if path == "/v1/responses":
        return "responses", from_responses(body), 1, bool(body.get("stream"))
    called = _GEMINI_PATH.fullmatch(path)
    assert called is not None, path
    choices = body.get("generationConfig", {}).get("candidateCount") or 1
    return "gemini", from_gemini(called["model"], body), choices, called["method"] == "streamGenerateContent"


def _say(question: Question, choices: int) -> Said:
    return Said(
        model=question.model,
        text=TEXT,
        calls=(),
        searches=(),
        sources=(),
        picture="",
        input_tokens=INPUT_TOKENS,
        cached_tokens=0,
        image_tokens=0,
        found_tokens=0,
        output_tokens=OUTPUT_TOKENS * choices,
        reasoning_tokens=0,
        mark="5a" * 32,
    )


def _events(api: Api, said: Said, body: Mapping[str, Any]) -> Iterable[Chunk]:
    match api:
        case "chat":
            return openai_wire.chat_events(said, usage=bool((body.get("stream_options") or {}).get("include_usage")))
        case "responses":
            return openai_wire.response_events(said, body)
        case "gemini":
            return gemini_wire.content_events(said)


def _error_event(api: Api, said: Said, body: Mapping[str, Any], plan: Plan) -> str:
    match api:
        case "chat":
            return _data(json.loads(openai_wire.error(500, _SORRY)))
        case "responses" if plan.ends == "failed":
            (*_, last) = openai_wire.response_events(said, body)
            event = json.loads(last.text.partition("data: ")[2])
            error = {"code": "server_error", "message": _SORRY}
            event["response"] |= {"status": "failed", "error": error, "output": [], "usage": None}
            return f"event: response.failed\n{_data({**event, 'type': 'response.failed'})}"
        case "responses":
            event = {"type": "error", "code": "server_error", "message": _SORRY, "param": None, "sequence_number": 9}
            return f"event: error\n{_data(event)}"
        case "gemini":
            return _data(json.loads(gemini_wire.error(503, _SORRY)))


def _retold_event(line: str, choices: int, plan: Plan) -> str:
    """Return a line of an event as the plan has it; Chat Completions streams each choice in events of its own."""
    head, data, content = line.partition("data: ")
    if not data or not content.startswith("{"):
        return line
    told = _retold(json.loads(content), choices, plan)
    events = [{**told, "choices": [choice]} for choice in told["choices"]] if told.get("choices") else [told]
    return "".join(f"{head}{data}{json.dumps(event)}\n\n" for event in events)


def _retold(content: dict[str, Any], choices: int, plan: Plan) -> dict[str, Any]:
    """Return an answer with as many choices as were asked for, and without the usage if the plan is so."""
    for key in ("choices", "candidates"):
        if content.get(key):
            content[key] = [{**content[key][0], "index": index} for index in range(choices)]
    if not plan.usage:
        for holder in (content, content.get("response") or {}):
            holder.pop("usageMetadata", None)
            if "usage" in holder:
                holder["usage"] = None
    return content


def _data(content: Mapping[str, Any]) -> str:
    return f"data: {json.dumps(content)}\n\n"
