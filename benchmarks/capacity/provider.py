"""A stand-in for OpenAI's Chat Completions with the delays of a real model: ``provider.py PORT FIRST TOKEN COUNT``.

One event loop serves any number of streams. An answer begins after FIRST seconds; each of its COUNT tokens takes TOKEN
seconds and is one event, as the real API sends them.
"""

from __future__ import annotations

import asyncio
import json
import re
import sys
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route

_MODEL = "gpt-5.2-2025-12-11"
_CLASSIFICATION = {"intent": "general", "weather": False, "place": ""}
_CLASSIFICATION_TOKENS = 20
_PROMPT_TOKENS = 1200
_WORD = "플라스틱 "


def make_app(first_seconds: float, token_seconds: float, count: int) -> Starlette:
    """Return the app."""

    async def complete(request: Request) -> Response:
        body = await request.json()
        if body.get("stream"):
            return StreamingResponse(_events(), media_type="text/event-stream")
        is_structured = bool(body.get("response_format") or body.get("tools"))
        tokens = _CLASSIFICATION_TOKENS if is_structured else count
        text = json.dumps(_CLASSIFICATION) if is_structured else _WORD * count
        await asyncio.sleep(first_seconds + tokens * token_seconds)
        return JSONResponse(_completion(text, tokens))

    async def _events() -> AsyncIterator[bytes]:
        loop = asyncio.get_running_loop()
        due = loop.time() + first_seconds
        chunk = _chunk({"content": _WORD})
        for _ in range(count):
            await asyncio.sleep(max(0.0, due - loop.time()))
            due += token_seconds
            yield chunk
        yield _chunk({}, finish="stop")
        yield _chunk(None, usage=_usage(count))
        yield b"data: [DONE]\n\n"

    return Starlette(routes=[Route("/v1/chat/completions", complete, methods=["POST"])])


def _usage(tokens: int) -> dict[str, Any]:
    return {"prompt_tokens": _PROMPT_TOKENS, "completion_tokens": tokens, "total_tokens": _PROMPT_TOKENS + tokens}


def _completion(text: str, tokens: int) -> dict[str, Any]:
    message = {"role": "assistant", "content": text, "refusal": None}
    return {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1795000000,
        "model": _MODEL,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": _usage(tokens),
    }


def _chunk(delta: dict[str, Any] | None, *, finish: str | None = None, usage: dict[str, Any] | None = None) -> bytes:
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish}]
    event = {
        "id": "chatcmpl-1",
        "object": "chat.completion.chunk",
        "created": 1795000000,
        "model": _MODEL,
        "choices": choices,
        "usage": usage,
    }
    return f"data: {json.dumps(event)}\n\n".encode()


def main(port: str, first_seconds: str, token_seconds: str, count: str) -> None:
    """Serve until a signal."""
    if not re.fullmatch(r"\d+", count):
        raise SystemExit(f"COUNT is {count!r}, wanted a whole number.")
    app = make_app(float(first_seconds), float(token_seconds), int(count))
    uvicorn.run(app, host="127.0.0.1", port=int(port), log_level="warning", access_log=False, backlog=2048)


if __name__ == "__main__":
    main(*sys.argv[1:])
