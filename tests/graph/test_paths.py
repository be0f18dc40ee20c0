"""The eleven call paths, replayed through the graph: record, counter and LangSmith run have the same bill."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, Settings
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from graph import build_graph
from graph.app import make_handler
from graph.cli import QUESTIONS
from graph.replay import replay
from graph.runtime import CASSETTES, character_service
from graph.state import turn
from tests.support.cassette_bills import bill_of_call, bills_of_cassette
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.tracing_modes import activate

# Path -> provider, conversation, the node with this path, and its number of calls.
ELEVEN = {
    "openai_plain": ("openai", "general", "general", 1),
    "openai_streamed": ("openai", "greeting", "answer", 1),
    "openai_functions": ("openai", "recyclable_price", "recyclable_price", 2),
    "openai_web_search": ("openai", "web_search", "web_search", 3),
    "gemini_plain": ("google", "general", "general", 1),
    "gemini_streamed": ("google", "greeting", "answer", 1),
    "gemini_functions": ("google", "recyclable_price", "recyclable_price", 2),
    "gemini_structured": ("google", "greeting", "intent", 1),
    "gemini_search": ("google", "web_search", "web_search", 3),
    "gemini_image": ("google", "image_generation", "image_generation", 1),
}
IMAGE = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk"
    "+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


@pytest.fixture
def handler(registry: CollectorRegistry, records: Records) -> Iterator[Eco2CallbackHandler]:
    """Return the application's handler, with the test's registry and sink."""
    with make_handler(Settings(), sinks=[records], registry=registry) as handler:
        yield handler


def assert_one_bill(server: LangSmithServer, registry: CollectorRegistry, records: Records, cassette: Path) -> None:
    """Assert that records, counters and LangSmith runs have the bill of the provider's usage."""
    expected = sorted(bills_of_cassette(cassette), key=repr)
    assert sorted(map(bill_of_call, records.calls), key=repr) == expected
    assert not any(call.estimated or call.unpriced_reason for call in records.calls)
    total_usd = float(sum(bill.usd for bill in expected))
    assert float(records.request.cost.total_usd) == pytest.approx(total_usd, abs=1e-12)
    for name in ("llm_cost_dollars_total", "graph_node_cost_dollars_total"):
        assert exposed(registry, name) == pytest.approx(total_usd, abs=1e-9)
    assert exposed(registry, "llm_tokens_total") == sum(bill.input_tokens + bill.output_tokens for bill in expected)
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
    runs = server.runs()
    for call in records.calls:
        assert call.usage is not None
        assert runs[str(call.run_id)]["extra"]["metadata"]["usage_metadata"] == usage_metadata(call.usage, call.cost)


@pytest.mark.parametrize("path", ELEVEN)
async def test_a_path_costs_the_same_everywhere(
    path: str,
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All outputs have the provider's tokens and cost, and the node used the expected path."""
    provider, intent, node, calls = ELEVEN[path]
    folder = CASSETTES if provider == "openai" else CASSETTES / provider
    monkeypatch.setenv("ECO2_PROVIDER", provider)

    with LangSmithServer() as server:
        with (
            activate("tracer_after", server, handler) as active,
            character_service(),
            replay(folder / f"{intent}.yaml") as playback,
        ):
            config: Any = {"callbacks": active.callbacks}
            state = await build_graph().ainvoke(turn(QUESTIONS[intent]), config)
            active.client.flush()  # vcrpy cannot be left while another thread opens connections

        assert playback.unused == []
        assert state["answer"]
        assert_one_bill(server, registry, records, folder / f"{intent}.yaml")
    node_calls = [call for call in records.calls if call.node == node]
    assert len(node_calls) == calls
    assert {call.provider for call in node_calls} == {"openai" if provider == "openai" else "google_genai"}
    assert all(call.streamed for call in node_calls) == (node == "answer")
    if node == "web_search":
        assert sum(call.usage.web_searches for call in node_calls if call.usage) >= 1
    if node == "image_generation":
        assert [call.usage.images for call in node_calls if call.usage] == [1]
    assert records.request.intent == intent


async def test_a_picture_is_seen_first(
    cassette: Path,
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    monkeypatch: pytest.MonkeyPatch,
    request: pytest.FixtureRequest,
) -> None:
    """The eleventh path, vision, describes the image before the message is classified."""
    monkeypatch.setenv("ECO2_PROVIDER", "google")
    with LangSmithServer() as server:
        with activate("tracer_after", server, handler) as active:
            state = await build_graph().ainvoke(turn(QUESTIONS["waste"], image=IMAGE), {"callbacks": active.callbacks})
            active.client.flush()
        if request.config.getoption("--record-mode") == "none":
            assert_one_bill(server, registry, records, cassette)

    assert [call.node for call in records.calls][:2] == ["vision", "intent"]
    assert state["vision"]["item"]
    assert state["answer"]
