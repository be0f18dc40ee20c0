"""Cost and token telemetry for LangChain and LangGraph: one handler, attached once."""

from __future__ import annotations

from importlib.metadata import version

from eco2_callbacks.errors import ConfigError, Eco2CallbacksError, RatesFileError, UnknownModelError, UsageError
from eco2_callbacks.handler import Budget, Eco2CallbackHandler
from eco2_callbacks.langsmith import Feature, Features, Otel
from eco2_callbacks.own_runs import SDKCall, ToolRun
from eco2_callbacks.pricing import Cost, Price, PriceBook, Quote, Rate, RatesUsed
from eco2_callbacks.prometheus import Recovery, RecoveryStatus, StreamMetrics
from eco2_callbacks.records import (
    CostSource,
    EstimateReason,
    GraphRun,
    LLMCall,
    NodeRun,
    Record,
    RetrieverCall,
    RetryReason,
    Status,
    ToolCall,
    UnpricedReason,
)
from eco2_callbacks.run_config import Identifier, LangSmithTelemetry, NoTelemetry, TelemetryConfig, run_config
from eco2_callbacks.runs import AttributionKeys, Feedback
from eco2_callbacks.settings import Settings
from eco2_callbacks.sinks import Sink
from eco2_callbacks.usage import Estimator, TokenUsage

__all__ = [
    "AttributionKeys",
    "Budget",
    "ConfigError",
    "Cost",
    "CostSource",
    "Eco2CallbackHandler",
    "Eco2CallbacksError",
    "EstimateReason",
    "Estimator",
    "Feature",
    "Features",
    "Feedback",
    "GraphRun",
    "Identifier",
    "LLMCall",
    "LangSmithTelemetry",
    "NoTelemetry",
    "NodeRun",
    "Otel",
    "Price",
    "PriceBook",
    "Quote",
    "Rate",
    "RatesFileError",
    "RatesUsed",
    "Record",
    "Recovery",
    "RecoveryStatus",
    "RetrieverCall",
    "RetryReason",
    "SDKCall",
    "Settings",
    "Sink",
    "Status",
    "StreamMetrics",
    "TelemetryConfig",
    "TokenUsage",
    "ToolCall",
    "ToolRun",
    "UnknownModelError",
    "UnpricedReason",
    "UsageError",
    "run_config",
]

__version__ = version("eco2-callbacks")
