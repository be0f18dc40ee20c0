"""LangSmith: intent, subagent, feature and execution tags, each on the runs it applies to."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from langgraph.graph import START, StateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, Feature
from tests.support.langsmith_runs import metadata
from tests.support.langsmith_server import LangSmithServer
from tests.support.traced_graphs import State, async_answer, one_node
from tests.support.tracing_modes import CALL_MODES, TRACING_MODES, activate


def tree() -> Any:
    """An intent node, a RAG node, and two parallel nodes, one of them a subgraph."""

    async def classify(state: State) -> State:
        return {"intent": "waste"}

    async def answer(state: State) -> State:
        await asyncio.sleep(0.01)
        return await async_answer(state)

    inner = StateGraph(State).add_node("lookup", answer).add_edge(START, "lookup").compile()
    return (
        StateGraph(State)
        .add_node("intent", classify)
        .add_node("waste_rag", answer)
        .add_node("location", inner)
        .add_node("weather", answer)
        .add_edge(START, "intent")
        .add_edge("intent", "waste_rag")
        .add_edge("waste_rag", "location")
        .add_edge("waste_rag", "weather")
        .compile()
    )


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_tags_are_on_the_runs_they_apply_to(server: LangSmithServer, tracing_mode: str) -> None:
    """The intent is on the root and all runs below; subagent, feature and execution on the node and below."""
    handler = Eco2CallbackHandler(
        registry=CollectorRegistry(),
        subagents=["location", "waste_rag"],
        features={"waste": {"feature": "rag", "subagents": ["waste_rag"]}, "location": "maps", "general": "talk"},
    )

    with handler, activate(tracing_mode, server, handler) as active:
        await CALL_MODES["ainvoke"](active, tree(), {"message": "hello"}, tags=["env:production"])

    found: dict[str, set[str]] = {}
    for run in server.runs().values():
        if run["name"] != "application":
            where = f"{run['name']}@{metadata(run).get('langgraph_checkpoint_ns', '').split(':')[0]}"
            found.setdefault(where, set()).update(tag for tag in run["tags"] if not tag.startswith(("graph:", "seq:")))
    always = {"env:production", "intent:waste"}
    rag = always | {"subagent:waste_rag", "feature:rag"}
    location = always | {"subagent:location", "feature:maps", "execution:parallel"}
    assert found == {
        "LangGraph@": always,
        "intent@intent": always,
        "waste_rag@waste_rag": rag,
        "FakeModel@waste_rag": rag,
        "location@location": location,
        "LangGraph@location": location,
        "lookup@location": location,
        "FakeModel@location": location,
        "weather@weather": always | {"execution:parallel"},
        "FakeModel@weather": always | {"execution:parallel"},
    }


@pytest.mark.parametrize(
    ("subagents", "feature", "tagged"),
    [
        ([], "rag", {"intent", "waste_rag", "location", "lookup", "weather"}),
        (["waste_rag"], "rag", {"waste_rag"}),
        (["location"], Feature(feature="rag", subagents=("waste_rag", "weather")), {"waste_rag", "weather"}),
        ([], {"feature": "rag", "subagents": ["weather"], "parallel": True, "description": "rules"}, {"weather"}),
    ],
    ids=["all_nodes", "the_handler_s_subagents", "its_own", "as_a_mapping"],
)
async def test_a_feature_marks_the_nodes_that_serve_it(
    server: LangSmithServer, subagents: list[str], feature: Any, tagged: set[str]
) -> None:
    """A feature marks its own subagents, else the handler's, else all nodes of its intent; never the root."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), subagents=subagents, features={"waste": feature})

    with handler, activate("tracer_after", server, handler) as active:
        await CALL_MODES["ainvoke"](active, tree(), {"message": "hello"})

    nodes = [run for run in server.runs().values() if run["name"] == metadata(run).get("langgraph_node")]
    assert {run["name"] for run in nodes if "feature:rag" in run["tags"]} == tagged
    assert "feature:rag" not in next(run for run in server.roots())["tags"]


async def test_a_feature_declares_what_runs_in_parallel(server: LangSmithServer) -> None:
    """Where one branch ends before the other starts, only the feature shows that they are parallel."""
    features = {"waste": Feature(feature="rag", subagents=("first", "second"), parallel=True)}
    graph = StateGraph(State).add_node("first", lambda state: {}).add_node("second", lambda state: {})
    graph.add_edge(START, "first").add_edge("first", "second")

    with (
        Eco2CallbackHandler(registry=CollectorRegistry(), features=features) as handler,
        activate("tracer_after", server, handler) as active,
    ):
        graph.compile().invoke({"message": "x"}, {"callbacks": active.callbacks, "metadata": {"intent": "waste"}})

    for name in ("first", "second"):
        assert {"execution:parallel", "feature:rag", f"subagent:{name}"} <= set(server.run(name=name)["tags"])


def test_the_intent_of_the_state_replaces_the_intent_of_the_request(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """A run has one intent, the same in its tags and its metadata."""
    graph = one_node(lambda state: {"intent": "waste"})

    with activate("tracer_after", server, handler) as active:
        config: Any = {"callbacks": active.callbacks, "tags": ["intent:general"], "metadata": {"intent": "general"}}
        graph.invoke({"message": "hello"}, config)

    for run in server.runs().values():
        assert [tag for tag in run["tags"] if tag.startswith("intent:")] == ["intent:waste"]
        assert metadata(run)["intent"] == "waste"
