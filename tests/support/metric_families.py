"""Finds the metric family of a sample by its name."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from eco2_callbacks.prometheus import LEDGER_FAMILIES
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES, FAMILIES, Family
from graph.jobs import JobMetrics

__all__ = ["family_of", "job_metrics"]

_FAMILIES = {
    f"{family.name}{suffix}": family
    for family in (*FAMILIES, *BUDGET_FAMILIES, *LEDGER_FAMILIES)
    for suffix in (("_bucket", "_sum", "_count") if family.kind == "histogram" else ("",))
}


def job_metrics() -> dict[str, str]:
    """Return the samples of the chat service's jobs, each with the name of its family."""
    suffixes = {"histogram": ("_bucket", "_sum", "_count"), "counter": ("_total",), "gauge": ("",)}
    return {
        f"{family.name}{suffix}": family.name + ("_total" if family.type == "counter" else "")
        for family in JobMetrics(CollectorRegistry()).collect()
        for suffix in suffixes[family.type]
    }


def family_of(name: str) -> Family | None:
    """Return the handler's family of a sample, or None if the handler has no such family."""
    return _FAMILIES.get(name)
