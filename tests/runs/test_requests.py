"""Requests: one GraphRun for each topmost run, with the sums of its calls and the labels of its state."""

from __future__ import annotations

import asyncio
import uuid
from typing import Any, TypedDict

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, intent, sample


class Labelled(TypedDict, total=False):
    intent: str
    tenant_id: str


async def test_a_graph_run_has_a_record_for_each_call_each_node_and_the_whole(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """The cost of a node and of a request is the sum of the costs of its calls."""
    metadata = {"tenant_id": "acme", "user_id": 7, "job_id": "j1", "intent": "general"}
    config = {"callbacks": [handler], "metadata": metadata, "configurable": {"thread_id": "t1"}, "tags": ["prod"]}

    await graph_of(intent, answer).compile().ainvoke({"answers": []}, config)

    first, second = records.calls
    assert (first.node, first.intent, first.tenant_id, first.agent_name) == ("intent", "general", "acme", "eco2")
    assert (second.node, second.intent) == ("answer", "waste")
    assert first.provider == "openai"
    assert (first.model, first.request_model) == ("gpt-5.2-2025-12-11", "gpt-5.2")
    assert first.usage == TokenUsage(input_tokens=1000, output_tokens=100)
    assert first.cost is not None
    assert first.cost.total_usd == COST
    assert first.started_at.tzinfo is not None
    nodes = records.nodes
    assert nodes["intent"].cost.total_usd == nodes["answer"].cost.total_usd == COST
    assert (nodes["intent"].step, nodes["answer"].step) == (1, 2)
    request = records.request
    assert first.trace_id == nodes["answer"].trace_id == request.trace_id
    assert request.cost.total_usd == 2 * COST
    assert sum(request.cost.parts.values()) == 2 * COST
    assert request.usage.total_tokens == 2200
    assert (request.llm_calls, request.tool_calls, request.status) == (2, 0, "success")
    assert (request.intent, request.tenant_id, request.user_id) == ("waste", "acme", "7")
    assert (request.session_id, request.job_id) == ("t1", "j1")
    assert (request.provider, request.model) == ("openai", "gpt-5.2-2025-12-11")
    assert "prod" in request.tags


@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_sync_and_async_runs_are_measured_alike(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, mode: str
) -> None:
    """Every way to run a graph gives the same record."""

    def sync_answer(state: State) -> State:
        return {"answers": [str(FakeModel().invoke("answer").content)]}

    graph = graph_of(sync_answer if "a" not in mode[:1] else answer).compile()
    config = {"callbacks": [handler]}

    if mode == "invoke":
        await asyncio.to_thread(graph.invoke, {"answers": []}, config)
    elif mode == "ainvoke":
        await graph.ainvoke({"answers": []}, config)
    elif mode == "stream":
        await asyncio.to_thread(lambda: list(graph.stream({"answers": []}, config, stream_mode="messages")))
    else:
        _ = [part async for part in graph.astream({"answers": []}, config, stream_mode="messages")]

    assert records.call.cost is not None
    assert records.call.cost.total_usd == COST
    assert records.call.streamed == ("stream" in mode)
    assert records.request.cost.total_usd == COST
    assert sample(registry, "eco2_callbacks_open_runs") == 0
    assert sample(registry, "agent_active_sessions", agent_name="eco2", tenant_id="") == 0


def test_state_labels_follow_other_keys_too(registry: CollectorRegistry, records: Records) -> None:
    """A tenant that one node writes to the state labels everything after it."""
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], state_labels=("intent", "tenant_id"))

    class Known(TypedDict, total=False):
        tenant_id: str

    def identify(state: Known) -> Known:
        return {"tenant_id": "acme"}

    def work(state: Known) -> Known:
        FakeModel().invoke("hello")
        return {}

    graph = StateGraph(Known)
    graph.add_node("identify", identify)
    graph.add_node("work", work)
    graph.add_edge(START, "identify")
    graph.add_edge("identify", "work")
    graph.compile().invoke({}, {"callbacks": [handler]})

    assert records.call.tenant_id == records.request.tenant_id == "acme"


def test_a_model_alone_is_a_call_and_no_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """A model without a graph gives an LLMCall only."""
    FakeModel().invoke("hello", config={"callbacks": [handler]})

    assert [type(record).__name__ for record in records.all] == ["LLMCall"]
    assert records.call.trace_id == records.call.run_id


