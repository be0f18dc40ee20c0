"""A provider on the loopback that fails as its plans say: Chat Completions, Responses and Gemini."""

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
from tests.support.parsed_request import (
    ParsedRequest,
    count_tokens,
    from_chat,
    from_gemini,
    from_responses,
    split_tokens,
)
from tests.support.scripted_answer import Chunk, ModelAnswer

__all__ = ["INPUT_TOKENS", "OUTPUT_TOKENS", "TEXT", "Api", "FailingProvider", "Plan", "text_of_pieces"]

Api: TypeAlias = Literal["chat", "responses", "gemini"]

TEXT = " ".join(
    f"Rinse bottle number {number} with cold water, take off its cap and its label, and put it into the blue bin."
    for number in range(1, 7)
)
INPUT_TOKENS, OUTPUT_TOKENS = 1000, count_tokens(TEXT)

_GEMINI_PATH = re.compile(r"/v1/models/(?P<model>[\w.-]+):(?P<method>\w+)(\?alt=sse)?")
_ERROR_TEXT = "The server had an error while processing your request. Sorry about that!"


@dataclass(frozen=True)
class Plan:
    """How a request is answered.

    Attributes:
        status: A status other than 200 refuses the request, with ``headers``.
        ends: How a stream ends after some pieces of text; an answer in one piece ends so before its first byte.
            ``whole``: normally; ``cut``: the connection breaks; ``garbage``: invalid JSON; ``stall``: nothing more
            arrives; ``error``, in Responses also ``failed``: an error event.
        after: How many pieces of text a stream sends before that.
        pause_seconds: The pause before each piece.
        usage: Whether the provider reports its usage.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    ends: Literal["whole", "cut", "error", "failed", "garbage", "stall"] = "whole"
    after: int = 0
    pause_seconds: float = 0.0
    usage: bool = True


class FailingProvider(Loopback):
    """Serves both providers on one loopback port inside its block.

    Attributes:
        prompts: The user's text of every request, in the order of arrival.
        closing: Set at the end of the block, which ends stalled answers.
    """

    def __init__(self) -> None:
        self.prompts: list[str] = []
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

    def set_plans(self, prompt: str, *plans: Plan) -> None:
        """Answer requests with this prompt by one plan after another, and by the last one from then on."""
        with self._lock:
            self._plans[prompt] = list(plans)

    def next_plan(self, prompt: str) -> Plan:
        """Return the plan for a request that has just arrived."""
        with self._lock:
            self.prompts.append(prompt)
            plans = self._plans.get(prompt, [Plan()])
            return plans.pop(0) if len(plans) > 1 else plans[0]


def text_of_pieces(api: Api, pieces: int) -> str:
    """Return the text of the first pieces of a stream."""
    tokens = 24 if api == "gemini" else 6
    return "".join([piece for _, piece in split_tokens(TEXT, tokens)][:pieces])


class _Server(ThreadingHTTPServer):
    # server_close then waits for the answers in progress.
    daemon_threads = False
    request_queue_size = 128

    def __init__(self, provider: FailingProvider) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.provider = provider


class _Handler(BaseHTTPRequestHandler):
    # HTTP before 1.1 does not mark a stream's end, so a client would not notice a broken one.
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        self.close_connection = True
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        api, question, choices, streamed = _read(self.path, body)
        plan = self.server.provider.next_plan(question.last_user_text)
        answer = _answer(question, choices)
        with suppress(ConnectionError):  # a client that disconnects is part of the tests
            if plan.status != 200:
                refusal = gemini_wire.error if api == "gemini" else openai_wire.error
                self._send(plan.status, refusal(plan.status, _ERROR_TEXT), plan.headers)
            elif streamed:
                self._stream(api, answer, body, choices, plan)
            else:
                self._whole(api, answer, body, choices, plan)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass

    def _whole(self, api: Api, answer: ModelAnswer, body: Mapping[str, Any], choices: int, plan: Plan) -> None:
        match api:
            case "chat":
                body_text = openai_wire.completion(answer).text
            case "responses":
                body_text = openai_wire.response(answer, body).text
            case "gemini":
                body_text = gemini_wire.content(answer).text
        content = _planned(json.loads(body_text), choices, plan)
        if plan.ends == "stall":
            self.server.provider.closing.wait()
        elif plan.ends != "cut":
            self._send(200, "{" if plan.ends == "garbage" else json.dumps(content), {})

    def _send(self, status: int, content: str, headers: Mapping[str, str]) -> None:
        encoded = content.encode()
        self._begin(status, {"content-type": "application/json", "content-length": str(len(encoded)), **headers})
        self.wfile.write(encoded)

    def _stream(self, api: Api, answer: ModelAnswer, body: Mapping[str, Any], choices: int, plan: Plan) -> None:
        self._begin(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        pieces = 0
        for event in _events(api, answer, body):
            if event.tokens:
                if plan.ends != "whole" and pieces == plan.after:
                    break
                pieces += 1
                time.sleep(plan.pause_seconds)
            self._chunk("".join(_planned_event(line, choices, plan) for line in event.text.splitlines(keepends=True)))
        match plan.ends:
            case "stall":
                self.server.provider.closing.wait()
            case "error" | "failed":
                self._chunk(_error_event(api, answer, body, plan))
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


def _read(path: str, body: Mapping[str, Any]) -> tuple[Api, ParsedRequest, int, bool]:
    """Return the API, the question, the number of choices, and whether to stream."""
    if path == "/v1/chat/completions":
        return "chat", from_chat(body), body.get("n") or 1, bool(body.get("stream"))
    if path == "/v1/responses":
        return "responses", from_responses(body), 1, bool(body.get("stream"))
    called = _GEMINI_PATH.fullmatch(path)
    assert called is not None, path
    choices = body.get("generationConfig", {}).get("candidateCount") or 1
    return "gemini", from_gemini(called["model"], body), choices, called["method"] == "streamGenerateContent"


def _answer(question: ParsedRequest, choices: int) -> ModelAnswer:
    return ModelAnswer(
        model=question.model,
        text=TEXT,
        calls=(),
        searches=(),
        sources=(),
        picture="",
        input_tokens=INPUT_TOKENS,
        cached_tokens=0,
        image_tokens=0,
        search_tokens=0,
        output_tokens=OUTPUT_TOKENS * choices,
        reasoning_tokens=0,
        digest="5a" * 32,
    )


def _events(api: Api, answer: ModelAnswer, body: Mapping[str, Any]) -> Iterable[Chunk]:
    match api:
        case "chat":
            return openai_wire.chat_events(answer, usage=bool((body.get("stream_options") or {}).get("include_usage")))
        case "responses":
            return openai_wire.response_events(answer, body)
        case "gemini":
            return gemini_wire.content_events(answer)


def _error_event(api: Api, answer: ModelAnswer, body: Mapping[str, Any], plan: Plan) -> str:
    match api:
        case "chat":
            return _data(json.loads(openai_wire.error(500, _ERROR_TEXT)))
        case "responses" if plan.ends == "failed":
            (*_, last) = openai_wire.response_events(answer, body)
            event = json.loads(last.text.partition("data: ")[2])
            error = {"code": "server_error", "message": _ERROR_TEXT}
            event["response"] |= {"status": "failed", "error": error, "output": [], "usage": None}
            return f"event: response.failed\n{_data({**event, 'type': 'response.failed'})}"
        case "responses":
            event = {
                "type": "error",
                "code": "server_error",
                "message": _ERROR_TEXT,
                "param": None,
                "sequence_number": 9,
            }
            return f"event: error\n{_data(event)}"
        case "gemini":
            return _data(json.loads(gemini_wire.error(503, _ERROR_TEXT)))


def _planned_event(line: str, choices: int, plan: Plan) -> str:
    """Return a line of an event as planned; Chat Completions streams each choice in events of its own."""
    head, data, content = line.partition("data: ")
    if not data or not content.startswith("{"):
        return line
    planned = _planned(json.loads(content), choices, plan)
    events = (
        [{**planned, "choices": [choice]} for choice in planned["choices"]] if planned.get("choices") else [planned]
    )
    return "".join(f"{head}{data}{json.dumps(event)}\n\n" for event in events)


def _planned(content: dict[str, Any], choices: int, plan: Plan) -> dict[str, Any]:
    """Return an answer with the requested number of choices, without usage if planned so."""
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
