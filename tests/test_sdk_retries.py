"""Retries inside the SDKs of the official models: counted by request hooks on their HTTP clients."""

from __future__ import annotations

import asyncio
import gc
import json
import weakref
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Lock, Thread
from typing import Any

import pytest
from langchain_anthropic import ChatAnthropic
from langchain_core.language_models import BaseChatModel
from langchain_core.tools import tool
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import ChatOpenAI
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler
from eco2_callbacks.testing import FakeChatModel, RecordingSink

ANSWERS = {
    "chat": {
        "id": "c",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5.2",
        "choices": [{"index": 0, "message": {"role": "assistant", "content": "ok"}, "finish_reason": "stop"}],
        "usage": {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12},
    },
    "messages": {
        "id": "m",
        "type": "message",
        "role": "assistant",
        "model": "claude-opus-4-6",
        "content": [{"type": "text", "text": "ok"}],
        "stop_reason": "end_turn",
        "usage": {"input_tokens": 10, "output_tokens": 2},
    },
    "generateContent": {
        "candidates": [{"content": {"role": "model", "parts": [{"text": "ok"}]}, "finishReason": "STOP"}],
        "usageMetadata": {"promptTokenCount": 10, "candidatesTokenCount": 2, "totalTokenCount": 12},
        "modelVersion": "gemini-3-flash-preview",
    },
}


class _Provider(BaseHTTPRequestHandler):
    """Answers 503 to the first ``failures`` requests."""

    failures = 0
    requests = 0
    lock = Lock()

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        with _Provider.lock:
            _Provider.requests += 1
            fails = _Provider.failures > 0
            _Provider.failures -= fails
        answer = next(body for name, body in ANSWERS.items() if name in self.path)
        content = json.dumps({"error": {"message": "busy", "code": 503, "status": "UNAVAILABLE"}} if fails else answer)
        self.send_response(503 if fails else 200)
        self.send_header("Content-Type", "application/json")
        self.send_header("retry-after-ms", "1")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def provider() -> Iterator[str]:
    _Provider.failures = _Provider.requests = 0
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Provider)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def handler(sink: RecordingSink, registry: CollectorRegistry) -> Iterator[Eco2CallbackHandler]:
    with Eco2CallbackHandler(registry=registry, sinks=[sink]) as handler:
        yield handler


def model_of(sdk: str, url: str) -> BaseChatModel:
    if sdk == "openai":
        return ChatOpenAI(model="gpt-5.2", api_key="k", base_url=f"{url}/v1", max_retries=2)
    if sdk == "anthropic":
        return ChatAnthropic(model="claude-opus-4-6", api_key="k", base_url=url, max_retries=2)
    return ChatGoogleGenerativeAI(model="gemini-3-flash-preview", api_key="k", base_url=url, max_retries=3)


def counted(registry: CollectorRegistry) -> float:
    return sum(
        sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "llm_retries_total" and sample.labels["reason"] == "sdk"
    )


@pytest.fixture
def without_aiohttp(monkeypatch: pytest.MonkeyPatch) -> None:
    """google-genai prefers aiohttp, where another package of the tests has brought it."""
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", False)


@pytest.mark.usefixtures("without_aiohttp")
@pytest.mark.parametrize("way", ["sync", "async"])
@pytest.mark.parametrize(
    # google-genai waits a second before its first retry, two before the next.
    ("sdk", "failures"),
    [*((sdk, failures) for sdk in ("openai", "anthropic") for failures in (0, 1, 2)), ("google", 0), ("google", 1)],
)
def test_each_retry_of_an_sdk_is_counted(sdk, way, failures, provider, handler, sink, registry) -> None:
    """One invoke that makes three requests is one call with two retries, whatever SDK makes them.

    google-genai does not number its attempts; there, every further request of a call is one.
    """
    model = handler.count_sdk_retries(model_of(sdk, provider))
    _Provider.failures = failures

    if way == "sync":
        model.invoke("x", {"callbacks": [handler]})
    else:
        asyncio.run(model.ainvoke("x", {"callbacks": [handler]}))
    handler.flush()

    (call,) = sink.calls
    assert _Provider.requests == failures + 1
    assert call.sdk_retries == failures
    assert counted(registry) == failures


def test_requests_by_aiohttp_are_announced(provider, handler, caplog, monkeypatch) -> None:
    """aiohttp has no such hooks: a log line says what is not counted, once."""
    monkeypatch.setattr("google.genai._api_client.has_aiohttp", True)
    monkeypatch.setattr("eco2_callbacks.log_once._seen", set())
    monkeypatch.setattr("google.genai._api_client.BaseApiClient._use_aiohttp", lambda client: True)
    with monkeypatch.context() as building:
        building.setattr("google.genai._api_client.BaseApiClient._use_aiohttp", lambda client: False)
        model = model_of("google", provider)

    handler.count_sdk_retries(model)
    handler.count_sdk_retries(model)

    assert caplog.text.count("google-genai sends asynchronous requests by aiohttp") == 1


def test_concurrent_calls_keep_their_own_counts(provider, handler, sink, registry) -> None:
    """Models share an HTTP client; a retry counts for the call that made it, and once for each handler."""
    model = handler.count_sdk_retries(model_of("openai", provider))
    handler.count_sdk_retries(model)
    handler.count_sdk_retries(model.bind(stop=["."]).with_fallbacks([model_of("openai", provider)]))
    _Provider.failures = 3

    async def ask() -> None:
        await asyncio.gather(*(model.ainvoke("x", {"callbacks": [handler]}) for _ in range(8)))

    asyncio.run(ask())
    handler.flush()

    assert _Provider.requests == 11
    assert sum(call.sdk_retries for call in sink.calls) == 3
    assert counted(registry) == 3


def test_a_model_that_is_not_watched_is_unknown(provider, handler, sink, registry) -> None:
    """Without the hook the number is unknown, not zero."""
    _Provider.failures = 1

    model_of("openai", provider).with_config(tags=["a"]).invoke("x", {"callbacks": [handler]})

    assert sink.calls[0].sdk_retries is None


def test_close_takes_the_hooks_off(provider, registry) -> None:
    """A shared client keeps no hook of a closed handler, and none keeps a forgotten one alive."""
    model = model_of("openai", provider)
    hooks = model.root_client._client.event_hooks["request"]
    before = list(hooks)
    with Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        handler.count_sdk_retries(model)
        assert len(hooks) == len(before) + 1
    assert hooks == before

    forgotten = Eco2CallbackHandler(registry=CollectorRegistry())
    forgotten.count_sdk_retries(model)
    reference = weakref.ref(forgotten)
    del forgotten, handler
    gc.collect()
    assert reference() is None
    model.invoke("x")


@tool
def weigh(item: str) -> str:
    """Weigh."""
    return item


@pytest.mark.parametrize("wrong", [FakeChatModel(), None, weigh], ids=["other_model", "none", "tool"])
def test_what_has_no_known_sdk_is_refused(wrong: Any, handler: Eco2CallbackHandler) -> None:
    """A model that cannot be watched is an error at once, not a silent zero."""
    with pytest.raises(ConfigError, match=r"count_sdk_retries\(\) came with .*, wanted a ChatOpenAI.*; pass the model"):
        handler.count_sdk_retries(wrong)
