"""A request's tree: each run stands in the one that encloses it, and a node's dollars are its own."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypedDict

import sqlalchemy as sa
from langgraph.graph import START, StateGraph
from langgraph.types import Send
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, LedgerSink, NodeRun
from eco2_callbacks.ledger import Backend, backend_of, read_traces
from eco2_callbacks.ledger.schema import table
from tests.support.fake_model import COST, USAGE, FakeModel
from tests.support.ledger_records import AT

_TRIPLE = {name: 3 * tokens for name, tokens in USAGE.items()}


class _State(TypedDict, total=False):
    branch: str


def _write_two_branches(url: str) -> None:
    """Run two branches of one node: the first call of the long one is made while the short one runs."""

    async def run() -> None:
        called, ended = asyncio.Event(), asyncio.Event()
        ask = StateGraph(_State).add_node("ask", lambda state: FakeModel().invoke("ask")).add_edge(START, "ask")
        graph: Any = ask.compile()

        async def work(state: _State) -> _State:
            if state["branch"] == "short":
                await FakeModel(usage=_TRIPLE).ainvoke("short")
                await called.wait()
                ended.set()
                return {}
            await FakeModel().ainvoke("long")
            await graph.ainvoke({})
            called.set()
            await ended.wait()
            await asyncio.sleep(0.02)  # longer than the short one
            return {}

        builder = StateGraph(_State).add_node("work", work)
        branches = [Send("work", {"branch": name}) for name in ("short", "long")]
        builder.add_conditional_edges(START, lambda state: branches, ["work"])
        with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=url) as handler:
            await builder.compile().ainvoke({}, {"callbacks": [handler], "metadata": {"job_id": "job"}})

    asyncio.run(run())


def _nodes_of(backend: Backend) -> list[tuple[list[str], Decimal | None]]:
    (trace,) = read_traces(backend, "job")
    nodes = sorted(trace.root.children, key=lambda node: node.seconds)
    return [(sorted(child.name for child in node.children), node.cost) for node in nodes]


def test_parallel_branches_keep_their_own_calls(ledger_url: str) -> None:
    """A call of one branch that runs while a shorter branch of the same node does is not a call of that one."""
    _write_two_branches(ledger_url)

    with closing(backend_of(ledger_url)) as backend:
        nodes = _nodes_of(backend)

    # The long branch makes two calls of COST, one in a nested graph; the short one's has three times the tokens.
    assert nodes == [(["gpt-5.2-2025-12-11"], 3 * COST), (["ask", "gpt-5.2-2025-12-11"], 2 * COST)]


def test_rows_of_older_versions_are_placed_by_path_and_time(tmp_path: Path) -> None:
    """Where the ledger does not name the enclosing run, every run still stands somewhere in the tree."""
    ledger = str(tmp_path / "eco2.db")
    _write_two_branches(ledger)

    with closing(backend_of(ledger)) as backend:
        with backend.engine().begin() as connection:
            for name in ("calls", "node_runs"):
                runs = table(name)
                connection.execute(sa.update(runs).values(enclosing_run_id=None))
        (trace,) = read_traces(backend, "job")

    assert trace.root.cost == 5 * COST
    assert sum(node.cost or Decimal(0) for node in trace.root.children) == 5 * COST


def test_all_runs_beside_a_long_one_are_parallel(tmp_path: Path) -> None:
    """Of branches that run two at a time, the third one runs beside the first, although the second has ended."""
    ledger, trace_id = str(tmp_path / "eco2.db"), uuid.uuid4()
    branches = [("long", 0.0, 6.0), ("second", 0.0, 2.0), ("third", 2.5, 2.0), ("after", 6.5, 1.0)]
    with LedgerSink(ledger) as sink:
        for name, start, seconds in branches:
            started_at = AT + timedelta(seconds=start)
            about = {"run_id": uuid.uuid4(), "started_at": started_at, "duration_seconds": seconds}
            sink.emit(NodeRun(trace_id=trace_id, node=name, **about))
        sink.emit(GraphRun(trace_id=trace_id, job_id="job", started_at=AT, duration_seconds=8.0))

    with closing(backend_of(ledger)) as backend:
        (trace,) = read_traces(backend, "job")

    marks = {node.name: node.parallel for node in trace.root.children}
    assert marks == {"long": True, "second": True, "third": True, "after": False}
