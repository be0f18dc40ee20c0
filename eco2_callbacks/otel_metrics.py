"""OtelMetricsSink: records as OpenTelemetry's GenAI metrics. Needs the extra ``otel``."""

from __future__ import annotations

from typing import Final, NamedTuple

from opentelemetry.metrics import Histogram, Meter, MeterProvider, get_meter
from opentelemetry.util.types import AttributeValue

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.records import GraphRun, LLMCall, Record, ToolCall

__all__ = ["COST_NAMES", "PROVIDER_NAMES", "OtelMetricsSink"]


class _CostNames(NamedTuple):
    metric: str
    unpriced: str
    currency: str
    source: str
    estimated: str


# The standard has no cost yet, only a proposal for spans: https://github.com/open-telemetry/semantic-conventions-genai
COST_NAMES: Final = _CostNames(
    metric="gen_ai.client.usage.cost",
    unpriced="gen_ai.client.usage.unpriced_calls",
    currency="gen_ai.usage.cost.currency",
    source="gen_ai.usage.cost.source",
    estimated="gen_ai.usage.cost.estimated",
)
# https://github.com/open-telemetry/semantic-conventions-genai/blob/main/docs/gen-ai/gen-ai-metrics.md, 2026-11
_TOKENS: Final = (1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864)
_SECONDS: Final = (0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92)
_AGENT_SECONDS: Final = (0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 51.2, 102.4, 204.8, 409.6)
PROVIDER_NAMES: Final = {
    "amazon_bedrock": "aws.bedrock",
    "azure": "azure.ai.openai",
    "azure_openai": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "google_genai": "gcp.gemini",
    "google_vertexai": "gcp.vertex_ai",
    "ibm": "ibm.watsonx.ai",
    "mistralai": "mistral_ai",
    "moonshot": "moonshot_ai",
    "xai": "x_ai",
}
"""LangChain's names of providers -> OpenTelemetry's."""
_OTHER_ERROR: Final = "_OTHER"
_OVERFLOW: Final = "other"

_Attributes = dict[str, AttributeValue]


class OtelMetricsSink:
    """Records each model call, tool and request in the instruments of OpenTelemetry's GenAI conventions.

    ================================================  ========================================================
    Instrument                                        Counts
    ================================================  ========================================================
    ``gen_ai.client.token.usage``                     input and output tokens of a model call
    ``gen_ai.client.operation.duration``              seconds of a model call
    ``gen_ai.client.operation.time_to_first_chunk``   the same to the first chunk of a stream
    ``gen_ai.execute_tool.duration``                  seconds of a tool
    ``gen_ai.invoke_agent.duration``                  seconds of a request
    names in ``COST_NAMES``                           dollars of a model call; calls without a price
    ================================================  ========================================================

    Args:
        meter_provider: The application's; None for the global one.
        max_values: Number of values of a model's, tool's or agent's name; later ones become ``other``.

    Raises:
        ConfigError: If ``max_values`` is below 1.
    """

    def __init__(self, meter_provider: MeterProvider | None = None, *, max_values: int = 100) -> None:
        if type(max_values) is not int or max_values < 1:
            raise ConfigError(f"max_values= is {max_values!r}, wanted a whole number of 1 or more; pass 100.")
        meter = get_meter("eco2_callbacks", meter_provider=meter_provider)
        self._tokens = _histogram(meter, "gen_ai.client.token.usage", "{token}", _TOKENS)
        self._duration = _histogram(meter, "gen_ai.client.operation.duration", "s", _SECONDS)
        self._first_chunk = _histogram(meter, "gen_ai.client.operation.time_to_first_chunk", "s", _SECONDS)
        self._tool = _histogram(meter, "gen_ai.execute_tool.duration", "s", _SECONDS)
        self._agent = _histogram(meter, "gen_ai.invoke_agent.duration", "s", _AGENT_SECONDS)
        self._cost = meter.create_counter(COST_NAMES.metric, unit="{USD}", description="Cost of model calls.")
        self._unpriced = meter.create_counter(
            COST_NAMES.unpriced, unit="{call}", description="Model calls whose cost is unknown in whole or in part."
        )
        self._max_values = max_values
        self._values: dict[str, set[str]] = {}

    def emit(self, record: Record) -> None:
        """Record one model call, tool or request."""
        match record:
            case LLMCall():
                self._record_call(record)
            case ToolCall():
                attributes = self._named({"gen_ai.tool.name": record.tool_name, "gen_ai.agent.name": record.agent_name})
                self._tool.record(record.duration_seconds, attributes | _error(record))
            case GraphRun():
                attributes = self._named({"gen_ai.agent.name": record.agent_name})
                self._agent.record(record.duration_seconds, attributes | _error(record))

    def _record_call(self, call: LLMCall) -> None:
        names = {"gen_ai.request.model": call.request_model, "gen_ai.response.model": call.model}
        attributes: _Attributes = {
            "gen_ai.operation.name": call.operation,
            "gen_ai.provider.name": PROVIDER_NAMES.get(call.provider, call.provider) or _OVERFLOW,
            **self._named(names),
        }
        self._duration.record(call.duration_seconds, attributes | _error(call))
        if call.time_to_first_token_seconds is not None:
            self._first_chunk.record(call.time_to_first_token_seconds, attributes)
        if call.from_cache:
            return  # LangChain's cache answered: nothing was consumed
        if call.usage is not None:
            for kind, tokens in (("input", call.usage.input_tokens), ("output", call.usage.output_tokens)):
                if tokens or kind == "input" or call.operation != "embeddings":
                    self._tokens.record(tokens, attributes | {"gen_ai.token.type": kind})
        if call.cost is not None:
            paid: _Attributes = {
                COST_NAMES.currency: "USD",
                COST_NAMES.source: call.cost_source,
                COST_NAMES.estimated: call.estimated,
            }
            self._cost.add(float(call.cost.total_usd), attributes | paid)
        if call.unpriced_reason is not None:
            self._unpriced.add(1, attributes | {"reason": call.unpriced_reason})

    def _named(self, names: dict[str, str]) -> _Attributes:
        """Return the names that are known, each as one of a bounded number of values."""
        return {key: self._bounded(key, name) for key, name in names.items() if name}

    def _bounded(self, key: str, value: str) -> str:
        known = self._values.setdefault(key, set())
        if value not in known:
            if len(known) >= self._max_values:
                return _OVERFLOW
            known.add(value)
        return value


def _histogram(meter: Meter, name: str, unit: str, boundaries: tuple[float, ...]) -> Histogram:
    return meter.create_histogram(name, unit=unit, explicit_bucket_boundaries_advisory=boundaries)


def _error(record: LLMCall | ToolCall | GraphRun) -> _Attributes:
    if record.status not in ("error", "cancelled"):
        return {}
    return {"error.type": record.error_type or _OTHER_ERROR}
