"""Who spent it: agent and path of every record, in the shapes of public multi-agent applications."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

import pytest
from deepagents import create_deep_agent
from langchain.agents import create_agent
from langchain.agents.middleware import SummarizationMiddleware
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from langgraph.prebuilt import create_react_agent
from langgraph_supervisor import create_supervisor
from langgraph_swarm import create_handoff_tool, create_swarm

from eco2_callbacks import NodeRun, ToolCall
from tests.support.measured_app import App, Measured, measure
from tests.support.scripted_openai import Reply, Request, Script

QUESTION = {"messages": [("user", "go")]}
# The stand-in's subagents: each has a model of its own, so that its dollars differ from the others'.
SUBAGENTS = {"researcher": "gpt-4.1", "writer": "gpt-4.1-nano", "critic": "gpt-4o-mini"}


def places(measured: Measured) -> Counter[tuple[str, str]]:
    return Counter((call.agent_name, call.path) for call in measured.calls)


def delegates(*calls: tuple[str, dict[str, Any]]) -> Script:
    """Return a script that makes these tool calls at once where they are offered, then answers."""

    def script(request: Request) -> Reply | None:
        offered = [call for call in calls if call[0] in request.tools]
        return Reply("", offered) if offered and not request.tool_results else None

    return script


def served_usd(measured: Measured) -> Mapping[str, Decimal]:
    usd: defaultdict[str, Decimal] = defaultdict(Decimal)
    for served in measured.served:
        usd[served.model] += served.usd
    return usd


def three_subagents(app: App) -> Any:
    subagents: list[Any] = [
        {"name": name, "description": name, "system_prompt": name, "tools": [], "model": app.model(model)}
        for name, model in SUBAGENTS.items()
    ]
    return create_deep_agent(app.model(), [], subagents=subagents, name="boss")


@pytest.mark.parametrize("is_async", [False, True], ids=["invoke", "ainvoke"])
def test_three_subagents_are_three_series_with_their_dollars(*, is_async: bool) -> None:
    """deepagents: each subagent has its own series, which holds exactly what was served to it."""
    script = delegates(*(("task", {"description": "go", "subagent_type": name}) for name in SUBAGENTS))

    async def ainvoke(app: App) -> None:
        await three_subagents(app).ainvoke(QUESTION, app.config(run_name="chat:4711"))

    measured = measure(
        ainvoke if is_async else lambda app: three_subagents(app).invoke(QUESTION, app.config(run_name="chat:4711")),
        script=lambda: script,
        subagents=list(SUBAGENTS),
    )

    usd = served_usd(measured)
    wanted = {"boss": usd["gpt-4.1-mini"]} | {name: usd[model] for name, model in SUBAGENTS.items()}
    counted = measured.metric("graph_node_cost_dollars_total", "agent_name")
    assert counted == pytest.approx({agent: float(dollars) for agent, dollars in wanted.items()}, abs=1e-12)
    assert places(measured) == {
        ("boss", "boss/model"): 2,
        **{(name, f"boss/tools/{name}/model"): 1 for name in SUBAGENTS},
    }
    assert measured.metric("chat_subagent_calls_total", "subagent", "status") == {
        (name, "success"): 1 for name in SUBAGENTS
    }
    assert measured.metric("chat_subagent_duration_seconds_count", "subagent") == dict.fromkeys(SUBAGENTS, 1)


def test_requests_are_counted_under_the_handler_s_agent() -> None:
    """The ``agent_*`` families have the handler's name; the records say which agent is at the root."""
    measured = measure(
        lambda app: create_agent(app.model(), [], name="boss").invoke(QUESTION, app.config()), agent_name="eco2"
    )

    (request,) = measured.requests
    assert (request.agent_name, request.path) == ("boss", "boss")
    assert measured.metric("agent_llm_calls_per_request_count", "agent_name") == {"eco2": 1}
    assert measured.metric("agent_request_duration_seconds_count", "agent_name") == {"eco2": 1}
    assert measured.metric("llm_calls_total", "agent_name") == {"boss": 1}


