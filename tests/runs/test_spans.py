"""Exemplars: a latency carries the ids of the OpenTelemetry span in which it was measured."""

from __future__ import annotations

import os
import subprocess
import sys
import uuid
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.documents import Document
from langchain_core.retrievers import BaseRetriever
from langchain_core.tools import tool
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import NonRecordingSpan, SpanContext, TraceFlags
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import choose_encoder
from prometheus_client.openmetrics.parser import text_string_to_metric_families

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.prometheus.families import FAMILIES
from eco2_callbacks.runs.spans import current_span
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, graph_of, intent

TRACE_ID, SPAN_ID = 0xC0FFEE << 96 | 1, 0xBEEF << 48 | 2
IDS = {"otel_trace_id": "00c0ffee000000000000000000000001", "otel_span_id": "beef000000000002"}
SAMPLED = TraceFlags(TraceFlags.SAMPLED)
# Histograms that observe every token have no exemplars: they would cost more than the token.
SECONDS = {
    family.name
    for family in FAMILIES
    if family.kind == "histogram"
    and family.name.endswith("_seconds")
    and not family.name.startswith("chat_stream_token_")
}


@pytest.fixture
def tracer() -> trace.Tracer:
    """Return a tracer of its own provider; the global provider can be set once per process only."""
    return TracerProvider(shutdown_on_exit=False).get_tracer("test")


def ids_of(span: trace.Span) -> dict[str, str]:
    context = span.get_span_context()
    return {"otel_trace_id": trace.format_trace_id(context.trace_id), "otel_span_id": f"{context.span_id:016x}"}


