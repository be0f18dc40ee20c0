"""Agents of agents: deepagents, langgraph-supervisor, langgraph-swarm, and agents as tools make one request each."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.types import Command, interrupt
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from tests.support.measured_app import App, Measured, measure
from tests.support.scripted_openai import Reply, Request, Script

QUESTION = {"messages": [("user", "go")]}


def by_model(measured: Measured) -> Counter[str]:
    return Counter(call.model for call in measured.calls)


def delegates_once(name: str, arguments: dict[str, Any], *, times: int = 1) -> Script:
    """Return a script that calls a tool so many times at once, then answers."""

    def script(request: Request) -> Reply | None:
        return Reply("", [(name, arguments)] * times) if name in request.tools and not request.tool_results else None

    return script


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_a_deep_agent_and_its_subagent_are_one_request(*, is_async: bool) -> None:
    """deepagents: the subagent's calls and tools belong to the request of the agent that delegates."""

    @tool
    def search(query: str) -> str:
        """Search."""
        return "found"

    def script(request: Request) -> Reply | None:
        if request.model == "gpt-4.1":
            return None if request.tool_results else Reply("", [("search", {"query": "x"})])
        return delegates_once("task", {"description": "search", "subagent_type": "researcher"})(request)

    def agent(app: App) -> Any:
        researcher = {
            "name": "researcher",
            "description": "searches",
            "system_prompt": "Search.",
            "tools": [search],
            "model": app.model("gpt-4.1"),
        }
        return create_deep_agent(app.model(), [], subagents=[researcher], name="boss")

    async def ainvoke(app: App) -> None:
        await agent(app).ainvoke(QUESTION, app.config())

    measured = measure(
        ainvoke if is_async else lambda app: agent(app).invoke(QUESTION, app.config()), script=lambda: script
    )

    assert by_model(measured) == {"gpt-4.1-mini": 2, "gpt-4.1": 2}
    assert measured.tools == {("task", "success"): 1, ("search", "success"): 1}
    assert (measured.requests[0].llm_calls, measured.requests[0].tool_calls) == (4, 2)


def test_two_subagents_at_once_are_parallel() -> None:
    """deepagents: two subagents of one turn run beside each other in one request."""
    script = delegates_once("task", {"description": "search", "subagent_type": "general-purpose"}, times=2)

    async def application(app: App) -> None:
        await create_deep_agent(app.model(), [], name="boss").ainvoke(QUESTION, app.config())

    # The general subagent has the tool ``task`` of its own only where subagents may delegate.
    measured = measure(application, script=lambda: script)

    assert measured.tools == {("task", "success"): 2}
    assert sum(measured.nodes[node, "success"] for node in ("model", "tools")) == 2 + 2 + 2


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")  # langgraph-supervisor itself calls it
def test_a_supervisor_and_its_agents_are_one_request() -> None:
    """langgraph-supervisor: supervisor and agents are nodes of one request; each dollar is counted once."""

    def script(request: Request) -> Reply | None:
        return delegates_once("transfer_to_writer", {})(request) if request.model == "gpt-4.1" else None

    def application(app: App) -> None:
        writer = create_agent(app.model(), [], name="writer")
        create_supervisor([writer], model=app.model("gpt-4.1")).compile().invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert by_model(measured) == {"gpt-4.1": 2, "gpt-4.1-mini": 1}
    assert measured.nodes["supervisor", "success"] == 2
    assert measured.nodes["writer", "success"] == 1


def test_a_swarm_is_one_request() -> None:
    """langgraph-swarm: a handover goes on in the same request, and the node that hands over has succeeded."""

    def script(request: Request) -> Reply | None:
        return delegates_once("transfer_to_bob", {})(request)

    def application(app: App) -> None:
        alice = create_agent(app.model("gpt-4.1"), [create_handoff_tool(agent_name="bob")], name="alice")
        bob = create_agent(app.model(), [create_handoff_tool(agent_name="alice")], name="bob")
        swarm = create_swarm([alice, bob], default_active_agent="alice").compile(checkpointer=InMemorySaver())
        swarm.invoke(QUESTION, app.config(configurable={"thread_id": "1"}))

    measured = measure(application, script=lambda: script)

    assert by_model(measured) == {"gpt-4.1": 1, "gpt-4.1-mini": 1}
    assert measured.nodes["alice", "success"] == measured.nodes["bob", "success"] == 1
    assert [run.status for run in measured.requests] == ["success"]


