"""Shapes of public applications: research teams, streaming servers, compilers of tool calls, and how they resume."""

from __future__ import annotations

import asyncio
import operator
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AgentMiddleware, wrap_model_call
from langchain_core.messages import AnyMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda, RunnablePassthrough, chain
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command, Send, interrupt
from pydantic import BaseModel
from starlette.concurrency import iterate_in_threadpool

from eco2_callbacks import NodeRun
from eco2_callbacks.ledger import Span, backend_of, read_traces
from tests.support.measured_app import App, measure
from tests.support.scripted_openai import Reply, Request, Script


class Research(BaseModel):
    """Delegates a topic."""

    topic: str


class Complete(BaseModel):
    """Ends the research."""


class Team(MessagesState, total=False):
    notes: Annotated[list[str], operator.add]


def research_script() -> Script:
    """The supervisor delegates two topics and then ends; each researcher searches once."""
    rounds = iter(range(100))

    def script(request: Request) -> Reply | None:
        if "Research" in request.tools:
            if next(rounds):
                return Reply("", [("Complete", {})])
            return Reply("", [("Research", {"topic": "glass"}), ("Research", {"topic": "paper"})])
        if "search" in request.tools and not request.tool_results:
            return Reply("", [("search", {"query": "bottles"})])
        return None

    return script


async def deep_research(app: App) -> None:
    """A supervisor's graph delegates to researchers' graphs, which run side by side; each step routes by Command."""

    @tool
    async def search(query: str) -> str:
        """Search, and have a model sum up two pages."""
        pages = [app.model("gpt-4.1-nano").with_retry(stop_after_attempt=2).ainvoke(query) for _ in range(2)]
        return " ".join(str(page.text) for page in await asyncio.gather(*pages))

    async def supervise(state: Team) -> Command[Literal["delegate"]]:
        model = app.model().bind_tools([Research, Complete]).with_retry(stop_after_attempt=2)
        return Command(goto="delegate", update={"messages": [await model.ainvoke(state["messages"])]})

    async def delegate(state: Team, config: RunnableConfig) -> Command[Literal["supervise", "__end__"]]:
        calls = state["messages"][-1].tool_calls
        if calls[0]["name"] == "Complete":
            return Command(goto=END, update={"notes": ["done"]})
        topics = [{"messages": [HumanMessage(call["args"]["topic"])]} for call in calls]
        await asyncio.gather(*(researcher.ainvoke(topic, config) for topic in topics))
        found = [ToolMessage("found", tool_call_id=call["id"]) for call in calls]
        return Command(goto="supervise", update={"messages": found})

    async def research(state: Team) -> Command[Literal["use_tools"]]:
        asked = [SystemMessage("Find sources."), *state["messages"]]
        return Command(goto="use_tools", update={"messages": [await app.model().bind_tools([search]).ainvoke(asked)]})

    async def use_tools(state: Team, config: RunnableConfig) -> Command[Literal["research", "compress"]]:
        calls = state["messages"][-1].tool_calls
        if not calls:
            return Command(goto="compress")
        found: list[AnyMessage] = [
            ToolMessage(await search.ainvoke(call["args"], config), tool_call_id=call["id"]) for call in calls
        ]
        return Command(goto="research", update={"messages": found})

    async def compress(state: Team) -> Team:
        return {"messages": [await app.model().ainvoke("compress")]}

    async def write(state: Team) -> Team:
        return {"messages": [await app.model("gpt-4.1").ainvoke("write")]}

    inner = StateGraph(Team).add_node(research).add_node(use_tools).add_node(compress).add_edge(START, "research")
    researcher: Any = inner.compile()
    team = StateGraph(Team).add_node(supervise).add_node(delegate).add_edge(START, "supervise").compile()
    outer = StateGraph(Team).add_node("team", team).add_node(write).add_edge(START, "team").add_edge("team", "write")
    graph: Any = outer.compile(checkpointer=InMemorySaver(), name="Deep Researcher")
    config = app.config(configurable={"thread_id": "t"})
    async for _ in graph.astream({"messages": []}, config, stream_mode=["updates", "messages"], subgraphs=True):
        pass


