"""What tests share: a registry, a handler and a sink of their own, and an environment nobody set."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LLMCall, NodeRun, Record


class Records:
    """A sink that keeps what it was given."""

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


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take away what the developer's shell says of tracing, prices and keys."""
    for name in set(os.environ) - {"ECO2_RECORDINGS", "ECO2_CRD_SCHEMAS"}:
        if name.startswith(("ECO2_", "LANGSMITH_", "LANGCHAIN_", "OTEL_", "OPENAI_", "GOOGLE_", "GEMINI_")):
            monkeypatch.delenv(name)


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def records() -> Records:
    return Records()


@pytest.fixture
def handler(registry: CollectorRegistry, records: Records) -> Iterator[Eco2CallbackHandler]:
    with Eco2CallbackHandler(registry=registry, sinks=[records], agent_name="eco2") as handler:
        yield handler