def exemplars(registry: CollectorRegistry) -> dict[str, list[dict[str, str]]]:
    """Return the exemplars of an OpenMetrics scrape, by family."""
    encode, content_type = choose_encoder("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    found: dict[str, list[dict[str, str]]] = {}
    for family in text_string_to_metric_families(encode(registry).decode()):
        for sample in family.samples:
            if sample.exemplar is not None:
                found.setdefault(family.name, []).append(sample.exemplar.labels)
    return found


class Bins(BaseRetriever):
    def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
        return [Document("glass")]


@tool
def weigh(item: str) -> str:
    """Weigh an item."""
    return "3 g"


async def test_every_latency_carries_the_span_it_was_measured_in(
    registry: CollectorRegistry, records: Records, tracer: trace.Tracer
) -> None:
    """All histograms of seconds carry the ids of the real span; no other metric does."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], subagents=["reply"], agent_name="eco2")

    async def reply(state: State) -> State:
        await Bins().ainvoke("bottle")
        await weigh.ainvoke({"item": "bottle"})
        return {"answers": [chunk.text async for chunk in FakeModel().astream("answer")]}

    with tracer.start_as_current_span("request") as span:
        await graph_of(intent, reply).compile().ainvoke({"answers": []}, {"callbacks": [handler]})
    with tracer.start_as_current_span("scrape"):
        shown = exemplars(registry)

    wanted = {"trace_id": ids_of(span)["otel_trace_id"], "span_id": ids_of(span)["otel_span_id"]}
    assert set(shown) == SECONDS
    assert all(labels == wanted for found in shown.values() for labels in found)
    assert {(record.otel_trace_id, record.otel_span_id) for record in records.all} == {tuple(ids_of(span).values())}
    assert "trace_id" not in generate_latest(registry).decode()


async def test_each_latency_carries_its_own_span(registry: CollectorRegistry, tracer: trace.Tracer) -> None:
    """The span is the one of the event, in threads and tasks, although records are counted later."""
    handler = Eco2CallbackHandler(registry=registry)
    spans = {}

    for mode in ("invoke", "ainvoke"):
        with tracer.start_as_current_span(mode) as spans[mode]:
            model, config = FakeModel(model=mode, answered_by=None), {"callbacks": [handler]}
            if mode == "invoke":
                model.invoke("hello", config=config)
            else:
                await model.ainvoke("hello", config=config)
    shown = exemplars(registry)["llm_inference_duration_seconds"]

    assert {labels["span_id"] for labels in shown} == {ids_of(span)["otel_span_id"] for span in spans.values()}
    assert len(shown) == 2


def test_a_run_closed_from_elsewhere_keeps_its_own_span(
    registry: CollectorRegistry, records: Records, tracer: trace.Tracer
) -> None:
    """A run closed from another span keeps the span in which it started."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    with tracer.start_as_current_span("request") as span:
        handler.on_chat_model_start({}, [[]], run_id=uuid.uuid4(), metadata={"ls_provider": "openai"})
    with tracer.start_as_current_span("shutdown"):
        handler.close()

    assert (records.call.otel_trace_id, records.call.otel_span_id) == tuple(ids_of(span).values())


async def test_without_a_span_there_is_no_exemplar(registry: CollectorRegistry, records: Records) -> None:
    """With OpenTelemetry imported and no current span there is no exemplar."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

    assert exemplars(registry) == {}
    assert (records.call.otel_trace_id, records.call.otel_span_id) == (None, None)


@pytest.mark.parametrize(
    ("context", "wanted"),
    [
        (SpanContext(TRACE_ID, SPAN_ID, is_remote=True, trace_flags=SAMPLED), IDS),
        (SpanContext(TRACE_ID, SPAN_ID, is_remote=True), {}),
        (SpanContext(TRACE_ID, SPAN_ID, is_remote=False, trace_flags=SAMPLED), {}),
        (SpanContext(0, 0, is_remote=True, trace_flags=SAMPLED), {}),
    ],
    ids=["of_the_caller", "of_the_caller_unsampled", "local_unrecorded", "invalid"],
)
def test_a_propagated_span_counts_if_it_is_recorded_somewhere(context: SpanContext, wanted: dict[str, str]) -> None:
    """A caller's sampled span is recorded by the caller; an unrecorded span cannot be found."""
    with trace.use_span(NonRecordingSpan(context)):
        assert current_span() == wanted


def test_a_span_that_is_not_sampled_is_no_exemplar() -> None:
    """An exemplar leads to a trace, so the trace must have been kept."""
    tracer = TracerProvider(sampler=ALWAYS_OFF, shutdown_on_exit=False).get_tracer("test")

    with tracer.start_as_current_span("request"):
        assert current_span() == {}


def test_opentelemetry_is_never_imported_for_it(monkeypatch: pytest.MonkeyPatch, tracer: trace.Tracer) -> None:
    """Where nothing has imported OpenTelemetry there is no span, and the handler does not import it."""
    with tracer.start_as_current_span("request"):
        monkeypatch.delitem(sys.modules, "opentelemetry.trace")

        assert current_span() == {}
        assert "opentelemetry.trace" not in sys.modules


@pytest.mark.parametrize("module", [SimpleNamespace(), SimpleNamespace(get_current_span=object)], ids=["half", "odd"])
def test_a_span_that_cannot_be_read_costs_no_record(
    registry: CollectorRegistry, records: Records, monkeypatch: pytest.MonkeyPatch, module: Any
) -> None:
    """A partly imported module or an unknown kind of span leaves the record without span ids."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", module)

    FakeModel().invoke("hello", config={"callbacks": [handler]})

    assert records.call.otel_trace_id is None
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "on_chat_model_start"}) == 0


def test_in_multiprocess_mode_the_latency_counts_without_its_exemplar(tmp_path: Path) -> None:
    """prometheus_client's files hold the observation without its exemplar."""
    worker = (
        "import uuid\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "from prometheus_client import CollectorRegistry\n"
        "from prometheus_client.multiprocess import MultiProcessCollector\n"
        "from prometheus_client.openmetrics.exposition import generate_latest\n"
        "from eco2_callbacks import Eco2CallbackHandler\n"
        "handler = Eco2CallbackHandler(registry=CollectorRegistry())\n"
        "with TracerProvider().get_tracer('test').start_as_current_span('request'):\n"
        "    run = uuid.uuid4()\n"
        "    handler.on_tool_start({'name': 'weigh'}, '', run_id=run)\n"
        "    handler.on_tool_end('3 g', run_id=run)\n"
        "registry = CollectorRegistry(); MultiProcessCollector(registry)\n"
        "print(registry.get_sample_value('tool_execution_duration_seconds_count',\n"
        "    {'tool_name': 'weigh', 'agent_name': ''}), b'trace_id' in generate_latest(registry))\n"
    )
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    completed = subprocess.run(
        [sys.executable, "-c", worker], env=environment, check=True, capture_output=True, text=True
    )

    assert completed.stdout.strip() == "1.0 False"
    assert "Traceback" not in completed.stderr
