"""docs/attaching.md: its code runs, with the real SDKs against a loopback server."""

from __future__ import annotations

import ast
import json
import re
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from anthropic import Anthropic
from google import genai
from openai import OpenAI

import tests.support.httpx_for_gemini  # noqa: F401 - for its effect
from eco2_callbacks import Eco2CallbackHandler, ToolCall
from tests.support.fake_model import FakeModel
from tests.support.loopback import Loopback
from tests.support.record_sink import Records
from tests.support.small_graphs import State, graph_of

PAGE = Path(__file__).parents[1] / "docs" / "attaching.md"
_RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt-5.2-2025-12-11",
    "output": [],
    "usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
}
_GEMINI = [
    {"candidates": [{"content": {"role": "model", "parts": [{"text": "in "}]}}], "modelVersion": "gemini-2.5-flash"},
    {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "the bin"}]}, "finishReason": "STOP"}],
        "modelVersion": "gemini-2.5-flash",
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 100, "totalTokenCount": 1100},
    },
]
_USAGE = {"input_tokens": 1000, "output_tokens": 1, "cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
_MESSAGE = {"id": "msg_1", "type": "message", "role": "assistant", "model": "claude-sonnet-5", "content": []}
_EVENTS: list[dict[str, Any]] = [
    {"type": "message_start", "message": {**_MESSAGE, "stop_reason": None, "stop_sequence": None, "usage": _USAGE}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "in the bin"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 100}},
    {"type": "message_stop"},
]


class Providers(Loopback):
    """Answers as OpenAI's Responses API, as Gemini's streams and as Anthropic's."""

    def _open(self) -> ThreadingHTTPServer:
        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["content-length"]))
                kind = "text/event-stream"
                if "responses" in self.path:
                    kind, body = "application/json", json.dumps(_RESPONSE)
                elif "messages" in self.path:
                    body = "".join(f"event: {event['type']}\ndata: {json.dumps(event)}\n\n" for event in _EVENTS)
                else:
                    body = "".join(f"data: {json.dumps(chunk)}\r\n\r\n" for chunk in _GEMINI)
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(body.encode())))
                self.end_headers()
                self.wfile.write(body.encode())

            def log_message(self, *_: Any) -> None:
                """Write no log."""

        return ThreadingHTTPServer(("127.0.0.1", 0), Handler)


def answer(state: State) -> State:
    return {"answers": [str(FakeModel().invoke("hello").content)]}


class Runner:
    """As the Agents SDK's."""

    @staticmethod
    async def run(agent: object, question: str) -> Any:
        usage = SimpleNamespace(model_dump=lambda **_: _RESPONSE["usage"])
        return SimpleNamespace(raw_responses=[SimpleNamespace(usage=usage, response_id="resp_1", output=[])])


async def test_the_pages_code_runs(handler: Eco2CallbackHandler, records: Records) -> None:
    """Each block measures what the page says: four calls of the SDKs, a tool, and the graph's call."""
    with Providers() as providers:
        openai = OpenAI(base_url=f"{providers.url}/v1", api_key="x")
        anthropic = Anthropic(base_url=providers.url, api_key="x")
        gemini = genai.Client(api_key="x", http_options={"base_url": providers.url})
        names: dict[str, Any] = {
            "agent": None,
            "client": SimpleNamespace(responses=openai.responses, messages=anthropic.messages, aio=gemini.aio),
            "find": lambda item: "aisle 7",
            "graph": graph_of(answer).compile(),
            "handler": handler,
            "inputs": {"answers": []},
            "item": "glass",
            "messages": [{"role": "user", "content": "Where does glass go?"}],
            "question": "Where does glass go?",
            "Runner": Runner,
        }
        for block in re.findall(r"^```python\n(.*?)^```", PAGE.read_text(), re.DOTALL | re.MULTILINE):
            code = compile(block, PAGE.name, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
            run = eval(code, names)
            if run is not None:
                await run
        await gemini.aio.aclose()
        openai.close()
        anthropic.close()

    calls = [(call.provider, call.streamed, call.usage and call.usage.total_tokens) for call in records.calls]
    assert calls == [
        ("openai", False, 1100),  # the graph's
        ("openai", False, 1100),
        ("google_genai", True, 1100),
        ("anthropic", True, 1100),
        ("openai", False, 1100),
    ]
    assert all(call.status == "success" and not call.estimated for call in records.calls)
    assert [run.tool_name for run in records.of(ToolCall)] == ["warehouse"]
