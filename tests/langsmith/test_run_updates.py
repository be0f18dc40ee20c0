"""LangSmith: every model run carries the record's tokens and dollars, however tracing was switched on."""

from __future__ import annotations

import asyncio
import gc
import json
import pickle
import threading
from collections.abc import Iterator
from contextlib import aclosing, suppress
from decimal import Decimal
from typing import Any

import langsmith
import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler, BaseCallbackHandler, UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers import LangChainTracer
from langgraph.graph import START, StateGraph
from langsmith.run_trees import RunTree
from langsmith.utils import get_env_var
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, Feature, GraphRun, LLMCall, TokenUsage
from eco2_callbacks.langsmith import usage_metadata
from eco2_callbacks.traced import TracedRun
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.traced_graphs import State, async_answer, fan_out, one_node, sync_answer
from tests.support.tracing_modes import ACTIVATIONS, MODES, activate

# gpt-5.2: 1000 x 1.75 + 100 x 14 USD per million tokens
PLAIN = {
    "input_tokens": 1000,
    "output_tokens": 100,
    "total_tokens": 1100,
    "input_cost": 0.00175,
    "output_cost": 0.0014,
    "total_cost": 0.00315,
}


@pytest.fixture
def server() -> Iterator[LangSmithServer]:
    with LangSmithServer() as server:
        yield server


def metadata(run: dict[str, Any]) -> dict[str, Any]:
    return dict(run["extra"]["metadata"])


def model_runs(server: LangSmithServer) -> list[dict[str, Any]]:
    return [run for run in server.runs().values() if run["run_type"] == "llm"]


def told(run: dict[str, Any]) -> dict[str, Any] | None:
    """Return the usage of a run as LangSmith is told it, in the one place and the other."""
    usage = metadata(run).get("usage_metadata")
    outputs = run.get("outputs") or {}
    if usage is not None and outputs.get("generations"):
        messages = [generation["message"]["kwargs"] for batch in outputs["generations"] for generation in batch]
        # Cut before its first chunk a stream has no message.
        wanted = [usage, *[None] * len(messages)][: len(messages)]
        assert [message.get("usage_metadata") for message in messages] == wanted
    return usage


@pytest.mark.parametrize("way", ACTIVATIONS)
async def test_every_model_run_carries_the_record(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, way: str
) -> None:
    """Whatever switched tracing on, and however the graph is called, the first end of each model run is the record."""
    either = RunnableLambda(sync_answer, async_answer)
    graphs = {
        "invoke": [one_node(sync_answer), one_node(either), fan_out(sync_answer)],
        "ainvoke": [one_node(sync_answer), one_node(async_answer), fan_out(sync_answer), fan_out(async_answer)],
    }
    graphs |= {"stream": graphs["invoke"], "astream": graphs["ainvoke"]}

    with activate(way, server, handler) as active:
        for mode, shapes in graphs.items():
            for graph in shapes:
                result = await MODES[mode](active, graph, {"message": "hello"}, metadata={"tenant_id": "acme"})
                assert set(result["answers"]) == {"sort it well"}

    runs = {run["id"]: run for run in model_runs(server)}
    assert set(runs) == {str(call.run_id) for call in records.calls}
    # Of three branches each, one shape in three and two in four.
    assert len(runs) == 2 * (2 + 3) + 2 * (2 + 6)
    for call in records.calls:
        assert call.usage is not None
        assert call.cost is not None
        run = runs[str(call.run_id)]
        assert told(run) == usage_metadata(call.usage, call.cost)
        assert metadata(run)["usage_metadata"]["total_cost"] == float(call.cost.total_usd) == 0.0053872
        assert len(server.patches(run["id"])) <= 1
        assert run["end_time"]
    requests = {str(request.trace_id): request for request in records.of(GraphRun)}
    for run in server.runs().values():
        if run["name"] == "LangGraph":
            assert metadata(run)["cost_usd"] == float(requests[run["id"]].cost.total_usd)
    on_the_wire = sum(Decimal(str(metadata(run)["usage_metadata"]["total_cost"])) for run in runs.values())
    assert float(on_the_wire) == pytest.approx(exposed(registry, "llm_cost_dollars_total"), abs=1e-12)
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


