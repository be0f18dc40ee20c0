"""One OpenTelemetry trace of an answer: browser, API, RabbitMQ, worker, graph, model call with its cost."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import pytest
from playwright.sync_api import expect

from graph.errors import GraphConfigError
from graph.serving.tracing import exporting_spans
from tests.support.cassette_bills import bills_of_cassette
from tests.support.otlp_receiver import Span, receiving
from tests.support.page_server import MAX_WAIT_MS, chromium, open_page
from tests.support.rabbit_process import rabbit_process
from tests.support.redis_process import redis_process
from tests.support.server_process import server_process
from tests.support.worker_runs import GREETING

TRACE_ID, BROWSER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def one(spans: Iterable[Span], name: str) -> Span:
    """Return the only span of a name."""
    (found,) = [span for span in spans if span.name == name]
    return found


def assert_one_chain(spans: list[Span], *, first_parent: str) -> None:
    """Assert that the spans of an answer hang together, from the API's request to the model calls with their cost."""
    request, send = one(spans, "POST /api/v1/chat"), one(spans, "send chat.process")
    process, agent = one(spans, "process chat.process"), one(spans, "invoke_agent eco2")
    chain = [(span.kind, span.parent_id) for span in (request, send, process, agent)]
    assert chain == [
        ("SERVER", first_parent),
        ("PRODUCER", request.span_id),
        ("CONSUMER", send.span_id),
        ("INTERNAL", process.span_id),
    ]
    nodes = {span.span_id: span for span in spans if span.parent_id == agent.span_id}
    assert [span.name for span in nodes.values()] == ["intent", "router", "general", "aggregator", "answer"]
    calls = [span for span in spans if span.kind == "CLIENT"]
    assert [nodes[call.parent_id].name for call in calls] == ["intent", "general", "answer"]
    bills = bills_of_cassette(GREETING)
    usd = sum(bill.usd for bill in bills)
    assert sum(Decimal(str(call.attributes["gen_ai.usage.cost.amount"])) for call in calls) == usd
    assert Decimal(str(agent.attributes["gen_ai.usage.cost.amount"])) == usd
    for call in calls:
        assert call.name == "chat gpt-5.2-2025-12-11"
        assert call.attributes["gen_ai.provider.name"] == "openai"
        assert call.attributes["gen_ai.usage.cost.currency"] == "USD"
        assert call.attributes["gen_ai.usage.input_tokens"] > 0


@pytest.mark.slow
def test_one_process_sends_one_trace(tmp_path: Path) -> None:
    """The caller's trace goes on through all of it; no text of a prompt or answer is on a span."""
    with (
        receiving() as otlp,
        server_process(tmp_path, GREETING, OTEL_TRACES_EXPORTER="otlp", OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url) as server,
    ):
        server.until_ready()
        server.client.headers["traceparent"] = f"00-{TRACE_ID}-{BROWSER_SPAN}-01"
        job_id = server.ask()
        assert list(server.events(job_id))[-1]["event"] == "done"
        result = server.result(job_id)
        assert server.stop() == 0

    spans = otlp.all_spans
    assert {span.trace_id for span in spans} == {TRACE_ID}
    assert {span.service for span in spans} == {"eco2-chat-serve"}
    assert_one_chain(sorted_by_start(spans), first_parent=BROWSER_SPAN)
    assert one(spans, "invoke_agent eco2").attributes["eco2.job_id"] == job_id
    assert result["answer"][:8] not in json.dumps([span.attributes for span in spans], ensure_ascii=False)


