"""Retries and fallbacks: each attempt is a call of its own, and every attempt after the first is marked."""

from __future__ import annotations

from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langgraph.types import RetryPolicy
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, graph_of, sample


async def test_a_retried_node_runs_twice_in_one_step_without_being_parallel(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """The second run of a RetryPolicy is the same task, not a parallel one."""
    attempts = iter([ConnectionError("once"), None])

    async def shaky(state: State) -> State:
        if (error := next(attempts)) is not None:
            raise error
        return {"answers": ["done"]}

    graph = graph_of(shaky, retry_policy=RetryPolicy(initial_interval=0.001)).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [handler]})

    runs = [(run.status, run.error_type, run.parallel) for run in records.all if type(run).__name__ == "NodeRun"]
    assert runs == [("error", "ConnectionError", False), ("success", None, False)]
    assert records.request.status == "success"


async def test_with_retry_marks_the_second_attempt(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A failed attempt is a call of its own, and the next attempt is marked as a retry."""
    model = FakeModel(fails=[ConnectionError("reset")]).with_retry(wait_exponential_jitter=False)

    await model.ainvoke("hello", config={"callbacks": [handler]})

    assert [(call.status, call.retry) for call in records.calls] == [("error", None), ("success", "retry")]
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2"}
    assert sample(registry, "llm_retries_total", reason="retry", **labels) == 1


@pytest.mark.parametrize("inside", [True, False], ids=["in_a_node", "alone"])
@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_with_fallbacks_marks_the_fallback_model(
    handler: Eco2CallbackHandler, records: Records, inside: bool, mode: str
) -> None:
    """The call of a fallback model is marked as a fallback, in every mode."""
    model = FakeModel(fails=[ConnectionError("reset")], fails_after=0).with_fallbacks([FakeModel(model="gpt-4o")])

    async def run(config: Any) -> None:
        if mode == "invoke":
            model.invoke("hello", config=config)
        elif mode == "stream":
            list(model.stream("hello", config=config))
        elif mode == "ainvoke":
            await model.ainvoke("hello", config=config)
        else:
            _ = [chunk async for chunk in model.astream("hello", config=config)]

    async def node(state: State) -> State:
        await run(None)
        await FakeModel().ainvoke("afterwards")
        return {}

    if inside:
        await graph_of(node).compile().ainvoke({"answers": []}, {"callbacks": [handler]})
    else:
        await run({"callbacks": [handler]})

    attempts = [(call.request_model, call.status, call.retry) for call in records.calls]
    assert attempts[:2] == [("gpt-5.2", "error", None), ("gpt-4o", "success", "fallback")]
    assert attempts[2:] == ([("gpt-5.2", "success", None)] if inside else [])


@pytest.mark.parametrize("chained", [False, True], ids=["models", "chains"])
def test_a_topmost_fallback_is_one_request(handler: Eco2CallbackHandler, records: Records, chained: bool) -> None:
    """All attempts of a topmost fallback belong to one request, chains included."""
    first: Any = FakeModel(fails=[ConnectionError("reset")])
    second: Any = FakeModel(model="gpt-4o")
    if chained:
        first, second = (RunnableLambda(lambda text: text) | model for model in (first, second))

    first.with_fallbacks([second]).invoke("hello", config={"callbacks": [handler]})

    assert (records.request.llm_calls, records.request.cost.total_usd) == (2, COST)
    assert [call.retry for call in records.calls] == [None, "fallback"]


@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_fallbacks_in_a_batch_are_marked(handler: Eco2CallbackHandler, records: Records, mode: str) -> None:
    """Only the input whose first model failed is answered by a fallback."""
    model = FakeModel(fails=[ConnectionError("reset")]).with_fallbacks([FakeModel(model="gpt-4o")])

    config = {"callbacks": [handler], "max_concurrency": 1}
    replies = model.batch(["a", "b"], config=config) if mode == "batch" else await model.abatch(["a", "b"], config)

    assert len(replies) == 2
    attempts = sorted((call.request_model, call.status, call.retry) for call in records.calls)
    assert attempts == [
        ("gpt-4o", "success", "fallback"),
        ("gpt-5.2", "error", None),
        ("gpt-5.2", "success", None),
    ]


@pytest.mark.needs_core("1.4")  # LangGraph's ``timeout=`` came later than its 1.0
async def test_a_node_that_timed_out_is_repeated(handler: Eco2CallbackHandler, records: Records) -> None:
    """LangGraph cancels a node that exceeds its ``timeout=``; what its RetryPolicy starts then is a retry."""
    attempts = iter([60.0, 0.0])

    async def slow(state: State) -> State:
        await FakeModel(pause_seconds=next(attempts)).ainvoke("hello")
        return {}

    settings = {"timeout": 0.2, "retry_policy": RetryPolicy(initial_interval=0.001, retry_on=lambda error: True)}
    await graph_of(slow, **settings).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert [(call.status, call.retry) for call in records.calls] == [("cancelled", None), ("success", "retry")]