def test_the_tags_on_langsmith_name_the_same_agents() -> None:
    """LangSmith: each run has the tag of its agent, and a subagent's runs that of the subagent."""
    script = delegates(("task", {"description": "go", "subagent_type": "researcher"}))

    measured = measure(
        lambda app: three_subagents(app).invoke(QUESTION, app.config()), script=lambda: script, subagents=["researcher"]
    )

    for call in measured.calls:
        tags = measured.langsmith[str(call.run_id)]["tags"]
        assert [tag for tag in tags if tag.startswith("agent:")] == [f"agent:{call.agent_name}"]
        assert ("subagent:researcher" in tags) == (call.agent_name == "researcher")


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")  # langgraph-supervisor itself calls it
def test_a_supervisor_is_an_agent_and_so_are_its_workers() -> None:
    """langgraph-supervisor: a node with its agent's name stands once in the path."""

    def application(app: App) -> None:
        writer = create_agent(app.model(), [], name="writer")
        create_supervisor([writer], model=app.model("gpt-4.1")).compile().invoke(QUESTION, app.config())

    measured = measure(application, script=lambda: delegates(("transfer_to_writer", {})), subagents=["writer"])

    assert places(measured) == {("supervisor", "supervisor/agent"): 2, ("writer", "writer/model"): 1}
    tools = {(call.tool_name, call.agent_name, call.path) for call in measured.records.of(ToolCall)}
    assert tools == {("transfer_to_writer", "supervisor", "supervisor/tools")}
    # The node and its agent are one run of the subagent.
    assert measured.metric("chat_subagent_calls_total", "subagent") == {"writer": 1}


def test_a_swarm_has_two_agents() -> None:
    """langgraph-swarm: each agent has its own calls."""

    def application(app: App) -> None:
        alice = create_agent(app.model("gpt-4.1"), [create_handoff_tool(agent_name="bob")], name="alice")
        bob = create_agent(app.model(), [create_handoff_tool(agent_name="alice")], name="bob")
        swarm = create_swarm([alice, bob], default_active_agent="alice").compile(checkpointer=InMemorySaver())
        swarm.invoke(QUESTION, app.config(configurable={"thread_id": "1"}))

    measured = measure(application, script=lambda: delegates(("transfer_to_bob", {})))

    assert places(measured) == {("alice", "alice/model"): 1, ("bob", "bob/model"): 1}


def test_an_agent_as_a_tool_with_its_own_thread_is_in_the_path() -> None:
    """An agent called as a tool, with a thread and a run name of its own, keeps its name, session and path."""

    def application(app: App) -> None:
        inner = create_agent(app.model("gpt-4.1"), [], name="inner", checkpointer=InMemorySaver())

        @tool
        def consult(question: str) -> str:
            """Consult the other agent."""
            config: Any = {"configurable": {"thread_id": "other"}, "run_name": "job-99"}
            return str(inner.invoke({"messages": [("user", question)]}, config)["messages"][-1].text)

        outer = create_agent(app.model(), [consult], name="outer", checkpointer=InMemorySaver())
        outer.invoke(QUESTION, app.config(configurable={"thread_id": "1"}))

    measured = measure(application, script=lambda: delegates(("consult", {"question": "x"})))

    assert places(measured) == {("outer", "outer/model"): 2, ("inner", "outer/tools/inner/model"): 1}
    assert {call.session_id for call in measured.calls} == {"1"}


@pytest.mark.filterwarnings("ignore:create_react_agent has been moved")
def test_a_named_graph_as_a_tool_of_an_agent_is_an_agent() -> None:
    """An older agent, or a named graph, below ``create_agent`` has its own dollars; an unnamed one has not."""

    def run(app: App) -> None:
        expert = create_react_agent(app.model("gpt-4.1"), [], name="expert")
        graph = StateGraph(MessagesState)
        graph.add_node("draft", lambda state: {"messages": [app.model("gpt-4o-mini").invoke(state["messages"])]})
        graph.add_edge(START, "draft")
        billing, unnamed = graph.compile(name="billing", checkpointer=InMemorySaver()), graph.compile()

        @tool
        def ask_expert() -> str:
            """Ask the expert."""
            return str(expert.invoke(QUESTION)["messages"][-1].content)

        @tool
        def ask_billing() -> str:
            """Ask billing, in a thread of its own."""
            return str(billing.invoke(QUESTION, {"configurable": {"thread_id": "own"}})["messages"][-1].content)

        @tool
        def ask_unnamed() -> str:
            """Ask a graph without a name."""
            return str(unnamed.invoke(QUESTION)["messages"][-1].content)

        create_agent(app.model(), [ask_expert, ask_billing, ask_unnamed], name="boss").invoke(QUESTION, app.config())

    script = delegates(("ask_expert", {}), ("ask_billing", {}), ("ask_unnamed", {}))
    measured = measure(run, script=lambda: script)

    assert places(measured) == {
        ("boss", "boss/model"): 2,
        ("expert", "boss/tools/expert/agent"): 1,
        ("billing", "boss/tools/billing/draft"): 1,
        ("boss", "boss/tools/draft"): 1,
    }
    assert measured.metric("graph_node_cost_dollars_total", "agent_name")["expert"] == pytest.approx(
        float(served_usd(measured)["gpt-4.1"]), abs=1e-12
    )


