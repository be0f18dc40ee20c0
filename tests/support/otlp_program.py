"""An application traced by LangSmith's SDK, run as a process of its own.

The global tracer provider can be set only once per process. The arguments say how the application is built, and it
prints its records as JSON.
"""

from __future__ import annotations

import json
import operator
import os
import sys
from contextlib import ExitStack
from typing import Annotated, TypedDict

from langchain_core.tracers.langchain import wait_for_all_tracers
from langgraph.graph import END, START, StateGraph
from langsmith import Client, traceable
from opentelemetry import trace
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.record_sink import Records


class State(TypedDict):
    answers: Annotated[list[str], operator.add]


def answer(state: State) -> State:
    """Call the model."""
    return {"answers": [str(FakeModel(usage=DETAILED_USAGE).invoke("where does glass go?").content)]}


def main(*how: str) -> None:
    """Run the graph once."""
    if "own-provider" in how:
        provider = TracerProvider()
        provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
        trace.set_tracer_provider(provider)
    client = Client() if "client-first" in how else None
    records = Records()
    handler = None
    if "no-handler" not in how:
        handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records])
    graph = StateGraph(State)
    graph.add_node("answer", answer)
    graph.add_edge(START, "answer")
    graph.add_edge("answer", END)
    ask = graph.compile().invoke
    if "traceable" in how:
        ask = traceable(ask, name="request")

    with ExitStack() as stack:
        if "own-provider" in how:
            stack.enter_context(trace.get_tracer("application").start_as_current_span("request"))
        ask({"answers": []}, {"callbacks": [handler] if handler else []})

    wait_for_all_tracers()
    if client is not None:
        client.flush()
    provider = trace.get_tracer_provider()
    if isinstance(provider, TracerProvider):
        provider.shutdown()
    summaries = [
        {
            "kind": type(record).__name__,
            "trace_id": record.otel_trace_id,
            "span_id": record.otel_span_id,
            "cost": None if (cost := getattr(record, "cost", None)) is None else str(cost.total_usd),
        }
        for record in records.all
    ]
    json.dump({"records": summaries, "headers": os.environ.get("OTEL_EXPORTER_OTLP_HEADERS")}, sys.stdout)


if __name__ == "__main__":
    main(*sys.argv[1:])
