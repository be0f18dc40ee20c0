"""LangSmith: calls and tools that LangChain does not see are runs below the enclosing one, with usage and cost."""

from __future__ import annotations

from typing import Any

import pytest
from langsmith import traceable, tracing_context
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, metadata, model_runs
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, graph_of
from tests.support.traced_graphs import one_node
from tests.support.tracing_modes import CALL_MODES, TRACING_MODES, activate

ANSWER: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "model": "gpt-5.2-2025-12-11",
    "output": [{"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "in the bin"}]}],
    "usage": {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
}


def raw_node(handler: Eco2CallbackHandler) -> Any:
    def raw(state: State) -> State:
        with handler.tool("look_up", inputs={"item": "glass"}) as run:
            with handler.call(provider="openai", model="gpt-5.2", request={"input": "Where?"}) as call:
                call.answered(ANSWER)
            run.returned("bin")
        return {}

    return raw


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_own_runs_stand_below_their_node(
    server: LangSmithServer,
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    tracing_mode: str,
) -> None:
    """In every tracing mode the call's run has the record's id, usage and cost, and its place in the tree."""
    graph = graph_of(raw_node(handler)).compile()
    with activate(tracing_mode, server, handler) as active:
        await CALL_MODES["ainvoke"](active, graph, {"answers": []}, metadata={"tenant_id": "acme"})

    runs = server.runs()
    (run,) = model_runs(server)
    assert run["id"] == str(records.call.run_id)
    usage = metadata(run)["usage_metadata"]
    assert {key: usage[key] for key in PRICED_USAGE} == PRICED_USAGE
    assert metadata(run)["tenant_id"] == "acme"
    assert (run["inputs"], run["outputs"]["id"]) == ({"input": "Where?"}, "resp_1")
    tool_run = runs[run["parent_run_id"]]
    assert (tool_run["run_type"], tool_run["name"], tool_run["outputs"]) == ("tool", "look_up", {"output": "bin"})
    assert runs[tool_run["parent_run_id"]]["name"] == "raw"
    assert {each["trace_id"] for each in (run, tool_run, runs[tool_run["parent_run_id"]])} == {run["trace_id"]}
    assert all(each["end_time"] for each in runs.values())
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


async def test_an_own_run_stands_below_traceable_code(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Below @traceable code inside a node the run is that code's child, and counts in the node."""

    @traceable(name="inner")
    def inner() -> None:
        with handler.call(provider="openai", model="gpt-5.2") as call:
            call.answered(ANSWER)

    def raw(state: State) -> State:
        inner()
        return {}

    with activate("environment", server, handler) as active:
        await CALL_MODES["invoke"](active, graph_of(raw).compile(), {"answers": []})

    (run,) = model_runs(server)
    assert server.runs()[run["parent_run_id"]]["name"] == "inner"
    assert records.call.node == "raw"


async def test_an_own_run_outside_any_run_is_a_trace(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Without an enclosing run the call is a root run of the project."""
    with activate("environment", server, handler), handler.call(provider="openai", model="gpt-5.2") as call:
        call.answered(ANSWER)

    (run,) = server.runs().values()
    assert (run["id"], run.get("parent_run_id")) == (str(records.call.run_id), None)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.00315


async def test_a_failed_own_run_ends_with_its_error(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """The exception stands on the run."""
    block = handler.call(provider="openai", model="gpt-5.2")
    with activate("environment", server, handler), pytest.raises(ValueError, match="no JSON"), block:
        raise ValueError("no JSON")

    (run,) = server.runs().values()
    assert run["error"] == "ValueError('no JSON')"


def test_an_own_run_follows_the_tracing_context(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """Outside any run and below one, it is sent by the context's client, with its project, tags and metadata."""
    with (
        server.client() as client,
        tracing_context(enabled=True, client=client, project_name="acme", tags=["beta"], metadata={"release": "7"}),
    ):
        with handler.call(provider="openai", model="gpt-5.2"):
            pass
        with handler.tool("outer"), handler.tool("inner"):
            pass
        client.flush()

    assert sorted(run["name"] for run in server.runs().values()) == ["gpt-5.2", "inner", "outer"]
    for run in server.runs().values():
        assert (run["session_name"], metadata(run)["release"]) == ("acme", "7")
        assert "beta" in run["tags"]


def test_without_tracing_nothing_is_sent(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """A call where nothing is traced sends no run."""
    with handler.call(provider="openai", model="gpt-5.2") as call:
        call.answered(ANSWER)

    assert server.runs() == {}


async def test_two_handlers_write_a_run_once(server: LangSmithServer, registry: CollectorRegistry) -> None:
    """Of two handlers on a run the first writes usage and cost; each quality score is sent once."""
    feedback = {"answer": {"quality": "scores.quality"}}
    handlers = [Eco2CallbackHandler(registry=registry, feedback=feedback) for _ in range(2)]

    def answer(state: Any) -> Any:
        FakeModel().invoke("hello")
        return {"scores": {"quality": 0.5}}

    with activate("environment", server) as active:
        one_node(answer).invoke({"message": "x"}, {"callbacks": [*active.callbacks, *handlers]})
        for handler in handlers:
            assert handler.flush()

    (run,) = model_runs(server)
    assert {key: metadata(run)["usage_metadata"][key] for key in PRICED_USAGE} == PRICED_USAGE
    assert len(server.patches(run["id"])) <= 1
    assert [score["key"] for score in server.feedback] == ["quality"]
    for handler in handlers:
        handler.close()
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