async def map_reduce(app: App) -> None:
    """Branches of one node each run a named graph of two steps."""

    class Topic(MessagesState, total=False):
        topic: str

    async def draft(state: Topic) -> Topic:
        return {"messages": [await app.model().ainvoke("draft")]}

    async def check(state: Topic) -> Topic:
        return {"messages": [await app.model("gpt-4.1-nano").ainvoke("check")]}

    async def work(state: Topic) -> Topic:
        await pair.ainvoke({"messages": []})
        return {}

    steps = StateGraph(Topic).add_node(draft).add_node(check).add_edge(START, "draft").add_edge("draft", "check")
    pair: Any = steps.compile(name="writing_pair")
    builder = StateGraph(Topic).add_node("work", work)
    builder.add_conditional_edges(START, lambda state: [Send("work", {"topic": name}) for name in "abc"], ["work"])
    graph: Any = builder.compile()
    async for _ in graph.astream_events({"messages": []}, app.config(), version="v2"):
        pass


async def interviews(app: App) -> None:
    """A node runs a batch of graphs that go round twice; a free run name names no agent."""

    class Interview(MessagesState):
        pass

    async def ask(state: Interview) -> Interview:
        return {"messages": [await app.model().ainvoke("ask")]}

    async def answer(state: Interview) -> Interview:
        return {"messages": [await app.model("gpt-4.1-nano").ainvoke("answer")]}

    async def conduct(state: Interview) -> Interview:
        await interview.abatch([{"messages": []} for _ in range(3)])
        return {"messages": []}

    rounds = StateGraph(Interview).add_node(ask).add_node(answer).add_edge(START, "ask").add_edge("ask", "answer")
    rounds.add_conditional_edges("answer", lambda state: END if len(state["messages"]) >= 4 else "ask", ["ask", END])
    interview: Any = rounds.compile().with_config(run_name="Conduct Interviews")
    graph: Any = StateGraph(Interview).add_node(conduct).add_edge(START, "conduct").compile()
    await graph.ainvoke({"messages": []}, app.config())


def compile_calls(app: App) -> None:
    """A chain inside a node streams a plan and runs its tools in a pool of plain threads, which get the config."""

    @tool
    def compute(x: str, config: RunnableConfig) -> str:
        """Have a model compute."""
        return str(app.model("gpt-4.1-nano").invoke(x, config).text)

    @chain
    def schedule(state: Any, config: RunnableConfig) -> list[str]:
        with ThreadPoolExecutor() as pool:
            futures = [pool.submit(compute.invoke, {"x": str(number)}, config) for number in range(3)]
        return [future.result() for future in futures]

    @chain
    def plan(state: Any, config: RunnableConfig) -> dict[str, Any]:
        for _ in app.model().stream("plan", config):
            pass
        schedule.invoke({}, config)
        return {}

    def join(state: MessagesState) -> MessagesState:
        return {"messages": [app.model("gpt-4.1").invoke("join")]}

    builder = StateGraph(MessagesState).add_node("plan", plan).add_node(join).add_edge(START, "plan")
    graph: Any = builder.add_edge("plan", "join").compile()
    for _ in graph.stream({"messages": []}, app.config()):
        pass