@pytest.mark.parametrize("way", ACTIVATIONS)
async def test_a_call_outside_any_graph_carries_its_record(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """A bare model, called every way there is, needs no graph around it."""
    model = FakeModel()

    with activate(way, server, handler) as active:
        config: RunnableConfig = {"callbacks": active.callbacks}

        async def streamed() -> None:
            async for _ in model.astream("hello", config):
                pass

        active.run(model.invoke, "hello", config)
        await active.arun(model.ainvoke, "hello", config)
        active.run(lambda: list(model.stream("hello", config)))
        await active.arun(streamed)
        active.run(model.batch, ["hello", "again"], config)
        active.run(model.generate, [[HumanMessage("hello")], [HumanMessage("again")]], callbacks=active.callbacks)

    assert len(records.calls) == 8
    assert [told(run) for run in model_runs(server)] == [PLAIN] * 8


def test_the_whole_metadata_of_each_run(server: LangSmithServer, records: Records) -> None:
    """What stands on a model's, a node's and a root's run, and nothing else of ours; sums are left to LangSmith."""
    graph = (
        StateGraph(State)
        .add_node("intent", lambda state: {"intent": "waste", **sync_answer(state)})
        .add_node("answer", sync_answer)
        .add_edge(START, "intent")
        .add_edge("intent", "answer")
        .compile()
    )
    config: dict[str, Any] = {"metadata": {"tenant_id": "acme", "job_id": "42", "user_id": "u1"}, "run_name": "chat:42"}

    with activate("environment", server) as active:
        graph.invoke({"message": "hello"}, {**config, "callbacks": active.callbacks})
    native = {run["name"]: set(metadata(run)) for run in server.runs().values()}
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records])
    with handler, LangSmithServer() as second:
        with activate("environment", second, handler) as active:
            graph.invoke({"message": "hello"}, {**config, "callbacks": active.callbacks})
        runs = {run["name"]: metadata(run) for run in second.runs().values() if run["run_type"] != "llm"}
        calls = [metadata(run) for run in model_runs(second)]

    # 176 x 1.75 + 1024 x 0.175 input; 350 x 14 output of which 128 x 14 reasoning, USD per million tokens
    usage = {
        "input_tokens": 1200,
        "output_tokens": 350,
        "total_tokens": 1550,
        "input_token_details": {"cache_read": 1024},
        "output_token_details": {"reasoning": 128},
        "input_cost": 0.0004872,
        "output_cost": 0.0049,
        "total_cost": 0.0053872,
        "input_cost_details": {"cache_read": 0.0001792},
        "output_cost_details": {"reasoning": 0.001792},
    }
    whose = {"tenant_id": "acme", "job_id": "42", "user_id": "u1"}
    spent = {"cost_usd": 0.0053872, "tokens": 1550}
    for name, intent in (("intent", "waste"), ("answer", "waste")):
        assert runs[name].items() >= {**whose, **spent, "intent": intent}.items()
        assert set(runs[name]) - native[name] == {"cost_usd", "tokens", "intent"}
    assert runs["chat:42"].items() >= {**whose, "cost_usd": 0.0107744, "tokens": 3100, "intent": "waste"}.items()
    assert set(runs["chat:42"]) - native["chat:42"] == {"cost_usd", "tokens", "intent"}
    assert [call["usage_metadata"] for call in calls] == [usage, usage]
    # The intent was not known yet when the first call began.
    # Older tracers write no usage of their own.
    added = [set(call) - native["FakeModel"] - {"usage_metadata"} for call in calls]
    assert added == [{"cost_usd", "tokens"}, {"cost_usd", "tokens", "intent"}]


def tree() -> Any:
    """An intent, a RAG node, and two parallel nodes of which one is a subgraph."""

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


