"""langmem: memories are written by calls of the request, or by calls that follow it and keep its trace."""

from __future__ import annotations

import contextvars
import warnings
from collections.abc import Iterator
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.embeddings import DeterministicFakeEmbedding
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.store.memory import InMemoryStore

from tests.support.measured_app import App, measure
from tests.support.scripted_openai import Reply, Request

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # langmem and trustcall import what LangGraph has moved
    from langmem import (
        ReflectionExecutor,
        create_manage_memory_tool,
        create_memory_store_manager,
        create_search_memory_tool,
    )

QUESTION = {"messages": [("user", "remember that I sort my waste")]}


@pytest.fixture(autouse=True)
def deprecations_of_langmem() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=DeprecationWarning)
        yield


def store() -> InMemoryStore:
    return InMemoryStore(index={"dims": 8, "embed": DeterministicFakeEmbedding(size=8)})


def test_memory_tools_are_tool_calls_of_the_request() -> None:
    """Writing and searching memories are tool calls; the embedding is no model call."""

    def script(request: Request) -> Reply | None:
        steps = [
            Reply("", [("manage_memory", {"content": "sorts waste", "action": "create"})]),
            Reply("", [("search_memory", {"query": "waste"})]),
        ]
        return steps[request.tool_results] if request.tool_results < len(steps) else None

    def application(app: App) -> None:
        tools = [create_manage_memory_tool(("memories",)), create_search_memory_tool(("memories",))]
        create_agent(app.model(), tools, store=store()).invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert measured.tools == {("manage_memory", "success"): 1, ("search_memory", "success"): 1}
    assert len(measured.calls) == 3


def test_a_reflection_after_the_request_keeps_its_trace() -> None:
    """ReflectionExecutor: the calls on its thread keep trace, tenant and intent, and are no new request."""

    def application(app: App) -> None:
        memories = store()
        manager = create_memory_store_manager(app.model("gpt-4.1"), namespace=("memories",), store=memories)
        futures: list[Any] = []
        with ReflectionExecutor(manager, store=memories) as executor:

            def answer(state: MessagesState) -> Any:
                reply = app.model().invoke(state["messages"])
                messages = [*state["messages"], reply]
                submit = contextvars.copy_context().run
                futures.append(submit(executor.submit, {"messages": messages}, after_seconds=0.2))
                return {"messages": [reply]}

            graph = StateGraph(MessagesState).add_node("answer", answer).add_edge(START, "answer").compile()
            config = app.config()
            config["metadata"]["intent"] = "waste"
            graph.invoke(QUESTION, config)
            for future in futures:
                future.result(timeout=300)

    measured = measure(application, late_calls=1)

    assert [call.model for call in measured.calls] == ["gpt-4.1-mini", "gpt-4.1"]
    assert {(call.intent, call.tenant_id) for call in measured.calls} == {("waste", "acme")}
    assert len({record.trace_id for record in measured.records.all}) == 1
