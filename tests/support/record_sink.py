"""A sink that keeps its records, and a sum over all samples of a metric."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry

from eco2_callbacks import GraphRun, LLMCall, NodeRun, Record


class Records:
    """Keeps every record that is emitted to it."""

    def __init__(self) -> None:
        self.all: list[Record] = []

    def emit(self, record: Record) -> None:
        self.all.append(record)

    def of(self, kind: type[Any]) -> list[Any]:
        return [record for record in self.all if isinstance(record, kind)]

    @property
    def calls(self) -> list[LLMCall]:
        return self.of(LLMCall)

    @property
    def call(self) -> LLMCall:
        (call,) = self.calls
        return call

    @property
    def nodes(self) -> dict[str, NodeRun]:
        return {run.node: run for run in self.of(NodeRun)}

    @property
    def request(self) -> GraphRun:
        (request,) = self.of(GraphRun)
        return request


def exposed(registry: CollectorRegistry, name: str) -> float:
    """Return a sample's value summed over all its labels."""
    return sum(sample.value for family in registry.collect() for sample in family.samples if sample.name == name)