@pytest.mark.parametrize("way", ACTIVATIONS)
async def test_tags_stand_where_they_apply(server: LangSmithServer, way: str) -> None:
    """The intent on the root and all below, once known; subagent, feature and execution on the node and below."""
    handler = Eco2CallbackHandler(
        registry=CollectorRegistry(),
        subagents=["location", "waste_rag"],
        features={"waste": {"feature": "rag", "subagents": ["waste_rag"]}, "location": "maps", "general": "talk"},
    )

    with handler, activate(way, server, handler) as active:
        await MODES["ainvoke"](active, tree(), {"message": "hello"}, tags=["env:production"])

    ours: dict[str, set[str]] = {}
    for run in server.runs().values():
        if run["name"] != "application":
            where = f"{run['name']}@{metadata(run).get('langgraph_checkpoint_ns', '').split(':')[0]}"
            ours.setdefault(where, set()).update(tag for tag in run["tags"] if not tag.startswith(("graph:", "seq:")))
    always = {"env:production", "intent:waste"}
    rag = always | {"subagent:waste_rag", "feature:rag"}
    location = always | {"subagent:location", "feature:maps", "execution:parallel"}
    assert ours == {
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
    """Its own subagents, else the handler's, else all nodes of the intent's requests; never the root."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), subagents=subagents, features={"waste": feature})

    with handler, activate("tracer_after", server, handler) as active:
        await MODES["ainvoke"](active, tree(), {"message": "hello"})

    nodes = [run for run in server.runs().values() if run["name"] == metadata(run).get("langgraph_node")]
    assert {run["name"] for run in nodes if "feature:rag" in run["tags"]} == tagged
    assert "feature:rag" not in next(run for run in server.roots())["tags"]


async def test_a_feature_says_what_runs_in_parallel(server: LangSmithServer) -> None:
    """Where one branch ends before the other begins, nothing but the feature tells that they stand side by side."""
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


def test_the_intent_of_the_state_replaces_the_one_the_request_began_with(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """A run has one intent, in its tags as in its metadata."""
    graph = one_node(lambda state: {"intent": "waste"})

    with activate("tracer_after", server, handler) as active:
        config: Any = {"callbacks": active.callbacks, "tags": ["intent:general"], "metadata": {"intent": "general"}}
        graph.invoke({"message": "hello"}, config)

    for run in server.runs().values():
        assert [tag for tag in run["tags"] if tag.startswith("intent:")] == ["intent:waste"]
        assert metadata(run)["intent"] == "waste"


class Choices(FakeModel):
    """Answers as ChatOpenAI does with n=3: the whole usage on every choice."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        answers = [AIMessage(content=word, usage_metadata=self.usage) for word in ("a", "b", "c")]
        return ChatResult(
            generations=[ChatGeneration(message=answer) for answer in answers],
            llm_output={"model_name": "gpt-5.2-2025-12-11"},
        )


@pytest.mark.parametrize("way", ACTIVATIONS)
def test_several_choices_are_counted_once(server: LangSmithServer, handler: Eco2CallbackHandler, way: str) -> None:
    """The provider bills the prompt once, and tells one usage for all choices."""
    with activate(way, server, handler) as active:
        active.run(Choices().generate, [[HumanMessage("hello")]], callbacks=active.callbacks)

    (run,) = model_runs(server)
    assert told(run) == PLAIN


@pytest.mark.parametrize("way", ["environment", "tracer_before"])
def test_a_hit_of_the_cache_costs_nothing(server: LangSmithServer, handler: Eco2CallbackHandler, way: str) -> None:
    """Of two equal calls the second is answered by LangChain: no tokens, no dollars."""
    model = FakeModel(cache=InMemoryCache())

    with activate(way, server, handler) as active:
        for _ in range(2):
            model.invoke("hello", {"callbacks": active.callbacks})

    first, second = sorted(model_runs(server), key=lambda run: run["start_time"])
    assert told(first) == PLAIN
    assert told(second) == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_cost": 0.0,
        "output_cost": 0.0,
        "total_cost": 0.0,
    }


async def cancel_in_stream(model: FakeModel, config: RunnableConfig) -> None:
    async def consume() -> None:
        async for _ in slow.astream("hello", config):
            pass

    slow = model.model_copy(update={"pause_seconds": 0.03})
    task = asyncio.create_task(consume())
    await asyncio.sleep(0.05)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def close_stream(model: FakeModel, config: RunnableConfig) -> None:
    async with aclosing(model.astream("hello", config)) as stream:  # type: ignore[type-var]
        async for _ in stream:
            break