@pytest.mark.slow
def test_langsmith_s_spans_are_in_the_trace(tmp_path: Path) -> None:
    """Where LangSmith's SDK exports the runs, its spans hang below the worker's and no run has two."""
    with (
        receiving() as otlp,
        server_process(
            tmp_path,
            GREETING,
            LANGSMITH_TRACING="true",
            LANGSMITH_OTEL_ENABLED="true",
            LANGSMITH_OTEL_ONLY="true",
            LANGSMITH_API_KEY="lsv2_pt_not_a_key",
            OTEL_TRACES_EXPORTER="otlp",
            OTEL_EXPORTER_OTLP_ENDPOINT=otlp.url,
        ) as server,
    ):
        server.until_ready()
        server.client.headers["traceparent"] = f"00-{TRACE_ID}-{BROWSER_SPAN}-01"
        assert list(server.events(server.ask()))[-1]["event"] == "done"
        assert server.stop() == 0

    spans = otlp.all_spans
    assert {span.trace_id for span in spans} == {TRACE_ID}
    process, calls = one(spans, "process chat.process"), [span for span in spans if span.name == "ChatOpenAI"]
    (root,) = [span for span in spans if span.parent_id == process.span_id]
    assert [span.name for span in spans if span.name.startswith(("chat ", "invoke_agent"))] == []
    usd = sum(bill.usd for bill in bills_of_cassette(GREETING))
    assert sum(Decimal(str(call.attributes["langsmith.metadata.cost_usd"])) for call in calls) == usd
    assert Decimal(str(root.attributes["langsmith.metadata.cost_usd"])) == usd
    assert not [request for request in otlp.exports if request.holds("lsv2_pt_not_a_key")]


def sorted_by_start(spans: list[Span]) -> list[Span]:
    return sorted(spans, key=lambda span: span.start)


@pytest.mark.slow
@pytest.mark.browser
def test_one_trace_from_the_browser_through_two_processes(tmp_path: Path) -> None:
    """The page's trace id is that of API and worker; RabbitMQ carries it in the message's headers."""
    with (
        receiving() as otlp,
        redis_process(tmp_path / "redis") as redis,
        rabbit_process(tmp_path / "rabbit") as rabbit,
    ):
        settings = {
            "ECO2_REDIS_URL": redis.url,
            "ECO2_AMQP_URL": rabbit.url,
            "OTEL_TRACES_EXPORTER": "otlp",
            "OTEL_EXPORTER_OTLP_ENDPOINT": otlp.url,
        }
        with (
            server_process(tmp_path / "api", GREETING, "api", **settings) as api,
            server_process(tmp_path / "worker", GREETING, "worker", **settings) as worker,
            chromium() as browser,
        ):
            api.until_ready()
            worker.until_ready()
            with open_page(browser, api.url) as page:
                page.keyboard.type("안녕!")
                page.keyboard.press("Enter")
                expect(page.locator(".turn[data-status=done]")).to_have_count(1, timeout=MAX_WAIT_MS)
                shown = re.search(r"trace ([0-9a-f]{32})", page.locator(".ids").text_content() or "")
            assert (api.stop(), worker.stop()) == (0, 0)

    assert shown is not None
    spans = sorted_by_start([span for span in otlp.all_spans if span.trace_id == shown[1]])
    request = one(spans, "POST /api/v1/chat")
    assert_one_chain(spans, first_parent=request.parent_id)
    assert request.parent_id != ""
    reading = one(spans, "GET /api/v1/chat/{job_id}/events")
    assert (reading.parent_id, reading.service) == (request.parent_id, "eco2-chat-api")
    services = {span.name: span.service for span in spans}
    assert (services["POST /api/v1/chat"], services["send chat.process"]) == ("eco2-chat-api", "eco2-chat-api")
    assert services["process chat.process"] == services["answer"] == "eco2-chat-worker"


@pytest.mark.slow
def test_without_an_exporter_no_trace_is_named(tmp_path: Path) -> None:
    """A caller's trace that this process does not export is on no answer and in no row of the ledger."""
    with server_process(tmp_path, GREETING) as server:
        server.until_ready()
        server.client.headers["traceparent"] = f"00-{TRACE_ID}-{BROWSER_SPAN}-01"
        accepted = server.client.post(f"{server.url}/api/v1/chat", json={"message": "안녕!"}).json()
        assert list(server.events(accepted["job_id"]))[-1]["event"] == "done"
        assert server.stop() == 0

    with closing(sqlite3.connect(tmp_path / "eco2.db")) as connection:
        traces = connection.execute("SELECT DISTINCT otel_trace_id FROM calls").fetchall()
    assert accepted["otel_trace_id"] is None
    assert traces == [(None,)]


@pytest.mark.parametrize("value", ["console", "otlp,console"])
def test_an_exporter_that_is_not_supported_is_one_sentence(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    """The error names the variable, its value and what is wanted."""
    monkeypatch.setenv("OTEL_TRACES_EXPORTER", value)

    with (
        pytest.raises(GraphConfigError, match=rf"OTEL_TRACES_EXPORTER is '{value}', wanted 'otlp' or 'none'"),
        exporting_spans("serve"),
    ):
        pass
