"""Cost and token telemetry for LangChain and LangGraph: one handler, attached once."""

from __future__ import annotations

from eco2_callbacks.config import Settings
from eco2_callbacks.errors import ConfigError, Eco2CallbacksError, RatesFileError, UnknownModelError, UsageError
from eco2_callbacks.features import Feature
from eco2_callbacks.handler import Budget, Eco2CallbackHandler
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.rates import Rate
from eco2_callbacks.records import Cost, GraphRun, LLMCall, NodeRun, Record, RetrieverCall, Sink, ToolCall
from eco2_callbacks.runconfig import LangSmithTelemetry, NoTelemetry, TelemetryConfig, run_config
from eco2_callbacks.usage import TokenUsage

__all__ = [
    "Budget",
    "ConfigError",
    "Cost",
    "Eco2CallbackHandler",
    "Eco2CallbacksError",
    "Feature",
    "GraphRun",
    "LLMCall",
    "LangSmithTelemetry",
    "NoTelemetry",
    "NodeRun",
    "PriceBook",
    "Rate",
    "RatesFileError",
    "Record",
    "RetrieverCall",
    "Settings",
    "Sink",
    "TelemetryConfig",
    "TokenUsage",
    "ToolCall",
    "UnknownModelError",
    "UsageError",
    "run_config",
]
