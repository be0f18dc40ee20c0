"""Reads the rules, and finds the faults of a query, for the tests of rules, runbooks and dashboards."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import promql_parser
import yaml
from prometheus_client import CollectorRegistry
from prometheus_client.samples import Sample
from prometheus_client.utils import floatToGoString

from eco2_callbacks.prometheus import LEDGER_FAMILIES
from eco2_callbacks.prometheus.families import BUDGET_FAMILIES, FAMILIES
from graph.jobs import JobMetrics
from tests.support.programs import program

__all__ = [
    "DEPLOY",
    "RULES",
    "Rule",
    "alerts",
    "faults",
    "labels",
    "output_of",
    "read",
    "rules",
    "selectors",
    "series_labels",
]

DEPLOY = Path(__file__).parents[2] / "deploy"
RULES = DEPLOY / "prometheus" / "rules"
# The labels that Prometheus adds to every sample, and its own series.
_TARGET = frozenset({"job", "instance", "namespace"})
_SELECTING = {"topk", "bottomk"}  # these keep the labels of their input
_OWN = {
    "up": _TARGET,
    "process_start_time_seconds": _TARGET,  # by prometheus_client, on its default registry
    "scrape_duration_seconds": _TARGET,
    "ALERTS": frozenset({"alertname", "alertstate", "severity", "team", "service"}),
}


@dataclass(frozen=True)
class Rule:
    """One alert or recording rule."""

    name: str
    is_alert: bool
    expr: str
    holds_for: str = ""
    keeps_firing_for: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


def output_of(*command: str | Path, status: int = 0) -> str:
    """Run a program of Debian's packages, check its exit status, and return its output. CI must have the program."""
    program(str(command[0]), package="prometheus prometheus-alertmanager")
    # No shell, and only the tests' own arguments.
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=300, check=False)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == (status == 0), output
    return output


def read(file: Path) -> Any:
    """Return the content of a YAML file. The C loader is used because tests read the files many times."""
    return yaml.load(file.read_text(), yaml.CSafeLoader)


@cache
def rules() -> tuple[Rule, ...]:
    """Return all rules in the order of files and lines."""
    return tuple(
        Rule(
            name=rule.get("alert") or rule["record"],
            is_alert="alert" in rule,
            expr=rule["expr"],
            holds_for=rule.get("for", ""),
            keeps_firing_for=rule.get("keep_firing_for", ""),
            labels=rule.get("labels", {}),
            annotations=rule.get("annotations", {}),
        )
        for file in sorted(RULES.glob("*.yaml"))
        for group in read(file)["groups"]
        for rule in group["rules"]
    )


def alerts() -> list[Rule]:
    """Return the alerts. Alerts with the same name differ in severity."""
    return [rule for rule in rules() if rule.is_alert]


def selectors(query: str) -> list[promql_parser.VectorSelector]:
    """Return all vector selectors of a query."""
    found: list[promql_parser.VectorSelector] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def faults(query: str) -> list[str]:
    """Return the metrics, labels and bucket bounds in a query that do not exist."""
    found: list[str] = []

    def visit(node: Any) -> bool:
        if isinstance(node, promql_parser.VectorSelector):
            found.extend(_faults_of_selector(node))
        elif isinstance(node, promql_parser.AggregateExpr) and node.modifier is not None:
            found.extend(f"no label {name} to aggregate by" for name in set(node.modifier.labels) - labels(node.expr))
        elif isinstance(node, promql_parser.BinaryExpr) and node.modifier is not None and node.modifier.matching:
            both = labels(node.lhs) & labels(node.rhs)
            found.extend(f"no label {name} to match on" for name in set(node.modifier.matching.labels) - both)
        return True

    promql_parser.walk(promql_parser.parse(query), visit)
    return found


def series_labels(name: str) -> frozenset[str]:
    """Return the labels of an exported or recorded series.

    Raises:
        KeyError: If nothing exports it.
    """
    return _series()[name]


def labels(node: str | promql_parser.Expr) -> frozenset[str]:
    """Return the labels that the result of a query, or of a part of it, can have."""
    return _labels(promql_parser.parse(node) if isinstance(node, str) else node, _series())


def _labels(node: Any, series: Mapping[str, frozenset[str]]) -> frozenset[str]:
    if isinstance(node, promql_parser.VectorSelector):
        return series.get(node.name, frozenset())
    if isinstance(node, promql_parser.MatrixSelector):
        return _labels(node.vector_selector, series)
    if isinstance(node, promql_parser.AggregateExpr) and str(node.op) in _SELECTING:
        return _labels(node.expr, series)
    if isinstance(node, promql_parser.AggregateExpr):
        return frozenset(node.modifier.labels) if node.modifier is not None else frozenset()
    if isinstance(node, promql_parser.BinaryExpr):
        left, right = _labels(node.lhs, series), _labels(node.rhs, series)
        # A union keeps the labels of both sides. Other operators keep those of the left side, unless it is a number.
        return left | right if str(node.op) == "or" else left or right
    if isinstance(node, promql_parser.Call):
        return frozenset[str]().union(*(_labels(argument, series) for argument in node.args))
    if isinstance(node, promql_parser.ParenExpr | promql_parser.SubqueryExpr | promql_parser.UnaryExpr):
        return _labels(node.expr, series)
    return frozenset()


def _faults_of_selector(selector: Any) -> Iterator[str]:
    series = _series()
    if selector.name not in series:
        yield f"no metric {selector.name}"
        return
    for matcher in selector.matchers.matchers:
        if matcher.name not in series[selector.name]:
            yield f"no label {matcher.name} on {selector.name}"
        elif matcher.name == "le" and matcher.value not in _bounds()[selector.name]:
            yield f"no bound {matcher.value} on {selector.name}"


@cache
def _series() -> dict[str, frozenset[str]]:
    """Return the labels of every series, by its name."""
    series = dict(_OWN)
    for family in (*FAMILIES, *BUDGET_FAMILIES, *LEDGER_FAMILIES):
        own = _TARGET | set(family.labels)
        if family.kind == "histogram":
            series |= {f"{family.name}_bucket": own | {"le"}, f"{family.name}_count": own, f"{family.name}_sum": own}
        else:
            series[family.name] = own
    series |= {name: _TARGET | set(labels) for name, labels in _job_series().items()}
    recorded = {rule.name: rule for rule in rules() if not rule.is_alert}
    # A recording rule may depend on another, in any order.
    for _ in recorded:
        for name, rule in recorded.items():
            series[name] = _labels(promql_parser.parse(rule.expr), series) | rule.labels.keys()
    return series


@cache
def _bounds() -> dict[str, set[str]]:
    """Return the bounds of every histogram in the exposition's format, by the name of its buckets."""
    bounds = {
        f"{family.name}_bucket": {floatToGoString(bound) for bound in (*family.buckets, float("inf"))}
        for family in (*FAMILIES, *BUDGET_FAMILIES, *LEDGER_FAMILIES)
        if family.kind == "histogram"
    }
    for sample in _job_samples():
        if "le" in sample.labels:
            bounds.setdefault(sample.name, set()).add(sample.labels["le"])
    return bounds


@cache
def _job_samples() -> tuple[Sample, ...]:
    """Return one sample of each series that API and worker expose beside the handler's."""
    registry = CollectorRegistry()
    metrics = JobMetrics(registry)
    metrics.started(0)
    metrics.redelivered()
    metrics.ended("waste", "success", 0)
    return tuple(sample for family in registry.collect() for sample in family.samples)


def _job_series() -> dict[str, frozenset[str]]:
    return {sample.name: frozenset(sample.labels) for sample in _job_samples()}
