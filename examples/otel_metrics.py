"""Export tokens, seconds and dollars as OpenTelemetry's GenAI metrics, here to the console; runs without keys."""

from __future__ import annotations

import sys

from langchain_core.runnables import RunnableLambda
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import ConsoleMetricExporter, PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, OtelMetricsSink, TokenUsage
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=1000, output_tokens=100))
chain = RunnableLambda(lambda question: question) | model

if __name__ == "__main__":
    # In production: OTLPMetricExporter() of opentelemetry-exporter-otlp-proto-http, which reads OTEL_EXPORTER_OTLP_*.
    reader = PeriodicExportingMetricReader(ConsoleMetricExporter(out=sys.stdout), export_interval_millis=60_000)
    provider = MeterProvider([reader])
    sinks = [OtelMetricsSink(provider)]
    with Eco2CallbackHandler(registry=CollectorRegistry(), agent_name="guide", sinks=sinks) as handler:
        chain.invoke("Where does glass go?", {"callbacks": [handler]})
    provider.shutdown()