@pytest.mark.parametrize(
    ("application", "script", "nodes"),
    [
        pytest.param(
            deep_research,
            research_script,
            # Both researchers search once; the supervisor is asked twice.
            {"research": 4, "use_tools": 4, "compress": 2, "supervise": 2, "delegate": 2, "team": 1, "write": 1},
            id="deep_research",
        ),
        pytest.param(map_reduce, None, {"draft": 3, "check": 3, "work": 3}, id="map_reduce"),
        pytest.param(interviews, None, {"ask": 6, "answer": 6, "conduct": 1}, id="interviews"),
        pytest.param(compile_calls, None, {"plan": 1, "join": 1}, id="compiler"),
    ],
)
def test_a_team_is_one_request_and_each_node_has_its_dollars(
    application: Any, script: Any, nodes: dict[str, int], tmp_path: Path
) -> None:
    """Every output holds what was served, and the ledger's tree has each node with the dollars of its record."""
    ledger = tmp_path / "eco2.db"

    measured = measure(application, script=script, ledger=str(ledger))

    assert measured.nodes == {(node, "success"): number for node, number in nodes.items()}
    with closing(backend_of(str(ledger))) as backend:
        (trace,) = read_traces(backend, str(measured.requests[0].trace_id))
    spent: Counter[tuple[str, Decimal]] = Counter()
    for run in measured.records.of(NodeRun):
        spent[run.node, run.cost.total_usd] += 1
    assert Counter((span.name, span.cost) for span in _nodes(trace.root)) == spent


def _nodes(span: Span) -> list[Span]:
    return [node for child in span.children for node in ([child] if child.kind == "node" else []) + _nodes(child)]


def test_an_agent_in_a_node_goes_on_after_an_approval() -> None:
    """A plan is streamed and approved; each step then runs an agent that its node makes, called as the node is."""

    def script() -> Script:
        return lambda request: (
            Reply("", [("crawl", {"url": "a"}), ("crawl", {"url": "b"})])
            if "crawl" in request.tools and not request.tool_results
            else None
        )

    async def application(app: App) -> None:
        @tool
        async def crawl(url: str) -> str:
            """Read a page."""
            return "page"

        class Plan(MessagesState, total=False):
            step: int

        def planner(state: Plan) -> Command[Literal["approve"]]:
            text = "".join(str(chunk.text) for chunk in app.model("gpt-4.1").stream("plan"))
            return Command(goto="approve", update={"step": 0, "messages": [HumanMessage(text)]})

        def approve(state: Plan) -> Command[Literal["team"]]:
            interrupt("Is this plan right?")
            return Command(goto="team")

        def team(state: Plan) -> None:
            return None

        async def step(state: Plan, name: str) -> Command[Literal["team"]]:
            agent = create_agent(app.model("gpt-4.1-nano"), [crawl], name=name)
            done = await agent.ainvoke({"messages": [HumanMessage("go")]}, {"recursion_limit": 25})
            return Command(goto="team", update={"step": state["step"] + 1, "messages": [done["messages"][-1]]})

        async def researcher(state: Plan) -> Command[Literal["team"]]:
            return await step(state, "researcher")

        async def coder(state: Plan) -> Command[Literal["team"]]:
            return await step(state, "coder")

        builder = StateGraph(Plan).add_node(planner).add_node(approve).add_node("team", team)
        builder.add_node(researcher).add_node(coder).add_edge(START, "planner")
        after = ("researcher", "coder", END)
        builder.add_conditional_edges("team", lambda state: after[state["step"]], list(after))
        graph: Any = builder.compile(checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "t"})
        for inputs in ({"messages": [("user", "go")]}, Command(resume="yes")):
            async for _ in graph.astream(inputs, config, stream_mode=["messages", "updates"], subgraphs=True):
                pass

    measured = measure(application, script=script, requests=2)

    assert [(run.status, run.resumed, run.llm_calls) for run in measured.requests] == [
        ("interrupted", False, 1),
        ("success", True, 4),
    ]
    assert Counter(call.path for call in measured.calls) == {"planner": 1, "researcher/model": 2, "coder/model": 2}
    assert measured.tools == {("crawl", "success"): 4}


