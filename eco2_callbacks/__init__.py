"""Cost and token telemetry for LangChain and LangGraph: one handler, attached once.

A public name is imported with its first use, so that a program loads only what it uses.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eco2_callbacks.budgets import (
        BudgetEvent,
        BudgetReport,
        BudgetRule,
        Budgets,
        BudgetState,
        Webhook,
        budget_state,
    )
    from eco2_callbacks.embeddings import MeasuredEmbeddings
    from eco2_callbacks.errors import (
        BudgetExceeded,
        BudgetStoreError,
        ConfigError,
        Eco2CallbacksError,
        LedgerError,
        RatesFileError,
        UnknownModelError,
        UsageError,
    )
    from eco2_callbacks.handler import Eco2CallbackHandler
    from eco2_callbacks.handler_parts import Budget
    from eco2_callbacks.langsmith import Feature, Features, Otel
    from eco2_callbacks.ledger import LedgerSink, LedgerWatcher
    from eco2_callbacks.measurement import Measurement
    from eco2_callbacks.otel_metrics import OtelMetricsSink as OtelMetricsSink
    from eco2_callbacks.own_runs import Operation, SDKCall, ToolRun
    from eco2_callbacks.pricing import Adjustment, Cost, ExchangeRates, Price, PriceBook, Quote, Rate, RatesUsed
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
    from eco2_callbacks.request_config import Identifier, LangSmithTelemetry, NoTelemetry, TelemetryConfig, run_config
    from eco2_callbacks.runs import AttributionKeys, Feedback
    from eco2_callbacks.settings import Settings
    from eco2_callbacks.sinks import LiveSink, RunKind, RunStart, Sink
    from eco2_callbacks.terminal import TerminalSink as TerminalSink
    from eco2_callbacks.totals import Totals
    from eco2_callbacks.usage import Estimator, TokenUsage

__all__ = [
    "Adjustment",
    "AttributionKeys",
    "Budget",
    "BudgetEvent",
    "BudgetExceeded",
    "BudgetReport",
    "BudgetRule",
    "BudgetState",
    "BudgetStoreError",
    "Budgets",
    "ConfigError",
    "Cost",
    "CostSource",
    "Eco2CallbackHandler",
    "Eco2CallbacksError",
    "EstimateReason",
    "Estimator",
    "ExchangeRates",
    "Feature",
    "Features",
    "Feedback",
    "GraphRun",
    "Identifier",
    "LLMCall",
    "LangSmithTelemetry",
    "LedgerError",
    "LedgerSink",
    "LedgerWatcher",
    "LiveSink",
    "MeasuredEmbeddings",
    "Measurement",
    "NoTelemetry",
    "NodeRun",
    "Operation",
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
    "RunKind",
    "RunStart",
    "SDKCall",
    "Settings",
    "Sink",
    "Status",
    "StreamMetrics",
    "TelemetryConfig",
    "TokenUsage",
    "ToolCall",
    "ToolRun",
    "Totals",
    "UnknownModelError",
    "UnpricedReason",
    "UsageError",
    "Webhook",
    "budget_state",
    "run_config",
]

_MODULES = {
    "eco2_callbacks.budgets": (
        "BudgetEvent",
        "BudgetReport",
        "BudgetRule",
        "BudgetState",
        "Budgets",
        "Webhook",
        "budget_state",
    ),
    "eco2_callbacks.embeddings": ("MeasuredEmbeddings",),
    "eco2_callbacks.errors": (
        "BudgetExceeded",
        "BudgetStoreError",
        "ConfigError",
        "Eco2CallbacksError",
        "LedgerError",
        "RatesFileError",
        "UnknownModelError",
        "UsageError",
    ),
    "eco2_callbacks.handler": ("Eco2CallbackHandler",),
    "eco2_callbacks.handler_parts": ("Budget",),
    "eco2_callbacks.langsmith": ("Feature", "Features", "Otel"),
    "eco2_callbacks.ledger": ("LedgerSink", "LedgerWatcher"),
    "eco2_callbacks.measurement": ("Measurement",),
    "eco2_callbacks.own_runs": ("Operation", "SDKCall", "ToolRun"),
    "eco2_callbacks.pricing": (
        *("Adjustment", "Cost", "ExchangeRates", "Price", "PriceBook", "Quote", "Rate", "RatesUsed"),
    ),
    "eco2_callbacks.prometheus": ("Recovery", "RecoveryStatus", "StreamMetrics"),
    "eco2_callbacks.records": (
        "CostSource",
        "EstimateReason",
        "GraphRun",
        "LLMCall",
        "NodeRun",
        "Record",
        "RetrieverCall",
        "RetryReason",
        "Status",
        "ToolCall",
        "UnpricedReason",
    ),
    "eco2_callbacks.request_config": (
        "Identifier",
        "LangSmithTelemetry",
        "NoTelemetry",
        "TelemetryConfig",
        "run_config",
    ),
    "eco2_callbacks.runs": ("AttributionKeys", "Feedback"),
    "eco2_callbacks.settings": ("Settings",),
    "eco2_callbacks.sinks": ("LiveSink", "RunKind", "RunStart", "Sink"),
    "eco2_callbacks.totals": ("Totals",),
    "eco2_callbacks.usage": ("Estimator", "TokenUsage"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}
# Outputs that load a large package; ``OtelMetricsSink`` needs the extra ``otel``.
_OUTPUTS = {"OtelMetricsSink": "eco2_callbacks.otel_metrics", "TerminalSink": "eco2_callbacks.terminal"}


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        value: Any = version("eco2-callbacks")
    elif name in _MODULE_OF:
        value = getattr(import_module(_MODULE_OF[name]), name)
    elif name in _OUTPUTS:
        try:
            return getattr(import_module(_OUTPUTS[name]), name)
        except ModuleNotFoundError as error:
            raise ImportError(
                f"{name} needs the package {error.name!r}; install it: pip install 'eco2-callbacks[otel]'."
            ) from error
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, "__version__"})
