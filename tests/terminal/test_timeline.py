"""Timeline: what runs and what has run, below each request."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.terminal import Row, Timeline
from eco2_callbacks.testing import FakeChatModel
from tests.support import fake_runtime
from tests.support.fake_model import FakeModel
from tests.support.manual_clock import ManualClock

QUESTION = "강남역 근처 페트병 분리수거함 어디있어?"


async def test_a_timeline_shows_running_and_ended_nodes() -> None:
    """Running nodes have their seconds so far; records replace them at the end.

    location runs from 1 s to 4 s, web_search from 1 s to 3 s, and answer from 4 s to 5 s.
    """
    clock, traces, found = ManualClock(), [], asyncio.Event()

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        clock.seconds += 1
        return {"intent": "location"}

    async def location(state: fake_runtime.State) -> fake_runtime.State:
        await found.wait()
        await FakeModel().ainvoke("where")
        clock.seconds += 1
        traces.extend(timeline.traces)
        return {"place": "강남역"}

    async def web_search(state: fake_runtime.State) -> fake_runtime.State:
        clock.seconds += 2
        asyncio.get_running_loop().call_soon(found.set)
        return {"found": "소식"}

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        text = "".join([chunk.text async for chunk in FakeModel().astream("write")])
        clock.seconds += 1
        return {"answer": text}

    timeline = Timeline(now=clock.now, answer_node="answer")
    graph = fake_runtime.build(intent=intent, location=location, web_search=web_search, answer=answer)
    with measured(timeline, clock) as handler:
        await graph.ainvoke({"message": QUESTION}, {"callbacks": [handler]})

    (running,) = traces
    assert [(row.name, row.status, row.started_seconds, row.figures.seconds) for row in running.rows] == [
        ("intent", "success", 0.0, 1.0),
        ("router", "success", 1.0, 0.0),
        ("location", "running", 1.0, 3.0),
        ("web_search", "success", 1.0, 2.0),
    ]
    assert (running.status, running.intent) == ("running", "location")
    (done,) = timeline.traces
    assert [(row.name, row.status, row.started_seconds, row.figures.seconds) for row in done.rows] == [
        ("intent", "success", 0.0, 1.0),
        ("router", "success", 1.0, 0.0),
        ("location", "success", 1.0, 3.0),
        ("web_search", "success", 1.0, 2.0),
        ("answer", "success", 4.0, 1.0),
    ]
    assert (done.status, done.intent, done.figures.seconds) == ("success", "location", 5.0)
    assert done.first_token_seconds == 4.0
    # Two calls of 0.00315 USD.
    assert done.figures.cost.total_usd == Decimal("0.0063")


async def test_a_failed_node_is_in_the_trace() -> None:
    """A failed request is shown up to its failure."""
    timeline = Timeline()
    with measured(timeline) as handler, pytest.raises(TimeoutError):
        await fake_runtime.build(location=fake_runtime.raise_timeout).ainvoke(
            {"message": QUESTION}, {"callbacks": [handler]}
        )

    (trace,) = timeline.traces
    assert (trace.status, trace.error_type) == ("error", "TimeoutError")
    assert {row.name: row.status for row in trace.rows} == {
        "intent": "success",
        "router": "success",
        "location": "error",
        "web_search": "cancelled",
    }


def test_nodes_of_a_nested_graph_stand_below_the_node_that_ran_it() -> None:
    """A subagent inside a tool shows its own nodes below the node of the tool; a node's figures include them."""
    timeline = Timeline()
    inner = create_agent(FakeChatModel(), [])

    def ask_expert(question: str) -> str:
        """Ask the expert."""
        return inner.invoke({"messages": [("user", question)]})["messages"][-1].text

    calls_tool = AIMessage("", tool_calls=[{"name": "ask_expert", "args": {"question": "x"}, "id": "1"}])
    outer = create_agent(FakeChatModel(answers=[calls_tool, "done"]), [ask_expert])
    with measured(timeline) as handler:
        outer.invoke({"messages": [("user", "x")]}, {"callbacks": [handler]})

    (trace,) = timeline.traces
    assert names(trace.rows) == ["model", ["tools", ["model"]], "model"]
    assert trace.rows[1].figures.cost == trace.rows[1].rows[0].figures.cost
    assert trace.rows[1].figures.usage.input_tokens == 100


def test_runs_outside_of_nodes_have_rows_of_their_own() -> None:
    """A chain without a graph shows its model calls; a call without a chain is a request of its own."""
    timeline = Timeline()
    with measured(timeline) as handler:
        (RunnableLambda(lambda x: x) | FakeModel()).invoke("x", {"callbacks": [handler]})
        FakeModel().invoke("x", {"callbacks": [handler]})

    chain, call = timeline.traces
    assert (chain.name, names(chain.rows)) == ("request", ["gpt-5.2"])
    assert (call.name, call.rows, call.figures.cost) == ("gpt-5.2", (), chain.figures.cost)
    assert [trace.name for trace in timeline.pop_ended()] == ["request", "gpt-5.2"]
    assert timeline.traces == []


def names(rows: tuple[Row, ...]) -> list[Any]:
    return [[row.name, names(row.rows)] if row.rows else row.name for row in rows]


def measured(timeline: Timeline, clock: ManualClock | None = None) -> Eco2CallbackHandler:
    clocks: dict[str, Any] = {} if clock is None else {"clock": lambda: clock.seconds, "now": clock.now}
    return Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[timeline], **clocks)