def test_a_fork_pays_for_the_steps_that_it_repeats() -> None:
    """Time travel: a replay and a fork from a checkpoint are requests that make only the calls after it."""

    def application(app: App) -> None:
        def first(state: MessagesState) -> MessagesState:
            return {"messages": [app.model().invoke("first")]}

        def second(state: MessagesState) -> MessagesState:
            return {"messages": [app.model("gpt-4.1").invoke("second")]}

        builder = StateGraph(MessagesState).add_node(first).add_node(second).add_edge(START, "first")
        graph: Any = builder.add_edge("first", "second").compile(checkpointer=InMemorySaver())
        config = app.config(configurable={"thread_id": "t"})
        graph.invoke({"messages": []}, config)
        before = next(state for state in graph.get_state_history(config) if state.next == ("second",))
        fork = graph.update_state(before.config, {"messages": [HumanMessage("other")]}, as_node="first")
        for place in (before.config, fork):
            graph.invoke(None, app.config(configurable=place["configurable"]), durability="exit")

    measured = measure(application, requests=3)

    assert [run.llm_calls for run in measured.requests] == [2, 1, 1]
    assert measured.nodes == {("first", "success"): 1, ("second", "success"): 3}


def test_a_sync_stream_may_change_threads() -> None:
    """A web server reads a sync stream step by step, each step in a thread with a context of its own."""

    async def application(app: App) -> None:
        def node(state: MessagesState) -> MessagesState:
            return {"messages": [app.model().invoke("node")]}

        graph: Any = StateGraph(MessagesState).add_node(node).add_edge(START, "node").compile()
        async for _ in iterate_in_threadpool(graph.stream({"messages": []}, app.config(), stream_mode="messages")):
            pass
        draft = ChatPromptTemplate.from_template("{q}") | app.model() | StrOutputParser()
        polish = ChatPromptTemplate.from_template("{a}") | app.model("gpt-4.1-nano") | StrOutputParser()
        both = RunnablePassthrough.assign(a=draft) | polish
        async for _ in iterate_in_threadpool(both.stream({"q": "hello"}, app.config())):
            pass

    measured = measure(application, requests=2)

    assert [run.llm_calls for run in measured.requests] == [1, 2]


def test_a_middleware_may_call_the_model_three_times_at_once() -> None:
    """Self-consistency and a judge: all calls belong to their node, and none is a retry."""

    async def application(app: App) -> None:
        @wrap_model_call
        async def vote(request: Any, handler: Any) -> Any:
            return (await asyncio.gather(*(handler(request) for _ in range(3))))[0]

        class Judge(AgentMiddleware):
            async def aafter_model(self, state: Any, runtime: Any) -> None:
                await app.model("gpt-4.1-nano").ainvoke("Is this safe?")

        agent = create_agent(app.model(), [], middleware=[vote, Judge()], name="voter")
        await agent.ainvoke({"messages": [HumanMessage("hello")]}, app.config())

    measured = measure(application)

    assert Counter(call.path for call in measured.calls) == {"voter/model": 3, "voter/Judge.after_model": 1}
    assert not measured.retries


def test_retries_and_fallbacks_beside_each_other_are_apart() -> None:
    """Of parallel branches only the failing ones repeat their calls; a service that retries by itself does so too."""

    def script() -> Script:
        return lambda request: Reply(status=503) if "fail" in request.text and request.model == "gpt-4.1-mini" else None

    def application(app: App) -> None:
        model, spare = app.model(), app.model("gpt-4.1-nano")
        steps = RunnablePassthrough.assign(
            fallback=RunnableLambda(lambda state: "fail 1") | model.with_fallbacks([spare]),
            plain=RunnableLambda(lambda state: "fine") | model,
            both=RunnableLambda(lambda state: "fail 2")
            | model.with_retry(stop_after_attempt=2, wait_exponential_jitter=False).with_fallbacks([spare]),
        )
        steps.invoke({"q": "hello"}, app.config())

    measured = measure(application, script=script)

    statuses = Counter((call.model, call.status, call.retry) for call in measured.calls)
    assert statuses == {
        ("gpt-4.1-mini", "success", None): 1,
        ("gpt-4.1-mini", "error", None): 2,
        ("gpt-4.1-mini", "error", "retry"): 1,
        ("gpt-4.1-nano", "success", "fallback"): 2,
    }
