"""LangSmith: every model run carries the tokens and dollars of its record, in every tracing mode."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import AsyncCallbackHandler
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatResult
from langchain_core.prompts import ChatPromptTemplate
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers import LangChainTracer
from langgraph.graph import START, StateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, GraphRun, LLMCall, TokenUsage
from eco2_callbacks.langsmith.usage_payload import usage_metadata
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, metadata, model_runs, usage_of
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import Records, exposed
from tests.support.traced_graphs import State, async_answer, fan_out, one_node, sync_answer
from tests.support.tracing_modes import CALL_MODES, TRACING_MODES, activate


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_every_model_run_carries_the_record(
    server: LangSmithServer,
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    tracing_mode: str,
) -> None:
    """The first end of each model run is its record, in every tracing mode and call mode."""
    either = RunnableLambda(sync_answer, async_answer)
    graphs = {
        "invoke": [one_node(sync_answer), one_node(either), fan_out(sync_answer)],
        "ainvoke": [one_node(sync_answer), one_node(async_answer), fan_out(sync_answer), fan_out(async_answer)],
    }
    graphs |= {"stream": graphs["invoke"], "astream": graphs["ainvoke"]}

    with activate(tracing_mode, server, handler) as active:
        for mode, shapes in graphs.items():
            for graph in shapes:
                result = await CALL_MODES[mode](active, graph, {"message": "hello"}, metadata={"tenant_id": "acme"})
                assert set(result["answers"]) == {"sort it well"}

    runs = {run["id"]: run for run in model_runs(server)}
    assert set(runs) == {str(call.run_id) for call in records.calls}
    # fan_out has three branches: one of three graphs for invoke and stream, two of four for ainvoke and astream.
    assert len(runs) == 2 * (2 + 3) + 2 * (2 + 6)
    for call in records.calls:
        assert call.usage is not None
        assert call.cost is not None
        run = runs[str(call.run_id)]
        assert usage_of(run) == usage_metadata(call.usage, call.cost)
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


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_a_call_outside_any_graph_carries_its_record(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str
) -> None:
    """A model without a graph carries its record however it is called."""
    model = FakeModel()

    with activate(tracing_mode, server, handler) as active:
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
    assert [usage_of(run) for run in model_runs(server)] == [PRICED_USAGE] * 8


def test_the_metadata_of_each_run_is_complete(server: LangSmithServer, records: Records) -> None:
    """The handler adds exactly these keys to model, node and root runs; LangSmith computes the sums."""
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

    # 176 x 1.75 + 1024 x 0.175 input; 350 x 14 output, 128 x 14 of it reasoning, USD per million tokens
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
    labels = {"tenant_id": "acme", "job_id": "42", "user_id": "u1"}
    spent = {"cost_usd": 0.0053872, "tokens": 1550}
    for name, intent in (("intent", "waste"), ("answer", "waste")):
        assert runs[name].items() >= {**labels, **spent, "intent": intent}.items()
        assert set(runs[name]) - native[name] == {"cost_usd", "tokens", "intent"}
    assert runs["chat:42"].items() >= {**labels, "cost_usd": 0.0107744, "tokens": 3100, "intent": "waste"}.items()
    assert set(runs["chat:42"]) - native["chat:42"] == {"cost_usd", "tokens", "intent"}
    assert [call["usage_metadata"] for call in calls] == [usage, usage]
    # The first call starts before the intent is known. Older tracers write no usage of their own.
    added = [set(call) - native["FakeModel"] - {"usage_metadata"} for call in calls]
    assert added == [{"cost_usd", "tokens"}, {"cost_usd", "tokens", "intent"}]


class Choices(FakeModel):
    """Returns the whole usage on every choice, as ChatOpenAI does with n=3."""

    def _generate(self, *args: Any, **kwargs: Any) -> ChatResult:
        answers = [AIMessage(content=word, usage_metadata=self.usage) for word in ("a", "b", "c")]
        return ChatResult(
            generations=[ChatGeneration(message=answer) for answer in answers],
            llm_output={"model_name": "gpt-5.2-2025-12-11"},
        )


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
def test_several_choices_are_counted_once(
    server: LangSmithServer, handler: Eco2CallbackHandler, tracing_mode: str
) -> None:
    """The provider bills the prompt once and reports one usage for all choices."""
    with activate(tracing_mode, server, handler) as active:
        active.run(Choices().generate, [[HumanMessage("hello")]], callbacks=active.callbacks)

    (run,) = model_runs(server)
    assert usage_of(run) == PRICED_USAGE


@pytest.mark.parametrize("tracing_mode", ["environment", "tracer_before"])
def test_a_cache_hit_costs_nothing(server: LangSmithServer, handler: Eco2CallbackHandler, tracing_mode: str) -> None:
    """LangChain answers the second of two equal calls: no tokens, no dollars."""
    model = FakeModel(cache=InMemoryCache())

    with activate(tracing_mode, server, handler) as active:
        for _ in range(2):
            model.invoke("hello", {"callbacks": active.callbacks})

    first, second = sorted(model_runs(server), key=lambda run: run["start_time"])
    assert usage_of(first) == PRICED_USAGE
    assert usage_of(second) == {
        "input_tokens": 0,
        "output_tokens": 0,
        "total_tokens": 0,
        "input_cost": 0.0,
        "output_cost": 0.0,
        "total_cost": 0.0,
    }


def test_a_call_without_a_price_carries_its_tokens_and_the_reason(
    server: LangSmithServer, handler: Eco2CallbackHandler
) -> None:
    """An unpriced call has no dollars, and neither has any run above it."""

    def node(state: State) -> State:
        FakeModel(model="own-7b", answered_by="own-7b").invoke("hello")
        return {}

    with activate("environment", server, handler) as active:
        one_node(node).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    (run,) = model_runs(server)
    assert usage_of(run) == {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    assert metadata(run)["unpriced_reason"] == "unknown_model"
    for name in ("answer", "LangGraph"):
        assert metadata(server.run(name=name))["unpriced_calls"] == 1
        assert "cost_usd" not in metadata(server.run(name=name))


@pytest.mark.needs_core("1.4")  # v3 streams
@pytest.mark.filterwarnings("ignore:.* is in beta")
@pytest.mark.parametrize("tracing_mode", ["environment", "tracer_before", "tracer_after"])
async def test_v3_streams_carry_their_record(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records, tracing_mode: str
) -> None:
    """The run of a v3 event stream carries its record like any other."""
    with activate(tracing_mode, server, handler) as active:
        stream = await FakeModel().astream_events("hello", {"callbacks": active.callbacks}, version="v3")
        async for _ in stream:
            pass
        # The end callbacks run in a task of LangChain's.
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}))

    (run,) = model_runs(server)
    assert usage_of(run) == usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.00315


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_a_chain_whose_input_is_streamed_carries_its_cost(
    server: LangSmithServer, handler: Eco2CallbackHandler, tracing_mode: str
) -> None:
    """LangChain posts a streamed sequence whole at its end, and its cost is on it."""
    chain = ChatPromptTemplate.from_template("{message}") | FakeModel()

    with activate(tracing_mode, server, handler) as active:
        active.run(lambda: list(chain.stream({"message": "hello"}, {"callbacks": active.callbacks})))

    assert metadata(server.run(name="RunnableSequence"))["cost_usd"] == 0.00315
    assert metadata(server.run(name="RunnableSequence"))["tokens"] == 1100
    assert usage_of(server.run(run_type="llm")) == PRICED_USAGE


@pytest.mark.parametrize("tracing_mode", ["tracer_before", "tracer_after", "environment"])
@pytest.mark.parametrize("twice", ["same", "two"])
def test_two_handlers_send_each_run_once(
    server: LangSmithServer, handler: Eco2CallbackHandler, tracing_mode: str, twice: str
) -> None:
    """With a handler attached twice, or two handlers, each run is sent once with one cost."""
    other = handler if twice == "same" else Eco2CallbackHandler(registry=CollectorRegistry())

    with activate(tracing_mode, server, handler) as active:
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": [other, *active.callbacks, other]})
        other.close()

    (run,) = model_runs(server)
    assert metadata(run)["usage_metadata"]["total_cost"] == 0.0053872
    for run in server.runs().values():
        assert len(server.patches(run["id"])) <= 1
        assert run["end_time"]


async def test_a_handler_that_wraps_ours_may_run_in_a_task(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Without the manager on the stack, the graph's context leads to the tracer."""

    class Around(AsyncCallbackHandler):
        async def on_chat_model_start(self, *args: Any, **kwargs: Any) -> None:
            handler.on_chat_model_start(*args, **kwargs)

        async def on_llm_end(self, *args: Any, **kwargs: Any) -> None:
            handler.on_llm_end(*args, **kwargs)

    around = Around()
    around.run_inline = False
    with activate("tracer_before", server) as active:
        await one_node(async_answer).ainvoke({"message": "x"}, {"callbacks": [*active.callbacks, around]})

    assert [usage_of(run) for run in model_runs(server)] == [
        usage_metadata(records.call.usage or TokenUsage(), records.call.cost)
    ]


def test_the_parts_of_a_cost_are_split_into_input_and_output() -> None:
    """Tool fees are output, audio is on the side it was billed on, and input plus output is the total."""
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
        # Audio: 0.75 input, 0.5 output
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
    """A model's own tracer gets the cost although the graph around it is not traced."""
    with server.client() as client:
        model = FakeModel(callbacks=[LangChainTracer(client=client)])
        one_node(lambda state: {"answers": [str(model.invoke("x").content)]}).invoke(
            {"message": "x"}, {"callbacks": [handler]}
        )
        client.flush()

        assert usage_of(server.run(run_type="llm")) == PRICED_USAGE


async def test_concurrent_requests_do_not_mix(
    server: LangSmithServer, handler: Eco2CallbackHandler, records: Records
) -> None:
    """Each of fifty concurrent requests carries its own record."""

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
        assert usage_of(run) == usage_metadata(call.usage, call.cost)
