"""A stand-in for OpenAI without a socket: official models talk to it, and it keeps what it served."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any, NamedTuple

import httpx2
from langchain_openai import ChatOpenAI
from langchain_openai.decisions import OpenAIDecisions

__all__ = ["Reply", "Request", "ScriptedOpenAI", "Served"]

# USD per million tokens of input, cached input and output, as OpenAI's price page lists them.
_USD_PER_MTOK = {
    "gpt-4.1": ("2.00", "0.50", "8.00"),
    "gpt-4.1-mini": ("0.40", "0.10", "1.60"),
    "gpt-4.1-nano": ("0.10", "0.025", "0.40"),
    "gpt-4o-mini": ("0.15", "0.075", "0.60"),
}


class Reply(NamedTuple):
    """What the stand-in answers: text, tool calls as (name, arguments), or an HTTP error."""

    text: str = "an answer of some words"
    calls: Sequence[tuple[str, Mapping[str, Any]]] = ()
    status: int = 200


class Served(NamedTuple):
    """One answer: who gave it, and what it consumed."""

    model: str
    status: int
    input_tokens: int
    cached_tokens: int
    output_tokens: int

    @property
    def usd(self) -> Decimal:
        """What the answer costs, worked out from the published rates."""
        whole, cached, output = (Decimal(rate) for rate in _USD_PER_MTOK[self.model])
        fresh_tokens = self.input_tokens - self.cached_tokens
        return (fresh_tokens * whole + self.cached_tokens * cached + self.output_tokens * output) / 1_000_000


class Request(NamedTuple):
    """A request as the script sees it."""

    body: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.body["model"])

    @property
    def tools(self) -> dict[str, Mapping[str, Any]]:
        """The schema of each tool by its name."""
        functions = [tool["function"] for tool in self.body.get("tools", ()) if "function" in tool]
        return {function["name"]: function.get("parameters") or {} for function in functions}

    @property
    def text(self) -> str:
        """The last user message, and everything before it."""
        return json.dumps(self.body.get("messages", ""), ensure_ascii=False)

    @property
    def tool_results(self) -> int:
        """How many tool results stand after the last user message."""
        count = 0
        for message in reversed(self.body.get("messages", ())):
            if message["role"] == "user":
                break
            count += message["role"] == "tool"
        return count

    @property
    def forced_tool(self) -> str | None:
        choice = self.body.get("tool_choice")
        if isinstance(choice, dict):
            return str(choice["function"]["name"])
        return next(iter(self.tools), None) if choice in ("required", "any") else None

    @property
    def schema(self) -> Mapping[str, Any] | None:
        wanted = self.body.get("response_format") or {}
        return wanted["json_schema"]["schema"] if wanted.get("type") == "json_schema" else None


Script = Callable[[Request], Reply | None]


class ScriptedOpenAI:
    """Answers OpenAI's chat completions and decisions; no two answers consume the same number of tokens.

    Args:
        script: Returns the reply to a request. Without a reply, a forced tool or a wanted schema gets made-up values,
            and anything else gets a text.
    """

    def __init__(self, script: Script = lambda request: None) -> None:
        self.script = script
        self.served: list[Served] = []
        self._lock = threading.Lock()

    def model(self, name: str = "gpt-4.1-mini", **options: Any) -> ChatOpenAI:
        """Return an official model that talks to this stand-in."""
        return ChatOpenAI(
            model=name,
            api_key="sk-test",
            max_retries=0,
            stream_usage=True,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
            http_async_client=httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer)),
            **options,
        )

    def decisions(self) -> OpenAIDecisions:
        """Return an official decision model that talks to this stand-in."""
        return OpenAIDecisions(
            model="gpt-4.1-mini",
            api_key="sk-test",
            max_retries=0,
            http_client=httpx2.Client(transport=httpx2.MockTransport(self._answer)),
            http_async_client=httpx2.AsyncClient(transport=httpx2.MockTransport(self._answer)),
        )

    def _answer(self, http_request: httpx2.Request) -> httpx2.Response:
        request = Request(json.loads(http_request.content))
        decides = not http_request.url.path.endswith("/chat/completions")
        reply = self.script(request) or _default(request)
        with self._lock:
            number = len(self.served) + 1
            usage = 1000 + 7 * number, 128 if number % 3 == 0 and not decides else 0, 100 + 3 * number
            served = Served(request.model, reply.status, *usage)
            self.served.append(served)
        if reply.status != 200:
            return httpx2.Response(reply.status, json={"error": {"message": "scripted", "type": "server_error"}})
        if decides:
            return httpx2.Response(200, json=_decision(request, served, reply))
        if request.body.get("stream"):
            return httpx2.Response(
                200, headers={"content-type": "text/event-stream"}, content=_events(served, reply, number)
            )
        return httpx2.Response(200, json=_completion(served, reply, number))


def _default(request: Request) -> Reply:
    if request.schema is not None:
        return Reply(json.dumps(_made_up(request.schema, request.schema.get("$defs", {}))))
    if (tool := request.forced_tool) is not None:
        schema = request.tools[tool]
        return Reply("", [(tool, _made_up(schema, schema.get("$defs", {})))])
    return Reply()


def _made_up(schema: Mapping[str, Any], definitions: Mapping[str, Any], name: str = "text") -> Any:
    """Return a value that fits a JSON schema."""
    if "$ref" in schema:
        return _made_up(definitions[schema["$ref"].rsplit("/", 1)[1]], definitions, name)
    for key in ("anyOf", "oneOf", "allOf"):
        if schema.get(key):
            return _made_up(schema[key][0], definitions, name)
    if "const" in schema or "enum" in schema:
        return schema.get("const", schema.get("enum", [None])[0])
    kind = schema.get("type", "object" if "properties" in schema else "string")
    if kind == "object":
        return {key: _made_up(part, definitions, key) for key, part in schema.get("properties", {}).items()}
    if kind == "array":
        return [_made_up(schema.get("items") or {}, definitions, name)]
    return {"integer": 1, "number": 1, "boolean": False, "null": None}.get(kind, f"{name} words")


def _usage(served: Served) -> dict[str, Any]:
    return {
        "prompt_tokens": served.input_tokens,
        "completion_tokens": served.output_tokens,
        "total_tokens": served.input_tokens + served.output_tokens,
        "prompt_tokens_details": {"cached_tokens": served.cached_tokens},
    }


def _tool_calls(reply: Reply, number: int) -> list[dict[str, Any]]:
    return [
        {
            "index": index,
            "id": f"call_{number}_{index}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments, ensure_ascii=False)},
        }
        for index, (name, arguments) in enumerate(reply.calls)
    ]


def _completion(served: Served, reply: Reply, number: int) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": reply.text or None}
    if reply.calls:
        message["tool_calls"] = [{k: v for k, v in call.items() if k != "index"} for call in _tool_calls(reply, number)]
    choice = {"index": 0, "message": message, "finish_reason": "tool_calls" if reply.calls else "stop"}
    return _head(served, number, "chat.completion") | {"choices": [choice], "usage": _usage(served)}


def _events(served: Served, reply: Reply, number: int) -> bytes:
    head = _head(served, number, "chat.completion.chunk")
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": word + " "} for word in reply.text.split()]
    if reply.calls:
        deltas.append({"tool_calls": _tool_calls(reply, number)})
    chunks = [head | {"choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    finish = "tool_calls" if reply.calls else "stop"
    chunks.append(head | {"choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
    chunks.append(head | {"choices": [], "usage": _usage(served)})
    return "".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks).encode() + b"data: [DONE]\n\n"


def _head(served: Served, number: int, kind: str) -> dict[str, Any]:
    return {"id": f"chatcmpl-{number}", "object": kind, "created": 1_795_000_000, "model": served.model}


def _decision(request: Request, served: Served, reply: Reply) -> dict[str, Any]:
    answers = [
        {"name": question["name"], "type": question["type"], "probability": 0.9, "confidence": 0.9}
        for question in request.body["questions"]
    ]
    return {
        "id": "dec_1",
        "object": "decision",
        "created_at": 1_795_000_000,
        "model": served.model,
        "answers": answers,
        "usage": {
            "input_tokens": served.input_tokens,
            "output_tokens": served.output_tokens,
            "total_tokens": served.input_tokens + served.output_tokens,
        },
    }
