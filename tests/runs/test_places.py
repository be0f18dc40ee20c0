"""Where a run is: which names become agents, and how the path is built."""

from __future__ import annotations

from typing import Any

import pytest

from eco2_callbacks.runs.places import Place, PlaceFinder

FINDER = PlaceFinder("eco2")
ROOT = FINDER.place_of(None, {})


def place(agent_name: str, path: str) -> tuple[str, str]:
    return agent_name, path


def seen(found: Place) -> tuple[str, str]:
    return found.agent_name, found.path


@pytest.mark.parametrize(
    "name", ["billing", "gpt4", "planner_v2", "research-agent", "사실확인", "_private", "Team.Lead"]
)
def test_a_name_in_code_is_an_agent(name: str) -> None:
    """A nested graph whose run has a name as in code is an agent."""
    assert seen(FINDER.in_graph(ROOT, ROOT, name, "call")) == place(name, f"eco2/{name}")


@pytest.mark.parametrize(
    "name",
    [
        *("job-99", "run-1234", "chat:77", "run1234", "V1StGXR8_Z5jdHi6B", "0190c5b2-8d3e-7c40-b2f0-5b1f2f4f3c11"),
        *("task_5f3e2a9c", "how do I recycle glass", "kim@example.com", "a" * 65, "LangGraph", "", None, 7),
    ],
)
def test_a_free_name_is_no_agent(name: Any) -> None:
    """A run's free name, which can hold an id or a text, changes neither agent nor path."""
    assert FINDER.in_graph(ROOT, ROOT, name, "call") is ROOT


def test_a_graph_called_as_its_node_is_an_agent_whatever_the_name() -> None:
    """A node's name is fixed with the graph, so it may look as it likes, and stands once in the path."""
    node = ROOT.at_node("worker_1")

    assert seen(FINDER.in_graph(node, node, "worker_1", "worker_1")) == place("worker_1", "eco2/worker_1")


def test_a_run_name_does_not_rename_an_agent() -> None:
    """An agent that LangChain names keeps its name where its run has another one."""
    agent = FINDER.place_of(ROOT, {"lc_agent_name": "boss"})

    assert FINDER.in_graph(agent, ROOT, "nightly", "call") is agent


def test_a_named_graph_inside_an_agent_is_an_agent() -> None:
    """A graph that an agent calls as a tool inherits that agent's metadata, and is nearer."""
    metadata = {"lc_agent_name": "boss"}
    agent = FINDER.place_of(ROOT, metadata)

    inside = FINDER.in_graph(agent, agent, "billing", "tools")

    assert seen(inside) == place("billing", "eco2/boss/billing")
    assert FINDER.place_of(inside, metadata) is inside
    assert seen(FINDER.place_of(inside, {"lc_agent_name": "clerk"})) == place("clerk", "eco2/boss/billing/clerk")


def test_runs_of_one_place_share_it() -> None:
    """A run with the metadata of the run above has the very same place, so nothing is built per call."""
    metadata = {"lc_agent_name": "boss"}
    agent = FINDER.place_of(None, metadata)

    assert FINDER.place_of(agent, metadata) is agent
    assert FINDER.place_of(agent, {}) is agent


@pytest.mark.parametrize(
    ("metadata", "wanted"),
    [
        ({}, ("eco2", "eco2")),
        ({"lc_agent_name": "boss"}, ("boss", "boss")),
        ({"langgraph_checkpoint_ns": "answer:0190c5b2"}, ("eco2", "eco2/answer")),
        ({"langgraph_checkpoint_ns": "call:0190c5b2|2|ask:0190c5b3"}, ("eco2", "eco2/call/ask")),
        ({"langgraph_checkpoint_ns": "model:0190", "lc_agent_name": "boss"}, ("boss", "boss/model")),
        ({"langgraph_checkpoint_ns": "tools:0|model:1", "lc_agent_name": "inner"}, ("inner", "tools/inner/model")),
        ({"langgraph_checkpoint_ns": 7, "lc_agent_name": ["boss"]}, ("eco2", "eco2")),
    ],
    ids=["nothing", "agent", "node", "nested", "agent_node", "nested_agent", "malformed"],
)
def test_without_a_run_above_the_metadata_tells_the_place(metadata: dict[str, Any], wanted: tuple[str, str]) -> None:
    """With the handler on the model alone, agent and nodes come from the metadata, without ids."""
    assert seen(FINDER.place_of(None, metadata)) == wanted


def test_a_path_ends_somewhere() -> None:
    """An agent that calls itself without end does not make a path without end."""
    deep = ROOT
    for _ in range(10_000):
        deep = deep.at_node("model")

    assert len(deep.path) < 1_100


def test_a_huge_name_is_cut() -> None:
    """A part of a path has at most 120 characters."""
    assert len(FINDER.place_of(ROOT, {"lc_agent_name": "x" * 1_000_000}).path) < 200