def test_an_agent_as_a_tool_belongs_to_the_request() -> None:
    """A tool that calls another agent: its calls lie in the tools node and in the same request."""

    def application(app: App) -> None:
        inner = create_agent(app.model("gpt-4.1"), [], name="inner")

        @tool
        def consult(question: str) -> str:
            """Consult the other agent."""
            return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].text)

        create_agent(app.model(), [consult], name="outer").invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: delegates_once("consult", {"question": "x"}))

    assert by_model(measured) == {"gpt-4.1": 1, "gpt-4.1-mini": 2}
    assert {call.metadata["lc_agent_name"] for call in measured.calls} == {"inner", "outer"}
    assert measured.nodes == {("model", "success"): 3, ("tools", "success"): 1}


def test_a_tool_of_a_tool_is_no_second_call_of_the_agent() -> None:
    """A tool that calls a tool: both are recorded, and the request counts the agent's call only."""

    @tool
    def inner(text: str) -> str:
        """Do the work."""
        return text

    @tool
    def outer(text: str) -> str:
        """Let the other tool do it."""
        return str(inner.invoke({"text": text}))

    def application(app: App) -> None:
        create_agent(app.model(), [outer]).invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: delegates_once("outer", {"text": "x"}))

    assert measured.tools == {("outer", "success"): 1, ("inner", "success"): 1}
    assert measured.requests[0].tool_calls == 1


def test_an_interrupt_inside_an_agent_as_a_tool_is_resumed() -> None:
    """An interrupt two agents deep: two linked requests, and no call of the first half is counted again."""

    @tool
    def ask_human(question: str) -> str:
        """Ask a human."""
        return str(interrupt(question))

    def script(request: Request) -> Reply | None:
        name = "consult" if "consult" in request.tools else "ask_human"
        return delegates_once(name, {"question": "x"})(request)

    def application(app: App) -> None:
        inner = create_agent(app.model("gpt-4.1"), [ask_human], name="inner", checkpointer=True)

        @tool
        def consult(question: str) -> str:
            """Consult the other agent."""
            return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].text)

        outer = create_agent(app.model(), [consult], name="outer", checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "1"})
        outer.invoke(QUESTION, config)
        outer.invoke(Command(resume="yes"), config)

    measured = measure(application, script=lambda: script, requests=2)

    halves = [(run.status, run.resumed, run.llm_calls) for run in measured.requests]
    assert halves == [("interrupted", False, 2), ("success", True, 2)]
    assert measured.tools["ask_human", "interrupted"] == measured.tools["ask_human", "success"] == 1


def test_a_failing_subagent_fails_the_request_once() -> None:
    """An error inside an agent as a tool: one failed request, and the calls before it are paid."""

    def script(request: Request) -> Reply | None:
        if request.model == "gpt-4.1":
            return Reply(status=500)
        return delegates_once("consult", {"question": "x"})(request)

    def application(app: App) -> None:
        inner = create_agent(app.model("gpt-4.1"), [], name="inner")

        @tool
        def consult(question: str) -> str:
            """Consult the other agent."""
            return str(inner.invoke({"messages": [("user", question)]})["messages"][-1].text)

        with pytest.raises(Exception, match="scripted"):
            create_agent(app.model(), [consult], name="outer").invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: script)

    assert [(run.status, run.error_type) for run in measured.requests] == [("error", "OpenAIAPIError")]
    assert measured.total("chat_errors_total") == 1
    assert measured.tools == {("consult", "error"): 1}
