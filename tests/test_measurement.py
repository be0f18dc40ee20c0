"""handler.totals() and handler.measure(): what scripts read without any output."""

from __future__ import annotations

import asyncio
import threading
from contextvars import copy_context
from datetime import UTC, datetime
from decimal import Decimal
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableConfig
from langgraph.graph import START, StateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, LLMCall, TokenUsage, Totals
from tests.support.fake_model import COST, FakeModel
from tests.support.small_graphs import State


@pytest.fixture
def handler() -> Eco2CallbackHandler:
    return Eco2CallbackHandler(registry=CollectorRegistry())


def ask(handler: Eco2CallbackHandler, model: FakeModel | None = None) -> None:
    (model or FakeModel()).invoke("Where does glass go?", {"callbacks": [handler]})


def test_totals_hold_every_call(handler: Eco2CallbackHandler) -> None:
    """The totals add up all calls of the handler: successes, failures and calls without a price."""
    ask(handler)
    ask(handler)
    ask(handler, FakeModel(model="nobody-sells-this", answered_by=None))
    with pytest.raises(TimeoutError):
        ask(handler, FakeModel(fails=[TimeoutError()]))

    totals = handler.totals()

    # The unpriced call has tokens and no dollars; the failed one has neither.
    assert totals.llm_calls == 4
    assert totals.failed_calls == 1
    assert totals.usage == TokenUsage(input_tokens=3000, output_tokens=300)
    assert totals.cost.total_usd == 2 * COST
    assert totals.unpriced_calls == 2


def test_totals_of_thousands_of_calls_are_exact(handler: Eco2CallbackHandler) -> None:
    """Calls that are added up in between are neither lost nor counted twice, whatever thread they end in."""
    call = LLMCall(
        run_id=uuid4(),
        trace_id=uuid4(),
        started_at=datetime.now(UTC),
        duration_seconds=1.0,
        usage=TokenUsage(input_tokens=1),
        cost=Cost(input_usd=Decimal("0.000001"), parts={"input": Decimal("0.000001")}),
    )

    def emit() -> None:
        for _ in range(1500):
            handler.emit(call)

    threads = [threading.Thread(target=emit) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert handler.totals().llm_calls == 6000
    assert handler.totals().usage.input_tokens == 6000
    assert handler.totals().cost.total_usd == Decimal("0.006")


def test_a_block_measures_what_starts_in_it(handler: Eco2CallbackHandler) -> None:
    """A block holds its own calls; those before, after and of another handler are left out."""
    ask(handler)
    with handler.measure() as outer:
        ask(handler)
        with handler.measure() as inner:
            ask(handler)
            ask(Eco2CallbackHandler(registry=CollectorRegistry()))
    ask(handler)

    assert (inner.llm_calls, outer.llm_calls, handler.totals().llm_calls) == (1, 2, 4)
    assert inner.cost.total_usd == COST
    assert outer.usage == TokenUsage(input_tokens=2000, output_tokens=200)


async def test_blocks_of_concurrent_tasks_are_apart(handler: Eco2CallbackHandler) -> None:
    """Two tasks at once each measure their own calls, however these overlap."""
    both_inside = asyncio.Barrier(2)

    async def work(calls: int) -> int:
        with handler.measure() as measured:
            await both_inside.wait()
            for _ in range(calls):
                await FakeModel().ainvoke("x", {"callbacks": [handler]})
            await both_inside.wait()
        return measured.llm_calls

    assert await asyncio.gather(work(1), work(3)) == [1, 3]


def test_a_thread_counts_in_the_block_whose_context_it_runs_in(handler: Eco2CallbackHandler) -> None:
    """A plain thread counts with a copied context, and in the handler's totals in any case."""
    with handler.measure() as measured:
        for run in (lambda work, argument: work(argument), copy_context().run):
            thread = threading.Thread(target=run, args=(ask, handler))
            thread.start()
            thread.join()

    assert (measured.llm_calls, handler.totals().llm_calls) == (1, 2)


async def test_a_request_counts_in_its_block_whatever_its_threads(handler: Eco2CallbackHandler) -> None:
    """A node that passes its config to a thread makes calls of its request, and of no block that has ended."""

    async def node(state: State, config: RunnableConfig) -> State:
        loop = asyncio.get_running_loop()
        await loop.run_in_executor(None, lambda: FakeModel().invoke("x", config))
        return {}

    graph = StateGraph(State).add_node("node", node).add_edge(START, "node").compile()
    with handler.measure() as outer:
        with handler.measure() as inner:
            await graph.ainvoke({}, {"callbacks": [handler]})
        await graph.ainvoke({}, {"callbacks": [handler]})
    await graph.ainvoke({}, {"callbacks": [handler]})

    assert (inner.llm_calls, outer.llm_calls, handler.totals().llm_calls) == (1, 2, 3)
    assert outer.cost.total_usd == 2 * COST


async def test_a_call_that_outlives_its_block_is_added_when_it_ends(handler: Eco2CallbackHandler) -> None:
    """A call belongs to the block that it started in; a task that starts one later does not add to it."""
    release = asyncio.Event()

    async def late() -> None:
        await release.wait()
        ask(handler)

    with handler.measure() as measured:
        stream = FakeModel().stream("x", {"callbacks": [handler]})
        next(stream)
        task = asyncio.create_task(late())
    assert measured.llm_calls == 0
    list(stream)
    release.set()
    await task

    assert measured.llm_calls == 1
    assert handler.totals().llm_calls == 2


def test_totals_print_as_one_line(handler: Eco2CallbackHandler) -> None:
    """Printed totals and costs can be read, and say what is uncertain."""
    with handler.measure() as measured:
        ask(handler)

    assert str(measured.cost) == "0.00315 USD"
    assert str(measured) == "1 model call, 1,000 input tokens (0 cached), 100 output tokens, 0.00315 USD"
    assert str(Totals(llm_calls=3, failed_calls=1, estimated=True, unpriced_calls=2)) == (
        "3 model calls, 0 input tokens (0 cached), 0 output tokens, 0 USD; "
        "1 failed; contains an estimate; excludes 2 without a price"
    )