def test_a_chain_below_an_unknown_run_is_a_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """The topmost run that the handler sees is the request, even inside another trace."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()), parent_run_id=uuid.uuid4(), metadata={})
    handler.on_chain_end({}, run_id=root)

    assert records.request.trace_id == root


def test_a_chain_in_a_graph_without_the_handler_is_the_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """A handler attached inside a node takes the topmost run it sees as the request."""

    def node(state: State) -> State:
        RunnableLambda(lambda text: FakeModel().invoke(text)).invoke("hello", config={"callbacks": [handler]})
        return {}

    graph_of(node).compile().invoke({"answers": []})

    assert [type(record).__name__ for record in records.all] == ["LLMCall", "GraphRun"]
    assert records.call.node == "node"
    assert records.request.cost.total_usd == COST


def test_batch_with_a_failure_counts_every_call(handler: Eco2CallbackHandler, records: Records) -> None:
    """Each prompt of a batch is a call of its own, the failing one included."""
    model = FakeModel(fails=[ConnectionError("reset")])

    replies = model.batch(["a", "b", "c"], config={"callbacks": [handler]}, return_exceptions=True)

    assert sum(isinstance(reply, ConnectionError) for reply in replies) == 1
    assert sorted(call.status for call in records.calls) == ["error", "success", "success"]


async def test_a_new_turn_does_not_start_with_the_last_ones_intent(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """An intent that the thread's state keeps from an earlier turn labels nothing."""
    graph = graph_of(intent, answer).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    for _ in range(2):
        await graph.ainvoke({"answers": []}, config)

    assert [call.intent for call in records.calls] == ["unclassified", "waste", "unclassified", "waste"]


def _labelled(intent: str, tenant_id: str) -> StateGraph[Any]:
    def label(state: Labelled) -> Labelled:
        FakeModel().invoke("label")
        return {"intent": intent, "tenant_id": tenant_id}

    def use(state: Labelled) -> Labelled:
        FakeModel().invoke("use")
        return {}

    return StateGraph(Labelled).add_sequence([label, use]).add_edge(START, "label")


def test_a_graph_inside_a_node_has_a_state_of_its_own(registry: CollectorRegistry, records: Records) -> None:
    """Its labels hold for its own calls; the request, and what comes after it, keep those of the outer state."""
    inner = _labelled("lookup", "inner").compile()

    def outer(state: Labelled) -> Labelled:
        inner.invoke({})
        return {}

    def last(state: Labelled) -> Labelled:
        FakeModel().invoke("last")
        return {}

    graph = _labelled("waste", "acme").add_sequence([outer, last]).add_edge("use", "outer").compile()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], state_labels=("intent", "tenant_id"))
    with handler:
        graph.invoke({}, {"callbacks": [handler]})

    labels = [(call.path, call.intent, call.tenant_id) for call in records.calls]
    assert labels == [
        ("label", "unclassified", ""),
        ("use", "waste", "acme"),
        ("outer/label", "waste", "acme"),
        ("outer/use", "lookup", "inner"),
        ("last", "waste", "acme"),
    ]
    assert (records.request.intent, records.request.tenant_id) == ("waste", "acme")


@pytest.mark.parametrize("way", ["subgraph as a node", "below a chain", "below a tool"])
def test_the_outermost_state_labels_the_request(registry: CollectorRegistry, records: Records, way: str) -> None:
    """A subgraph hands its labels on as its node's output; a graph below a chain or a tool is the outermost one."""
    graph: Any = _labelled("waste", "acme").compile()

    @tool
    def ask(question: str) -> str:
        """Ask the graph."""
        graph.invoke({})
        return str(FakeModel().invoke(question).content)

    def after(state: Labelled) -> Labelled:
        FakeModel().invoke("after")
        return {}

    runnable: Any = {
        "subgraph as a node": lambda: (
            StateGraph(Labelled).add_node("sub", graph).add_node(after).add_edge(START, "sub").add_edge("sub", "after")
        ).compile(),
        "below a chain": lambda: graph | RunnableLambda(after),
        "below a tool": lambda: ask,
    }[way]()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], state_labels=("intent", "tenant_id"))
    with handler:
        runnable.invoke({"question": "?"}, {"callbacks": [handler]})

    assert [(call.intent, call.tenant_id) for call in records.calls][1:] == [("waste", "acme")] * 2
    if way != "below a tool":
        assert (records.request.intent, records.request.tenant_id) == ("waste", "acme")


@pytest.mark.parametrize(
    ("value", "thread", "resumed"),
    [
        pytest.param(None, None, False, id="nothing to resume"),
        pytest.param(None, "t1", True, id="no input on a thread"),
        pytest.param(Command(resume="yes"), "t1", True, id="an answer"),
        pytest.param(Command(goto="answer"), "t1", False, id="a start elsewhere"),
    ],
)
def test_only_a_thread_can_be_resumed(
    handler: Eco2CallbackHandler, records: Records, value: Any, thread: str | None, resumed: bool
) -> None:
    """A request is resumed where it answers an interrupt, or takes up a thread without input."""
    metadata = {} if thread is None else {"thread_id": thread}  # as LangGraph passes it

    RunnableLambda(lambda _: None).invoke(value, {"callbacks": [handler], "metadata": metadata})

    assert records.request.resumed is resumed