async def break_stream(model: FakeModel, config: RunnableConfig) -> None:
    for _ in model.stream("hello", config):
        break


async def fail_in_stream(model: FakeModel, config: RunnableConfig) -> None:
    with suppress(ValueError):
        list(model.model_copy(update={"fails": [ValueError("cut")], "fails_after": 2}).stream("hello", config))


@pytest.mark.parametrize("cut_short", [cancel_in_stream, close_stream, break_stream, fail_in_stream])
@pytest.mark.parametrize("way", ["environment", "tracer_before", "tracer_after"])
async def test_a_stream_cut_short_carries_its_estimate(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str, cut_short: Any
) -> None:
    """What was received is estimated, marked as an estimate, and the same in the record."""
    with activate(way, server, handler) as active:
        await cut_short(FakeModel(), {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    call = records.call
    assert call.usage is not None
    assert call.cost is not None
    assert call.estimated
    assert told(run) == usage_metadata(call.usage, call.cost)
    assert metadata(run)["cost_estimated"] is True
    assert metadata(run)["estimate_reason"] == call.estimate_reason
    assert metadata(run)["cost_usd"] == float(call.cost.total_usd) > 0
    assert run["error"]


@pytest.mark.parametrize("way", ACTIVATIONS)
async def test_a_cancelled_call_is_closed_on_langsmith_too(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """LangChain tells nobody of the end of a call that is cancelled unstreamed; its run does not stay open for ever."""

    async def slow(state: State) -> State:
        await FakeModel(pause_seconds=30).ainvoke("hello")
        return {}

    with activate(way, server, handler) as active:
        task = asyncio.create_task(MODES["ainvoke"](active, one_node(slow), {"message": "hello"}))
        await asyncio.sleep(0.1)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

    assert records.call.status == "cancelled"
    run = server.run(run_type="llm")
    assert run["end_time"]
    assert run["error"] == "CancelledError: ended with the run above it, untold"
    assert len(server.patches(run["id"])) <= 1
    assert told(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    assert metadata(run)["cost_estimated"] is True


@pytest.mark.parametrize("way", ["environment", "tracer_before"])
async def test_a_call_that_outlives_its_cancelled_request_is_counted_as_it_ends(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """A thread cannot be cancelled: what it asked for is answered and billed, and that is what both are told."""
    answered = threading.Event()

    class Slow(FakeModel):
        def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
            asked.set()
            cancelled.wait(5)
            return super()._generate(*args, **kwargs)

    def node(state: State) -> State:
        RunnableLambda(lambda text: Slow(usage=DETAILED_USAGE).invoke(text)).invoke("hello")
        answered.set()
        return {}

    asked, cancelled = threading.Event(), threading.Event()
    with activate(way, server, handler) as active:
        task = asyncio.create_task(MODES["ainvoke"](active, one_node(node), {"message": "hello"}))
        await asyncio.to_thread(asked.wait, 5)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
        cancelled.set()
        await asyncio.to_thread(answered.wait, 5)
        await asyncio.sleep(0.01)

    assert records.request.status == "cancelled"
    assert (records.call.status, records.call.estimated) == ("success", False)
    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    assert run.get("error") is None
    assert len(server.patches(run["id"])) <= 1
    assert len(handler._tracker._runs) == 0


@pytest.mark.parametrize("way", ["environment", "tracer_before"])
async def test_a_call_cancelled_inside_a_node_that_goes_on_is_closed(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """A node that gives up waiting and answers otherwise leaves no run open."""

    async def node(state: State) -> State:
        with suppress(TimeoutError):
            await asyncio.wait_for(FakeModel(pause_seconds=30).ainvoke("hello"), 0.02)
        return {"answers": ["later"]}

    with activate(way, server, handler) as active:
        result = await MODES["ainvoke"](active, one_node(node), {"message": "hello"})

    assert result["answers"] == ["later"]
    assert (records.request.status, records.call.status) == ("success", "cancelled")
    (run,) = model_runs(server)
    assert run["end_time"]
    assert metadata(run)["cost_estimated"] is True
    assert told(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)


async def test_a_call_in_the_background_is_counted_as_it_ends(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """A task that a node leaves running ends after its request, with its own usage."""
    tasks = []

    async def node(state: State) -> State:
        tasks.append(asyncio.create_task(FakeModel(pause_seconds=0.5).ainvoke("hello")))
        await asyncio.sleep(0.001)
        return {}

    with activate("tracer_before", server, handler) as active:
        await MODES["ainvoke"](active, one_node(node), {"message": "hello"})
        assert records.calls == []
        await tasks[0]

    assert (records.call.status, records.call.estimated) == ("success", False)
    assert [told(run) for run in model_runs(server)] == [PLAIN]


def test_a_run_that_evicts_one_above_it_is_sent(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However few runs may be open, none that goes on is taken for one that was left behind."""
    monkeypatch.setattr(handler._tracker._runs, "_most", 1)

    with activate("tracer_before", server, handler) as active:
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    assert records.call.status == "success"
    assert [metadata(run)["usage_metadata"]["total_cost"] for run in model_runs(server)] == [0.0053872]
    for run in server.runs().values():
        assert run["end_time"]
        assert len(server.patches(run["id"])) <= 1


def test_a_call_without_a_price_tells_its_tokens_and_why(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """Unknown is not zero: no dollars, neither on the call nor on what is above it."""

    def node(state: State) -> State:
        FakeModel(model="own-7b", answered_by="own-7b").invoke("hello")
        return {}

    with activate("environment", server, handler) as active:
        one_node(node).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    assert told(run) == {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    assert metadata(run)["unpriced_reason"] == "unknown_model"
    for name in ("answer", "LangGraph"):
        assert metadata(server.run(name=name))["unpriced_calls"] == 1
        assert "cost_usd" not in metadata(server.run(name=name))


@pytest.mark.skipif(not hasattr(BaseCallbackHandler, "on_stream_event"), reason="this langchain-core has no v3 streams")
@pytest.mark.filterwarnings("ignore:.* is in beta")
@pytest.mark.parametrize("way", ["environment", "tracer_before", "tracer_after"])
async def test_v3_streams_carry_their_record(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, way: str
) -> None:
    """The event stream's runs end like any other."""
    with activate(way, server, handler) as active:
        stream = await FakeModel().astream_events("hello", {"callbacks": active.callbacks}, version="v3")
        async for _ in stream:
            pass
        await asyncio.sleep(0.01)

    (run,) = model_runs(server)
    assert told(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.00315


@pytest.mark.parametrize("way", ACTIVATIONS)
async def test_a_chain_whose_input_is_streamed_carries_its_cost(
    server: LangSmithServer, handler: Eco2CallbackHandler, way: str
) -> None:
    """A streamed sequence is sent as a whole at its end, not patched."""
    chain = ChatPromptTemplate.from_template("{message}") | FakeModel()

    with activate(way, server, handler) as active:
        active.run(lambda: list(chain.stream({"message": "hello"}, {"callbacks": active.callbacks})))

    assert metadata(server.run(name="RunnableSequence"))["cost_usd"] == 0.00315
    assert metadata(server.run(name="RunnableSequence"))["tokens"] == 1100
    assert told(server.run(run_type="llm")) == PLAIN


def test_the_application_sees_nothing_of_it(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """The answer, what it pickles to, and what another handler counts are as without the handler."""
    model, usages = FakeModel(), UsageMetadataCallbackHandler()
    plain = model.invoke("hello")

    for way in ("tracer_before", "tracer_after"):
        with activate(way, server, handler) as active:
            answer = model.invoke("hello", {"callbacks": [*active.callbacks, usages]})

            assert type(answer) is AIMessage
            assert answer.model_dump(exclude={"id"}) == plain.model_dump(exclude={"id"})
            assert pickle.loads(pickle.dumps(answer)) == answer

    assert usages.usage_metadata == {
        "gpt-5.2-2025-12-11": {"input_tokens": 2000, "output_tokens": 200, "total_tokens": 2200}
    }


@pytest.mark.parametrize("way", ["tracer_before", "tracer_after", "environment"])
@pytest.mark.parametrize("twice", ["same", "two"])
def test_two_handlers_agree(server: LangSmithServer, handler: Eco2CallbackHandler, way: str, twice: str) -> None:
    """Attached twice, or two of them, the run is sent once and carries the number once."""
    other = handler if twice == "same" else Eco2CallbackHandler(registry=CollectorRegistry())

    with activate(way, server, handler) as active:
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": [other, *active.callbacks, other]})
        other.close()

    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    for run in server.runs().values():
        assert len(server.patches(run["id"])) <= 1
        assert run["end_time"]


def test_a_tool_and_a_link_are_sent_too(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """Runs without a cost of their own lose nothing by being held back, and carry the intent."""

    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        return f"{city}: fair"

    chain = RunnableLambda(weather.invoke, name="ask") | RunnableLambda(str.upper, name="upper")

    with activate("tracer_before", server, handler) as active:
        answer = chain.invoke("Seoul", {"callbacks": active.callbacks, "metadata": {"intent": "weather"}})

    assert answer == "SEOUL: FAIR"
    assert {run["name"] for run in server.runs().values()} == {"RunnableSequence", "ask", "weather", "upper"}
    for run in server.runs().values():
        assert run["end_time"]
        assert "intent:weather" in run["tags"]
    assert server.run(name="weather")["outputs"]


def test_a_failing_node_is_sent_with_its_error(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """A failure reaches LangSmith with its own text and what had been spent until then."""

    def node(state: State) -> State:
        FakeModel().invoke("hello")
        raise ValueError("no such place")

    with activate("tracer_before", server, handler) as active, pytest.raises(ValueError, match="no such place"):
        one_node(node).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    for name in ("answer", "LangGraph"):
        assert "no such place" in server.run(name=name)["error"]
        assert metadata(server.run(name=name))["cost_usd"] == 0.00315


# What stays hidden, and what stays unsent.


@pytest.mark.parametrize("way", ACTIVATIONS)
def test_hidden_content_stays_hidden(server: LangSmithServer, handler: Eco2CallbackHandler, way: str) -> None:
    """With inputs and outputs hidden the wire holds the numbers and no text of anybody."""
    secret = "my address is 7 Mapo-daero"

    class Parrot(FakeModel):
        def _generate(self, messages: Any, *args: Any, **kwargs: Any) -> ChatResult:
            answer = AIMessage(content=messages[0].content, usage_metadata=self.usage)
            return ChatResult(generations=[ChatGeneration(message=answer)])

    with activate(way, server, handler, hide_inputs=True, hide_outputs=True) as active:
        active.run(
            one_node(lambda state: {"answers": [str(Parrot().invoke(secret).content)]}).invoke,
            {"message": secret},
            {"callbacks": active.callbacks},
        )

    assert all(secret not in str(operation.payload) for operation in server.operations)
    run = server.run(run_type="llm")
    assert not run.get("outputs")
    assert metadata(run)["usage_metadata"] == PLAIN


def test_hidden_metadata_and_anonymizers_keep_their_meaning(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """The client's own functions have the last word on what leaves."""

    def masked(data: dict[str, Any]) -> dict[str, Any]:
        return {"masked": sorted(data)}

    with activate("tracer_after", server, handler, hide_metadata=True, hide_outputs=masked) as active:
        FakeModel().invoke("hello", {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    assert "usage_metadata" not in run["extra"].get("metadata", {})
    assert set(run["outputs"]) == {"masked"}


@pytest.mark.parametrize(
    ("options", "tags"),
    [
        ({}, ["intent:flat 7"]),
        ({"hide_metadata": True}, []),
        ({"anonymizer": lambda data: json.loads(json.dumps(data).replace("flat 7", "X"))}, ["intent:X"]),
    ],
    ids=["shown", "hidden", "anonymized"],
)
def test_a_tag_shows_no_more_of_the_intent_than_the_metadata(
    server: LangSmithServer, handler: Eco2CallbackHandler, options: dict[str, Any], tags: list[str]
) -> None:
    """The client's functions do not look at tags, so what they make of the metadata holds for its tag."""
    with activate("tracer_after", server, handler, **options) as active:
        one_node(lambda state: {"intent": "flat 7"}).invoke({"message": "x"}, {"callbacks": active.callbacks})

    for run in server.runs().values():
        assert [tag for tag in run["tags"] if tag.startswith("intent:")] == tags


async def test_a_handler_around_ours_may_go_to_a_task_first(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """The manager is then not on the stack; inside a graph its context leads to the tracer."""

    class Around(AsyncCallbackHandler):
        async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            handler.on_chat_model_start(*args, **kwargs)

        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            handler.on_llm_end(*args, **kwargs)

    around = Around()
    around.run_inline = False
    with activate("tracer_before", server) as active:
        await one_node(async_answer).ainvoke({"message": "x"}, {"callbacks": [*active.callbacks, around]})

    assert [told(run) for run in model_runs(server)] == [
        usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    ]


def test_two_clients_have_projects_of_their_own() -> None:
    """Feedback names the project of the LangSmith that it goes to."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})
    graph = one_node(lambda state: {"scores": {"rag": 0.8}})

    with handler:
        for _ in range(3):
            with LangSmithServer() as server:
                with activate("tracer_after", server, handler) as active:
                    graph.invoke({"message": "x"}, {"callbacks": active.callbacks})
                    handler.close()
                assert [feedback["session_id"] for feedback in server.feedback] == [server.project_id]


def test_what_is_not_sampled_is_not_sent(server: LangSmithServer) -> None:
    """A trace that the client samples out is not brought back, nor is its feedback."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})

    with handler, activate("tracer_before", server, handler, tracing_sampling_rate=0.0) as active:
        one_node(lambda state: {"scores": {"rag": 0.8}}).invoke({"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    assert server.operations == []


def test_tracing_switched_off_inside_stays_off(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """A run that the application keeps from LangSmith is not sent by the handler either."""
    with activate("tracer_after", server, handler) as active, langsmith.tracing_context(enabled=False):
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    assert server.operations == []


# Feedback.


@pytest.mark.parametrize("way", ACTIVATIONS)
def test_scores_that_a_node_returns_become_feedback(server: LangSmithServer, way: str) -> None:
    """The score stands on the node's run, under its key; what is no score is not sent."""
    paths = {"answer": {"rag_quality": "scores.rag", "missing": "scores.other"}}
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback=paths)

    with handler, activate(way, server, handler) as active:
        graph = one_node(lambda state: {"scores": {"rag": 0.8}})
        active.run(graph.invoke, {"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    node = server.run(name="answer")
    (feedback,) = server.feedback
    assert (feedback["run_id"], feedback["trace_id"]) == (node["id"], node["trace_id"])
    assert (feedback["key"], feedback["score"]) == ("rag_quality", 0.8)
    assert feedback["session_id"] == server.project_id


def test_the_project_is_asked_for_once(server: LangSmithServer) -> None:
    """However many scores there are, and feedback rides in the runs' own requests."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})
    graph = one_node(lambda state: {"scores": {"rag": 0.8}})

    with handler, activate("tracer_after", server, handler) as active:
        for _ in range(20):
            graph.invoke({"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    assert len(server.feedback) == 20
    assert server.requests["GET /sessions"] == 1
    assert server.requests["POST /feedback"] == 0


# The mapping itself.


def test_the_parts_of_a_bill_stand_on_their_sides() -> None:
    """Tool fees are itemised inside output, audio on the side it was billed on, and input plus output is the total."""
    usage = TokenUsage(
        input_tokens=2000,
        cache_read_tokens=500,
        cache_creation_tokens=300,
        cache_creation_5m_tokens=200,
        cache_creation_1h_tokens=100,
        input_audio_tokens=100,
        output_tokens=900,
        reasoning_tokens=100,
        output_audio_tokens=200,
        output_image_tokens=300,
        web_searches=2,
    )
    parts = {
        "input": "0.5",
        "cache_read": "0.125",
        "cache_write": "0.25",
        "audio": "1.25",
        "output": "2",
        "reasoning": "0.5",
        "image": "4",
        "web_search": "0.03",
        "file_search": "0.01",
        "code_interpreter": "0.02",
        "maps_grounding": "0.04",
    }
    cost = Cost(
        # 0.75 of the audio was heard, 0.5 spoken
        input_usd=Decimal("1.625"),
        output_usd=Decimal("7.1"),
        parts={part: Decimal(usd) for part, usd in parts.items()},
    )

    assert sum(cost.parts.values()) == cost.total_usd
    assert usage_metadata(usage, cost) == {
        "input_tokens": 2000,
        "output_tokens": 900,
        "total_tokens": 2900,
        "input_token_details": {
            "cache_read": 500,
            "cache_creation": 300,
            "ephemeral_5m_input_tokens": 200,
            "ephemeral_1h_input_tokens": 100,
            "audio": 100,
        },
        "output_token_details": {"reasoning": 100, "audio": 200, "image": 300},
        "input_cost": 1.625,
        "output_cost": 7.1,
        "total_cost": 8.725,
        "input_cost_details": {"cache_read": 0.125, "cache_creation": 0.25, "audio": 0.75},
        "output_cost_details": {
            "reasoning": 0.5,
            "image": 4.0,
            "web_search": 0.03,
            "file_search": 0.01,
            "code_interpreter": 0.02,
            "maps_grounding": 0.04,
            "audio": 0.5,
        },
    }


def test_a_tracer_that_appears_below_an_untraced_graph_is_found(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """A model with a tracer of its own is priced there, although nothing around it is traced."""
    with server.client() as client:
        model = FakeModel(callbacks=[LangChainTracer(client=client)])
        one_node(lambda state: {"answers": [str(model.invoke("x").content)]}).invoke(
            {"message": "x"}, {"callbacks": [handler]}
        )
        client.flush()

        assert told(server.run(run_type="llm")) == PLAIN


def test_nothing_is_kept_for_a_langsmith_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """What the handler wrote on goes with the run, and the client's queue is as long as it is told to be."""
    monkeypatch.setenv("LANGSMITH_TRACING_QUEUE_MAX_SIZE", "100")
    get_env_var.cache_clear()
    registry = CollectorRegistry()
    feedback = {"answer": {"rag_quality": "scores.rag"}}
    graph = one_node(lambda state: {**sync_answer(state), "scores": {"rag": 0.8}})
    with LangSmithServer() as server, Eco2CallbackHandler(registry=registry, feedback=feedback) as handler:
        for way in ("tracer_before", "tracer_after"):
            with activate(way, server, handler) as active:
                server.hang()
                for _ in range(200):
                    graph.invoke({"message": "hello"}, {"callbacks": active.callbacks})

                assert active.client.tracing_queue is not None
                assert active.client.tracing_queue.qsize() <= 100
                gc.collect()
                kept = [kept for kept in gc.get_objects() if isinstance(kept, TracedRun | RunTree)]
                # The tracer keeps its latest run, and feedback that waits keeps none.
                assert len(kept) <= 2
    get_env_var.cache_clear()
    assert exposed(registry, "llm_calls_total") == 400


async def test_many_at_once_do_not_mix(server: LangSmithServer, handler: Eco2CallbackHandler, records: Records) -> None:
    """Fifty requests on one loop: each run carries its own record."""

    async def ask(number: int) -> None:
        usage = {"input_tokens": number, "output_tokens": 1, "total_tokens": number + 1}
        model = FakeModel(usage=usage, pause_seconds=0.001)

        async def node(state: State) -> State:
            await model.ainvoke("hello")
            return {}

        await one_node(node).ainvoke({"message": "x"}, {"callbacks": active.callbacks})

    with activate("tracer_before", server, handler) as active:
        await asyncio.gather(*map(ask, range(1, 51)))

    calls = {str(call.run_id): call for call in records.of(LLMCall)}
    assert len(calls) == 50
    for run in model_runs(server):
        call = calls[run["id"]]
        assert call.usage is not None
        assert told(run) == usage_metadata(call.usage, call.cost)