def nested(app: App) -> Any:
    def ask(state: MessagesState) -> dict[str, Any]:
        app.model().invoke("x")
        return {}

    inner = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask")
    named, unnamed = inner.compile(name="billing"), inner.compile()

    def call(state: MessagesState) -> dict[str, Any]:
        named.invoke({"messages": []})
        unnamed.invoke({"messages": []}, {"run_name": "job 0190c5b2-8d3e-7c40-b2f0-5b1f2f4f3c11"})
        named.invoke({"messages": []}, {"run_name": "run-1234"})
        return {}

    outer = StateGraph(MessagesState).add_node("plain", unnamed).add_node("call", call)
    return outer.add_edge(START, "plain").add_edge("plain", "call").compile(name="root")


def test_a_named_graph_is_an_agent_but_no_run_name_is() -> None:
    """A nested graph counts by its own name; neither the root's name nor a run's free name becomes an agent."""
    measured = measure(
        lambda app: nested(app).invoke({"messages": []}, app.config(run_name="chat:7")), agent_name="eco2"
    )

    assert places(measured) == {
        ("eco2", "eco2/plain/ask"): 1,
        ("billing", "eco2/call/billing/ask"): 1,
        ("eco2", "eco2/call/ask"): 2,
    }
    assert measured.metric("graph_node_runs_total", "agent_name", "node") == {
        ("eco2", "plain"): 1,
        ("eco2", "call"): 1,
        ("eco2", "ask"): 3,
        ("billing", "ask"): 1,
    }
    (request,) = measured.requests
    assert (request.agent_name, request.path) == ("eco2", "eco2")


def test_the_functional_api_has_a_path() -> None:
    """Functional API: the path holds the entrypoint and its task."""

    def application(app: App) -> None:
        model = app.model()

        @task
        def write(text: str) -> str:
            return str(model.invoke(text).text)

        @entrypoint()
        def flow(text: str) -> str:
            return write(text).result() + str(model.invoke("in the entrypoint").text)

        flow.invoke("x", app.config())

    measured = measure(application)

    assert places(measured) == {("", "flow/write"): 1, ("", "flow"): 1}
    nodes = {(run.node, run.path) for run in measured.records.of(NodeRun)}
    assert nodes == {("write", "flow/write"), ("flow", "flow")}


def test_a_plain_chain_belongs_to_the_handler_s_agent() -> None:
    """Runnables outside a graph have the handler's agent and no further path."""

    def application(app: App) -> None:
        chain = ChatPromptTemplate.from_template("{q}") | app.model()
        chain.invoke({"q": "x"}, app.config(run_name="Ask me anything"))

    measured = measure(application, agent_name="eco2")

    assert places(measured) == {("eco2", "eco2"): 1}


def test_late_work_keeps_its_place() -> None:
    """A task that outlives its request keeps agent, path and people of the node that started it."""

    async def application(app: App) -> None:
        late: list[asyncio.Task[Any]] = []
        ended = asyncio.Event()

        async def work(state: MessagesState) -> dict[str, Any]:
            async def later() -> None:
                await ended.wait()
                await app.model().ainvoke("late")

            late.append(asyncio.create_task(later()))
            return {}

        graph = StateGraph(MessagesState).add_node("work", work).add_edge(START, "work").compile()
        await graph.ainvoke({"messages": []}, app.config(configurable={"user_id": "kim", "thread_id": "1"}))
        ended.set()
        await asyncio.gather(*late)

    measured = measure(application, late_calls=1, agent_name="eco2")

    (call,) = measured.calls
    assert (call.agent_name, call.path, call.user_id, call.session_id) == ("eco2", "eco2/work", "kim", "1")


def test_a_middleware_s_own_call_has_its_purpose() -> None:
    """The call with which a middleware summarizes says so; the agent's own calls have no purpose."""

    def application(app: App) -> None:
        middleware = SummarizationMiddleware(model=app.model("gpt-4.1"), trigger=("messages", 3), keep=("messages", 1))
        agent = create_agent(app.model(), [], middleware=[middleware], name="helper")
        messages = [("user", "a"), ("assistant", "b"), ("user", "c"), ("assistant", "d"), ("user", "e")]
        agent.invoke({"messages": messages}, app.config())

    measured = measure(application)

    assert {(call.model, call.purpose) for call in measured.calls} == {
        ("gpt-4.1", "summarization"),
        ("gpt-4.1-mini", None),
    }
    assert {call.agent_name for call in measured.calls} == {"helper"}
