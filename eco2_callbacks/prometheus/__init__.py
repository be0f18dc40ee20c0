"""Prometheus: the metric contract, and what fills it."""

from __future__ import annotations

from eco2_callbacks.prometheus.budget_metrics import BudgetFigures, BudgetMetrics
from eco2_callbacks.prometheus.exporter import PrometheusExporter
from eco2_callbacks.prometheus.families import FAMILIES, Family
from eco2_callbacks.prometheus.ledger_metrics import LEDGER_FAMILIES, LedgerMetrics
from eco2_callbacks.prometheus.price_metrics import PriceMetrics
from eco2_callbacks.prometheus.stream_metrics import Recovery, RecoveryStatus, StreamMetrics

__all__ = [
    "FAMILIES",
    "LEDGER_FAMILIES",
    "BudgetFigures",
    "BudgetMetrics",
    "Family",
    "LedgerMetrics",
    "PriceMetrics",
    "PrometheusExporter",
    "Recovery",
    "RecoveryStatus",
    "StreamMetrics",
]
