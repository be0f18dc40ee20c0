"""What the code on the pages takes for granted: a graph, an agent, their inputs, and objects of other packages."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypedDict

from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.vectorstores import InMemoryVectorStore
from langchain_openai import ChatOpenAI
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LedgerSink
from tests.support.fake_model import FakeModel
from tests.support.ledger_records import call

__all__ = ["graph", "page_names"]


class State(TypedDict, total=False):
    message: str
    question: str
    intent: str
    answer: str


@dataclass
class Context:
    feature: str = ""


def search(state: State) -> State:
    return {"intent": FakeModel().invoke("where?").text}


def answer(state: State) -> State:
    return {"answer": FakeModel().invoke("in words").text}


_builder = StateGraph(State, context_schema=Context)
_builder.add_sequence([search, answer])
_builder.add_edge(START, "search")
graph = _builder.compile()
"""Two nodes with a model call each."""


def page_names(ledger: str) -> dict[str, Any]:
    """Return the names; the ledger gets a call that a page can rate anew."""
    record = call()
    with LedgerSink(ledger) as sink:
        sink.emit(record)
    return {
        "ChatOpenAI": ChatOpenAI,
        "Context": Context,
        "InMemoryVectorStore": InMemoryVectorStore,
        "agent": graph,
        "cost": record.cost,
        "graph": graph,
        "handler": Eco2CallbackHandler(registry=CollectorRegistry()),
        "inputs": {"question": "Where does glass go?"},
        "my_meter_provider": MeterProvider(),
        "other_handler": UsageMetadataCallbackHandler(),
        "question": {"question": "Where does glass go?"},
        "record": record,
        "run_id": str(record.run_id),
        "started_at": record.started_at,
    }
