"""A stand-in for the providers: a server on the loopback that answers in their wire shapes."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

__all__ = ["EXCHANGES", "Exchange", "StandIn"]


@dataclass(frozen=True)
class Exchange:
    """What the models say to one question, and the tokens they report."""

    intent: str
    intent_input_tokens: int
    intent_cached_tokens: int
    intent_output_tokens: int
    chunks: tuple[str, ...]
    answer_input_tokens: int
    answer_thoughts_tokens: int
    # After each chunk, for all chunks so far.
    answer_tokens: tuple[int, ...]


EXCHANGES = {
    "페트병 어떻게 버려?": Exchange(
        intent="waste",
        intent_input_tokens=1081,
        intent_cached_tokens=0,
        intent_output_tokens=10,
        chunks=(
            "투명 페트병은 내용물을 비우고 물로 헹군 뒤 ",
            "라벨을 떼 주세요. 찌그러뜨려 부피를 줄이고 뚜껑을 닫아 ",
            "투명 페트병 전용 수거함에 넣으시면 됩니다. 색이 있는 페트병은 일반 플라스틱으로 배출해 주세요.",
        ),
        answer_input_tokens=131,
        answer_thoughts_tokens=246,
        answer_tokens=(19, 44, 84),
    ),
    "안녕!": Exchange(
        intent="general",
        intent_input_tokens=1077,
        intent_cached_tokens=1024,
        intent_output_tokens=10,
        chunks=(
            "안녕하세요! 저는 분리배출을 ",
            "돕는 이코에코예요. 버리는 방법이 궁금한 물건이 있으면 편하게 물어보세요.",
        ),
        answer_input_tokens=124,
        answer_thoughts_tokens=88,
        answer_tokens=(13, 41),
    ),
    "다 쓴 건전지는 어디에 버려?": Exchange(
        intent="waste",
        intent_input_tokens=1085,
        intent_cached_tokens=1024,
        intent_output_tokens=10,
        chunks=(
            "다 쓴 건전지는 일반 쓰레기와 섞지 말고 ",
            "따로 모아 주세요. 아파트 단지나 주민센터의 폐건전지 수거함에 ",
            "넣으시면 됩니다. 부풀거나 새는 건전지는 단자를 테이프로 감싸서 배출해 주세요.",
        ),
        answer_input_tokens=135,
        answer_thoughts_tokens=205,
        answer_tokens=(16, 42, 77),
    ),
}


class StandIn:
    """Serves both providers on one loopback port while its block runs."""

    def __enter__(self) -> Self:
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        # server_close then waits for the answers under way.
        self._server.daemon_threads = False
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"


class _Handler(BaseHTTPRequestHandler):
    # HTTP/1.0, the base class's default, ends every connection with its answer: no client keeps one open.

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        if self.path == "/v1/chat/completions" and not body.get("stream"):
            self._chat_completions(body)
        elif re.fullmatch(r"/v1beta/models/[\w.-]+:streamGenerateContent\?alt=sse", self.path):
            self._stream_generate_content(body)
        else:
            self._send(404, {}, iter(()))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass

    def _chat_completions(self, body: dict[str, Any]) -> None:
        headers = {
            "content-type": "application/json",
            "openai-organization": "user-standin",
            "openai-processing-ms": "641",
            "openai-project": "proj_standin",
            "openai-version": "2020-10-01",
            "set-cookie": "__cf_bm=standin; path=/; HttpOnly; Secure",
            "x-request-id": "req_standin",
        }
        exchange = EXCHANGES.get(body["messages"][-1]["content"])
        if exchange is None or body["response_format"]["type"] != "json_schema":
            error = {"message": "Not rehearsed.", "type": "invalid_request_error", "param": None, "code": None}
            self._send(400, headers, iter([_pretty({"error": error})]))
        else:
            self._send(200, headers, iter([_pretty(_completion(exchange))]))

    def _stream_generate_content(self, body: dict[str, Any]) -> None:
        headers = {
            "content-disposition": "attachment",
            "content-type": "text/event-stream",
            "server-timing": "gfet4t7; dur=873",
            "x-frame-options": "SAMEORIGIN",
        }
        exchange = EXCHANGES.get(body["contents"][-1]["parts"][-1]["text"])
        if exchange is None:
            error = {"code": 400, "message": "Not rehearsed.", "status": "INVALID_ARGUMENT"}
            self._send(400, headers, iter([_pretty({"error": error})]))
        else:
            self._send(200, headers, _events(exchange))

    def _send(self, status: int, headers: dict[str, str], parts: Iterator[str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        for part in parts:
            self.wfile.write(part.encode())
            self.wfile.flush()


def _completion(exchange: Exchange) -> dict[str, Any]:
    """Shape: https://platform.openai.com/docs/api-reference/chat/object."""
    message = {
        "role": "assistant",
        "content": json.dumps({"intent": exchange.intent}, separators=(",", ":")),
        "refusal": None,
        "annotations": [],
    }
    return {
        "id": f"chatcmpl-standin-{exchange.intent_input_tokens}",
        "object": "chat.completion",
        "created": 1795000000,
        "model": "gpt-5.2-2025-12-11",
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": {
            "prompt_tokens": exchange.intent_input_tokens,
            "completion_tokens": exchange.intent_output_tokens,
            "total_tokens": exchange.intent_input_tokens + exchange.intent_output_tokens,
            "prompt_tokens_details": {"cached_tokens": exchange.intent_cached_tokens, "audio_tokens": 0},
            "completion_tokens_details": {
                "reasoning_tokens": 0,
                "audio_tokens": 0,
                "accepted_prediction_tokens": 0,
                "rejected_prediction_tokens": 0,
            },
        },
        "service_tier": "default",
        "system_fingerprint": None,
    }


def _events(exchange: Exchange) -> Iterator[str]:
    """Shape: https://ai.google.dev/api/generate-content#v1beta.GenerateContentResponse."""
    prompt, thoughts = exchange.answer_input_tokens, exchange.answer_thoughts_tokens
    for text, written in zip(exchange.chunks, exchange.answer_tokens, strict=True):
        candidate: dict[str, Any] = {"content": {"parts": [{"text": text}], "role": "model"}, "index": 0}
        if text == exchange.chunks[-1]:
            candidate["finishReason"] = "STOP"
        event = {
            "candidates": [candidate],
            "usageMetadata": {
                "promptTokenCount": prompt,
                "candidatesTokenCount": written,
                "totalTokenCount": prompt + written + thoughts,
                "promptTokensDetails": [{"modality": "TEXT", "tokenCount": prompt}],
                "thoughtsTokenCount": thoughts,
            },
            "modelVersion": "gemini-3-flash-preview",
            "responseId": f"standin-{prompt}",
        }
        yield f"data: {json.dumps(event, ensure_ascii=False)}\r\n\r\n"


def _pretty(body: dict[str, Any]) -> str:
    return json.dumps(body, ensure_ascii=False, indent=2) + "\n"
