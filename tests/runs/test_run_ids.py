"""Run ids that the caller's config names: LangChain passes them on as they are, also as text."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import pytest
from langchain_core.prompts import PromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from prometheus_client import CollectorRegistry
from pydantic import ValidationError

from eco2_callbacks import BudgetExceeded, Eco2CallbackHandler, budget_state, run_config
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.fake_model import COST, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import answer, graph_of, intent
from tests.support.tracing_modes import activate

IDS = [pytest.param(str(uuid.UUID(int=7)), id="uuid as text"), pytest.param("order-1", id="no uuid")]


@tool
def sort(item: str) -> str:
    """Sort an item."""
    return str(FakeModel().invoke(item).content)


async def stream(config: RunnableConfig) -> None:
    async for _ in chain().astream("glass", config):
        pass


async def events(config: RunnableConfig) -> None:
    async for _ in chain().astream_events("glass", config, version="v2"):
        pass


def chain() -> Any:
    return PromptTemplate.from_template("{item}") | FakeModel()


CALLS: dict[str, Callable[[RunnableConfig], Any]] = {
    "model": lambda config: FakeModel().ainvoke("glass", config),
    "chain": lambda config: chain().ainvoke("glass", config),
    "stream": stream,
    "events": events,
    "graph": lambda config: graph_of(intent).compile().ainvoke({}, config),
    "tool": lambda config: sort.ainvoke({"item": "glass"}, config),
}


@pytest.mark.parametrize("run_id", IDS)
@pytest.mark.parametrize("name", CALLS)
async def test_a_call_below_a_text_id_is_counted(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    name: str,
    run_id: Any,
) -> None:
    """The call, its request and its nodes are records with real run ids, and no callback fails."""
    # LangChain's models refuse an id that is no UUID, but only once they are answered.
    refuses = name == "model" and run_id == "order-1"
    with pytest.raises(ValidationError) if refuses else nullcontext():
        await CALLS[name]({"callbacks": [handler], "run_id": run_id})

    assert records.call.cost is not None
    assert records.call.cost.total_usd == COST
    assert isinstance(records.call.run_id, uuid.UUID)
    assert {record.trace_id for record in records.all} == {records.call.trace_id}
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


async def test_a_request_with_a_text_id_is_one_tree(handler: Eco2CallbackHandler, records: Records) -> None:
    """The id stands in the records as the UUID that it names; nodes and calls belong to the request."""
    run_id = uuid.uuid4()

    await graph_of(intent, answer).compile().ainvoke({"answers": []}, {"callbacks": [handler], "run_id": str(run_id)})

    assert records.request.trace_id == run_id
    assert records.request.cost.total_usd == 2 * COST
    assert [(call.node, call.trace_id) for call in records.calls] == [("intent", run_id), ("answer", run_id)]
    assert set(records.nodes) == {"intent", "answer"}


@pytest.mark.parametrize("run_id", IDS)
@pytest.mark.parametrize("name", ["model", "chain"])
async def test_a_limit_holds_below_a_text_id(registry: CollectorRegistry, name: str, run_id: Any) -> None:
    """The gate refuses the call, and raises nothing else into the application."""
    handler = Eco2CallbackHandler(registry=registry)

    with pytest.raises(BudgetExceeded):
        await CALLS[name]({**run_config(handler, job_id="1", max_usd=0.000001), "run_id": run_id})


def test_a_node_below_a_text_id_reads_its_budgets(registry: CollectorRegistry) -> None:
    """``budget_state()`` answers."""
    handler = Eco2CallbackHandler(registry=registry, budgets={"acme": {"daily_usd": 5}})
    config: Any = {**run_config(handler, job_id="1", tenant_id="acme"), "run_id": str(uuid.uuid4())}

    def ask(_: str, config: RunnableConfig) -> int:
        return len(budget_state(config).budgets)

    assert RunnableLambda(ask).invoke("x", config) == 1


async def test_langsmith_gets_the_cost_of_a_run_with_a_text_id(handler: Eco2CallbackHandler, records: Records) -> None:
    """The run on LangSmith has the id that the text names, and its dollars."""
    run_id = str(uuid.uuid4())
    with LangSmithServer() as server:
        with activate("environment", server, handler) as active:
            config: Any = {"callbacks": active.callbacks, "run_id": run_id}
            await active.arun(FakeModel().ainvoke, "glass", config)
        run = server.run(run_type="llm")

    assert (run["id"], str(records.call.run_id)) == (run_id, run_id)
    assert run["extra"]["metadata"]["usage_metadata"] == usage_metadata(records.call.usage, records.call.cost)
