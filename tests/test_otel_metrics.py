"""OtelMetricsSink: OpenTelemetry's GenAI metrics, read back from a real OTLP receiver."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader
from prometheus_client import CollectorRegistry

import eco2_callbacks
from eco2_callbacks import ConfigError, Eco2CallbackHandler, OtelMetricsSink, TokenUsage
from eco2_callbacks.testing import FakeChatModel
from tests.support.otlp_receiver import receiving

USAGE = TokenUsage(input_tokens=1000, output_tokens=100)
SECONDS = [0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92]


class Point(NamedTuple):
    attributes: dict[str, Any]
    count: int
    total: float
    boundaries: list[float]
    unit: str


def exported(work: Any, **sink: Any) -> dict[str, list[Point]]:
    """Return what a receiver got from a piece of work, by metric."""
    with receiving() as receiver:
        reader = PeriodicExportingMetricReader(OTLPMetricExporter(f"{receiver.url}/v1/metrics"), 3_600_000)
        provider = MeterProvider([reader])
        with Eco2CallbackHandler(
            registry=CollectorRegistry(), agent_name="guide", sinks=[OtelMetricsSink(provider, **sink)]
        ) as handler:
            work({"callbacks": [handler]})
        provider.shutdown()
        bodies = [request.body for request in receiver.requests if request.path.endswith("/v1/metrics")]
    points: dict[str, list[Point]] = {}
    for body in bodies:
        for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
            for metric in (metric for scope in resource.scope_metrics for metric in scope.metrics):
                points[metric.name] = [_point(point, metric) for point in _data(metric).data_points]
    return points


def _data(metric: Any) -> Any:
    return metric.histogram if metric.HasField("histogram") else metric.sum


def _point(point: Any, metric: Any) -> Point:
    attributes = {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in point.attributes}
    if metric.HasField("histogram"):
        return Point(attributes, point.count, point.sum, list(point.explicit_bounds), metric.unit)
    return Point(attributes, 1, point.as_double or point.as_int, [], metric.unit)


CHAT = {
    "gen_ai.operation.name": "chat",
    "gen_ai.provider.name": "gcp.gemini",
    "gen_ai.request.model": "gemini-3-flash-preview",
    "gen_ai.response.model": "gemini-3-flash-preview",
}


def test_a_streamed_call_has_the_standards_names_attributes_and_buckets() -> None:
    """Tokens by type, seconds, and seconds to the first chunk, with the provider's name as the standard has it."""
    model = FakeChatModel(model="gemini-3-flash-preview", provider="google_genai", usage=USAGE)

    points = exported(lambda config: list(model.stream("x", config)))

    tokens = {point.attributes["gen_ai.token.type"]: point for point in points["gen_ai.client.token.usage"]}
    assert {kind: (point.count, point.total) for kind, point in tokens.items()} == {
        "input": (1, 1000),
        "output": (1, 100),
    }
    assert tokens["input"].attributes == CHAT | {"gen_ai.token.type": "input"}
    assert tokens["input"].boundaries[:3] + tokens["input"].boundaries[-1:] == [1, 4, 16, 67108864]
    for name in ("gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk"):
        (point,) = points[name]
        assert (point.attributes, point.count, point.boundaries, point.unit) == (CHAT, 1, SECONDS, "s")


def test_the_cost_is_the_records_cost() -> None:
    """Dollars are a counter, with what they rest on; a call without a price is counted, not charged zero."""
    priced, unknown = FakeChatModel(usage=USAGE), FakeChatModel(model="nobody-sells-this", usage=USAGE)

    def work(config: Any) -> None:
        priced.batch(["x", "y"], config)
        unknown.invoke("x", config)

    points = exported(work)

    (cost,) = points["gen_ai.client.usage.cost"]
    # gpt-5.2: 2 x (1000 x 1.75 + 100 x 14) / 1e6
    assert (cost.total, cost.unit) == (pytest.approx(0.0063), "{USD}")
    assert cost.attributes["gen_ai.usage.cost.currency"] == "USD"
    assert cost.attributes["gen_ai.usage.cost.source"] == "rates"
    assert cost.attributes["gen_ai.usage.cost.estimated"] is False
    (unpriced,) = points["gen_ai.client.usage.unpriced_calls"]
    assert (unpriced.total, unpriced.attributes["reason"]) == (1, "unknown_model")
    assert len(points["gen_ai.client.operation.duration"]) == 2


def test_tools_and_agents_are_timed() -> None:
    """A tool and the request around it have their own histograms."""

    def weigh(item: str) -> str:
        """Weigh."""
        return item

    calls_tool = AIMessage("", tool_calls=[{"name": "weigh", "args": {"item": "sofa"}, "id": "1"}])
    agent = create_agent(FakeChatModel(answers=[calls_tool, "3 kg"]), [weigh])

    points = exported(lambda config: agent.invoke({"messages": [("user", "x")]}, config))

    (tool,) = points["gen_ai.execute_tool.duration"]
    assert tool.attributes == {"gen_ai.tool.name": "weigh", "gen_ai.agent.name": "guide"}
    assert tool.boundaries == SECONDS
    (request,) = points["gen_ai.invoke_agent.duration"]
    assert (request.attributes, request.count) == ({"gen_ai.agent.name": "guide"}, 1)
    assert request.boundaries[:2] == [0.1, 0.2]


def test_a_failure_has_its_error_type() -> None:
    """error.type is the exception's class; a failed call has no invented tokens."""
    model = FakeChatModel(answers=[TimeoutError("x")])

    def work(config: Any) -> None:
        with pytest.raises(TimeoutError):
            model.invoke("x", config)

    points = exported(work)

    (point,) = points["gen_ai.client.operation.duration"]
    assert point.attributes["error.type"] == "TimeoutError"
    assert "gen_ai.client.token.usage" not in points


def test_names_are_bounded() -> None:
    """A name per request cannot grow the series without bound."""

    def work(config: Any) -> None:
        for number in range(5):
            FakeChatModel(model=f"model-{number}").invoke("x", config)

    points = exported(work, max_values=2)

    names = {point.attributes["gen_ai.request.model"] for point in points["gen_ai.client.operation.duration"]}
    assert names == {"model-0", "model-1", "other"}


@pytest.mark.parametrize("wrong", [0, "many", True])
def test_an_impossible_bound_is_refused(wrong: Any) -> None:
    """The error says what came, what was wanted and what to do."""
    with pytest.raises(ConfigError, match=r"max_values= is .*, wanted a whole number of 1 or more; pass 100\."):
        OtelMetricsSink(max_values=wrong)


def test_without_opentelemetry_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package works without OpenTelemetry; only this sink needs it."""
    monkeypatch.delitem(sys.modules, "eco2_callbacks.otel_metrics")
    monkeypatch.setitem(sys.modules, "opentelemetry.metrics", None)

    with pytest.raises(ImportError, match=r"pip install 'eco2-callbacks\[otel\]'"):
        _ = eco2_callbacks.OtelMetricsSink
