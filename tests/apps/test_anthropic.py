"""An agent on the official Anthropic model: cache writes are counted once on LangSmith."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_anthropic import ChatAnthropic
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.langsmith_runs import metadata, model_runs
from tests.support.langsmith_server import LangSmithServer
from tests.support.loopback import Loopback
from tests.support.record_sink import Records
from tests.support.tracing_modes import activate

USAGE = {
    "input_tokens": 10,
    "cache_creation_input_tokens": 3000,
    "cache_read_input_tokens": 2000,
    "cache_creation": {"ephemeral_5m_input_tokens": 1000, "ephemeral_1h_input_tokens": 2000},
    "output_tokens": 500,
    "service_tier": "standard",
}
# claude-sonnet-4-6, USD per million tokens: 3 input, 0.30 cached, 15 output; written for 5 minutes 3.75, for 1 hour 6
USD = (
    10 * Decimal(3) + 2000 * Decimal("0.30") + 1000 * Decimal("3.75") + 2000 * Decimal(6) + 500 * Decimal(15)
) / 10**6


class _Answers(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["content-length"]))
        message = {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "claude-sonnet-4-6",
            "content": [{"type": "text", "text": "fine"}],
            "stop_reason": "end_turn",
            "stop_sequence": None,
            "usage": USAGE,
        }
        content = json.dumps(message).encode()
        self.send_response(200)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
        pass


class _Anthropic(Loopback):
    """Answers every message with the same usage."""

    def _open(self) -> ThreadingHTTPServer:
        return ThreadingHTTPServer(("127.0.0.1", 0), _Answers)


@pytest.fixture
def model() -> Iterator[ChatAnthropic]:
    with _Anthropic() as anthropic:
        yield ChatAnthropic(model="claude-sonnet-4-6", base_url=anthropic.url, api_key="sk-ant-test", max_retries=0)


@pytest.mark.parametrize("is_traced", [False, True], ids=["untraced", "traced"])
def test_cache_writes_are_billed_and_shown_once(model: ChatAnthropic, *, is_traced: bool) -> None:
    """Both lifetimes of a cache write are billed at their own rate, and no token stands twice on LangSmith."""
    records = Records()
    agent = create_agent(model, [], name="claude")

    with LangSmithServer() as server, Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records]) as handler:
        if is_traced:
            with activate("environment", server, handler) as active:
                agent.invoke({"messages": [("user", "hello")]}, {"callbacks": active.callbacks})
        else:
            agent.invoke({"messages": [("user", "hello")]}, {"callbacks": [handler]})

    assert records.call.cost is not None
    assert records.call.cost.total_usd == records.request.cost.total_usd == USD
    for run in model_runs(server):
        usage = metadata(run)["usage_metadata"]
        assert usage["total_cost"] == float(USD)
        assert usage["input_tokens"] == 5010
        # 2,000 read and 3,000 written; the other 10 are plain input.
        assert sum(usage["input_token_details"].values()) == 5000
        assert sum(usage["input_cost_details"].values()) <= usage["input_cost"]
    assert len(model_runs(server)) == is_traced
