"""LangSmith with a handler that records plain runs later: the number is there when a run's end leaves."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tracers import LangChainTracer
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, metadata, model_runs, usage_of
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import exposed
from tests.support.small_graphs import State, answer, graph_of, intent
from tests.support.traced_graphs import async_answer, one_node, sync_answer
from tests.support.tracing_modes import CALL_MODES, TRACING_MODES, activate


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_every_model_run_carries_its_cost(
    server: LangSmithServer, registry: CollectorRegistry, tracing_mode: str
) -> None:
    """The first end of each model run has usage and dollars, in every tracing mode and call mode."""
    graph = one_node(RunnableLambda(sync_answer, async_answer))
    with Eco2CallbackHandler(registry=registry) as handler, activate(tracing_mode, server, handler) as active:
        for mode in CALL_MODES:
            await CALL_MODES[mode](active, graph, {"message": "hello"}, metadata={"tenant_id": "acme"})

    # gpt-5.2: 176 x 1.75 + 1024 x 0.175 + 350 x 14 USD per million tokens
    assert [(usage_of(run) or {}).get("total_cost") for run in model_runs(server)] == [0.0053872] * 4
    assert exposed(registry, "llm_calls_total") == 4
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


async def test_a_traced_call_below_an_untraced_node(server: LangSmithServer, registry: CollectorRegistry) -> None:
    """Only the model's run is traced: it carries its cost, and node and request sum it up later."""
    with server.client() as client, Eco2CallbackHandler(registry=registry) as handler:

        async def traced(state: State) -> State:
            await FakeModel().ainvoke("one")
            await FakeModel().ainvoke("two", {"callbacks": [handler, LangChainTracer(client=client)]})
            await FakeModel().ainvoke("three")
            return {}

        await graph_of(intent, traced, answer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})
        client.flush()

        (run,) = model_runs(server)
        assert usage_of(run) == PRICED_USAGE
        requests = registry.get_sample_value("chat_request_cost_dollars_sum", {"intent": "waste"})
        assert requests == pytest.approx(5 * 0.00315)
        assert exposed(registry, "graph_node_runs_total") == 3


async def test_a_node_that_ends_traced_holds_the_cost_of_untraced_calls(
    server: LangSmithServer, registry: CollectorRegistry
) -> None:
    """A traced node's metadata sums up its calls, although none of them was needed before."""
    with server.client() as client, Eco2CallbackHandler(registry=registry) as handler:
        config: Any = {"callbacks": [handler, LangChainTracer(client=client)]}
        await graph_of(intent, answer).compile().ainvoke({"answers": []}, config)
        client.flush()

    costs = {run["name"]: metadata(run).get("cost_usd") for run in server.runs().values()}
    assert costs["intent"] == costs["answer"] == pytest.approx(0.00315)
    assert costs["LangGraph"] == pytest.approx(0.0063)
