"""Two handlers on one registry: each run counts once there, whichever way they are attached."""

from __future__ import annotations

import gc
from typing import Any
from uuid import uuid4

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Eco2CallbackHandler, GraphRun
from eco2_callbacks.prometheus.instruments import instruments_of
from eco2_callbacks.prometheus.run_claims import RunClaims
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, graph_of


@tool
def look_up(item: str) -> str:
    """Look an item up."""
    return item


async def work(state: State) -> State:
    _ = [chunk async for chunk in FakeModel().astream("hello")]
    await look_up.ainvoke({"item": "glass"})
    return {"intent": "waste"}


def _counted(registry: CollectorRegistry) -> str:
    """Return the exposition without durations and times, which no two runs share."""
    lines = generate_latest(registry).decode().splitlines()
    return "\n".join(line for line in lines if "_seconds" not in line and "_created" not in line)


@pytest.mark.parametrize("how", ["both_in_config", "one_installed", "both_installed"])
async def test_two_handlers_on_one_registry_count_a_run_once(registry: CollectorRegistry, how: str) -> None:
    """The exposition of two attached handlers is that of one; each handler's sinks have each record once."""
    alone = CollectorRegistry()
    sinks = [Records(), Records()]
    one, two = (Eco2CallbackHandler(registry=registry, sinks=[sink]) for sink in sinks)
    single = Eco2CallbackHandler(registry=alone)
    graph = graph_of(work).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [single]})

    callbacks = {"both_in_config": [one, two], "one_installed": [one], "both_installed": []}[how]
    if how != "both_in_config":
        two.install()
    if how == "both_installed":
        one.install()
    try:
        await graph.ainvoke({"answers": []}, {"callbacks": callbacks})
    finally:
        one.uninstall()
        two.uninstall()

    assert _counted(registry) == _counted(alone)
    assert [len(sink.calls) for sink in sinks] == [1, 1]
    assert [len(sink.of(GraphRun)) for sink in sinks] == [1, 1]


async def test_a_second_handler_on_the_model_counts_nothing_twice(registry: CollectorRegistry) -> None:
    """A handler of the model's own beside one in the config has its record; the call counts once."""
    alone = CollectorRegistry()
    sink = Records()
    inner = Eco2CallbackHandler(registry=registry, sinks=[sink])

    def graph(*callbacks: Eco2CallbackHandler) -> Any:
        async def work(state: State) -> State:
            await FakeModel(callbacks=list(callbacks)).ainvoke("hello")
            return {}

        return graph_of(work).compile()

    await graph().ainvoke({"answers": []}, {"callbacks": [Eco2CallbackHandler(registry=alone)]})
    await graph(inner).ainvoke({"answers": []}, {"callbacks": [Eco2CallbackHandler(registry=registry)]})

    assert _counted(registry) == _counted(alone)
    assert len(sink.calls) == 1


async def test_handlers_on_different_registries_both_count(registry: CollectorRegistry) -> None:
    """A registry of its own keeps a handler's own counts."""
    other = CollectorRegistry()
    handlers = [Eco2CallbackHandler(registry=registry), Eco2CallbackHandler(registry=other)]

    await FakeModel().ainvoke("hello", {"callbacks": handlers})

    assert [exposed(each, "llm_calls_total") for each in (registry, other)] == [1, 1]


async def test_the_handler_that_knows_the_request_counts_the_inner_run(registry: CollectorRegistry) -> None:
    """A chain with a handler of its own inside a measured request is no second request."""
    outer, inner = Eco2CallbackHandler(registry=registry), Eco2CallbackHandler(registry=registry)

    async def work(state: State) -> State:
        chain = RunnableLambda(lambda text: FakeModel().invoke(text))
        await chain.ainvoke("hello", {"callbacks": [inner]})
        return {}

    outer.install()
    try:
        await graph_of(work).compile().ainvoke({"answers": []})
    finally:
        outer.uninstall()

    assert exposed(registry, "chat_requests_total") == 1
    assert exposed(registry, "llm_calls_total") == 1
    assert exposed(registry, "chat_request_cost_dollars_sum") == pytest.approx(float(COST))
    assert exposed(registry, "agent_active_sessions") == 0
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


def test_open_runs_are_counted_once(registry: CollectorRegistry) -> None:
    """A run that two handlers see is one open run, and none after its end."""
    handlers = [Eco2CallbackHandler(registry=registry), Eco2CallbackHandler(registry=registry)]
    seen = []
    chain = RunnableLambda(lambda _: seen.append(exposed(registry, "eco2_callbacks_open_runs")))

    chain.invoke("hello", {"callbacks": handlers})

    assert seen == [1]
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


def test_a_handler_that_is_gone_holds_no_run(registry: CollectorRegistry) -> None:
    """A handler that is collected with a run open leaves no claim behind."""
    lost = Eco2CallbackHandler(registry=registry)
    run_id: Any = uuid4()
    lost.on_chain_start(None, {}, run_id=run_id)
    claims = instruments_of(registry).claims
    generate_latest(registry)  # what waits to be counted keeps the handler

    del lost
    gc.collect()
    gc.collect()  # the first one ends the handler's workers, which keep what they report to

    assert not claims._claims
    assert claims.new_claimant().claim(run_id, None)


def test_the_first_handler_wins_unless_a_later_one_counts_the_run_above() -> None:
    """A claim is kept against an equal one, and lost to a handler that knows more."""
    claims = RunClaims()
    one, two = claims.new_claimant(), claims.new_claimant()
    request, inner, call = uuid4(), uuid4(), uuid4()

    assert two.claim(request, None)
    assert not one.claim(request, None)
    assert one.claim(inner, None)
    assert two.claim(inner, request)
    assert not one.release(inner)
    assert one.claim(call, inner)
    assert two.claim(call, inner)
    assert two.release(call)
    assert two.release(inner)
    assert (len(one), len(two)) == (0, 1)
    assert not one.release(request)
    claims.clear()
    assert (len(two), claims._claims) == (0, {})


def test_a_run_whose_claim_was_cut_off_counts(registry: CollectorRegistry) -> None:
    """An interrupt inside the start of a run may leave it without a claim; its record counts all the same."""
    claims = RunClaims()
    one = claims.new_claimant()
    half_claimed, unclaimed = uuid4(), uuid4()
    claims._claims[half_claimed.int] = one._above

    assert one.release(half_claimed)
    assert one.release(unclaimed)
    assert claims._claims == {}
