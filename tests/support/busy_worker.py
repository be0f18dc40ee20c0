"""Plays a busy worker: every conversation of the demo, every fault, and the remaining events that panels show."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import TypedDict
from uuid import uuid4

from langchain_core.runnables import RunnableConfig
from langchain_core.tools import tool
from langgraph.graph import START, StateGraph
from opentelemetry.sdk.trace import TracerProvider
from prometheus_client import CollectorRegistry

from graph.cli import QUESTIONS
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records
from traffic import BUDGETS, Conversation, Fault, make_handler, worker

__all__ = ["conversations", "trouble"]

_SPEED = 100  # times the recorded pace
_TENANTS = tuple(BUDGETS)


async def conversations(registry: CollectorRegistry) -> Records:
    """Play every conversation of the demo, with OpenAI's or Gemini's models, and every fault. Return the records."""
    records = Records()
    with make_handler(registry, sinks=[records]) as handler:
        async with worker(handler) as running:
            for number, intent in enumerate(QUESTIONS):
                provider, tenant = ("openai", "google")[number % 2], _TENANTS[number % 3]
                await running.play(Conversation(intent=intent, provider=provider, tenant=tenant), speed=_SPEED)
            for fault in Fault:
                await running.play(Conversation(fault=fault, tenant="jeju"), speed=_SPEED)
    return records


class _State(TypedDict, total=False):
    scores: dict[str, float]


@tool
def search_places(query: str) -> str:
    """Find places."""
    raise ConnectionError(query)


def trouble(registry: CollectorRegistry, during_stream: Callable[[], None]) -> Records:
    """Cause the events that the demo lacks, and return the records.

    - An answer gets a low score.
    - A tool and its node fail.
    - Readers come back, and a publisher reports an invalid duration.
    - One tenant is a text.
    - A run never ends.

    ``during_stream`` is called in the middle of a stream, inside a span.
    """

    def feedback(state: _State) -> _State:
        return {"scores": {"rag_quality": 0.3}}

    def answer(state: _State, config: RunnableConfig) -> _State:
        for number, _ in enumerate(FakeModel().stream("?", config)):
            if number == 1:
                during_stream()
        return {}

    def location(state: _State) -> _State:
        search_places.invoke("glass")
        return {}

    graph = StateGraph(_State).add_sequence([feedback, answer, location]).add_edge(START, "feedback").compile()
    records = Records()
    with make_handler(registry, sinks=[records]) as handler:
        handler.stream_metrics.recovered("catch_up", "success")
        handler.stream_metrics.recovered("snapshot", "error")
        handler.stream_metrics.published("answer", -1.0)
        with TracerProvider().get_tracer("busy").start_as_current_span("job"), suppress(ConnectionError):
            graph.invoke({}, {"callbacks": [handler], "metadata": {"tenant_id": f"text {uuid4()}"}})
    hours = iter((0, 7))
    with make_handler(registry, clock=lambda: next(hours, 7) * 3600.0) as handler:
        handler.on_chain_start({}, {}, run_id=uuid4())
        handler.on_chain_start({}, {}, run_id=(later := uuid4()))
        handler.on_chain_end({}, run_id=later)
    return records
