"""The handler on real LangChain and LangGraph runs: who, where, how it ended, and that it never gets in the way."""

from __future__ import annotations

import asyncio
import gc
import logging
import threading
import uuid
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import Any, TypedDict

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult
from langchain_core.retrievers import BaseRetriever
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, Send, interrupt
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Cost, Eco2CallbackHandler, LLMCall, TokenUsage, ToolCall
from eco2_callbacks.records import RetrieverCall
from tests.support.fake_model import DETAILED_USAGE, USAGE, USAGE_USD, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, answer, graph_of, intent, sample

COST = Decimal(USAGE_USD)


async def test_a_graph_run_is_accounted_call_by_call_node_by_node_and_as_a_whole(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """What the calls cost is what their nodes and the request cost."""
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
    """One synchronous body serves every way to run a graph."""

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


async def test_a_stream_tells_its_first_token_and_its_chunks(records: Records, registry: CollectorRegistry) -> None:
    """Chunks without content are no tokens, and the first one with content stops the wait."""
    seconds = iter(range(100))
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], clock=lambda: float(next(seconds)))

    _ = [chunk async for chunk in FakeModel().astream("hello", config={"callbacks": [handler]})]

    call = records.call
    assert (call.streamed, call.streamed_tokens) == (True, 3)
    assert call.time_to_first_token_seconds == 1.0  # the clock steps once at the start and once at each token
    assert call.duration_seconds == 4.0


async def test_send_branches_of_one_step_are_parallel(handler: Eco2CallbackHandler, records: Records) -> None:
    """Two tasks of a step are parallel, the node after them is not."""
    both = asyncio.Barrier(2)

    async def branch(state: State) -> State:
        await both.wait()
        await FakeModel().ainvoke("branch")
        return {"answers": ["branch"]}

    graph = StateGraph(State)
    graph.add_node("branch", branch)
    graph.add_node("answer", answer)
    graph.add_conditional_edges(START, lambda state: [Send("branch", state), Send("branch", state)], ["branch"])
    graph.add_edge("branch", "answer")

    await graph.compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    runs = [(run.node, run.parallel) for run in records.all if type(run).__name__ == "NodeRun"]
    assert runs == [("branch", True), ("branch", True), ("answer", False)]
    assert records.request.cost.total_usd == 3 * COST


async def test_a_subgraph_is_spent_in_its_node_and_in_the_node_around_it(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """Dollars of an inner node belong to the outer one as well, and to the request once."""
    inner = graph_of(answer).compile()

    async def outer(state: State) -> State:
        result: State = await inner.ainvoke(state)
        return {"answers": result["answers"]}

    await graph_of(outer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert {name: run.cost.total_usd for name, run in records.nodes.items()} == {"answer": COST, "outer": COST}
    assert records.request.cost.total_usd == COST
    assert records.call.node == "answer"


async def test_an_interrupt_is_no_error_and_is_remembered_by_the_request(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A node that asks a person is interrupted, and so is its request, although the root ends normally."""

    async def ask(state: State) -> State:
        return {"answers": [interrupt("which bin?")]}

    graph = graph_of(ask).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    await graph.ainvoke({"answers": []}, config)
    await graph.ainvoke(Command(resume="blue"), config)

    statuses = [(type(run).__name__, run.status) for run in records.all]
    assert statuses == [
        ("NodeRun", "interrupted"),
        ("GraphRun", "interrupted"),
        ("NodeRun", "success"),
        ("GraphRun", "success"),
    ]
    assert sample(registry, "graph_node_runs_total", node="ask", status="error") == 0
    assert sample(registry, "chat_requests_total", intent="unclassified", status="interrupted", provider="") == 1


async def test_a_handover_to_the_graph_above_is_a_success_and_its_state_counts(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """``Command.PARENT`` travels as an exception, yet is how a node returns."""

    async def classify(state: State) -> Command[Any]:
        return Command(graph=Command.PARENT, goto="answer", update={"intent": "bulk_waste"})

    graph = StateGraph(State)
    graph.add_node("inner", graph_of(classify).compile())
    graph.add_node("answer", answer)
    graph.add_edge(START, "inner")

    await graph.compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert records.nodes["classify"].status == "success"
    assert records.call.intent == records.request.intent == "bulk_waste"


async def test_a_retried_node_runs_twice_in_one_step_without_being_parallel(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """A RetryPolicy's second run is the same task."""
    attempts = iter([ConnectionError("once"), None])

    async def shaky(state: State) -> State:
        if (error := next(attempts)) is not None:
            raise error
        return {"answers": ["done"]}

    graph = graph_of(shaky, retry_policy=RetryPolicy(initial_interval=0.001)).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [handler]})

    runs = [(run.status, run.error_type, run.parallel) for run in records.all if type(run).__name__ == "NodeRun"]
    assert runs == [("error", "ConnectionError", False), ("success", None, False)]
    assert records.request.status == "success"


async def test_with_retry_marks_the_second_attempt(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A failed attempt is a call of its own; the next one says that it repeats it."""
    model = FakeModel(fails=[ConnectionError("reset")]).with_retry(wait_exponential_jitter=False)

    await model.ainvoke("hello", config={"callbacks": [handler]})

    assert [(call.status, call.retry) for call in records.calls] == [("error", None), ("success", "retry")]
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2-2025-12-11"}
    assert sample(registry, "llm_retries_total", reason="retry", **labels) == 1


@pytest.mark.parametrize("inside", [True, False], ids=["in_a_node", "alone"])
@pytest.mark.parametrize("mode", ["invoke", "ainvoke", "stream", "astream"])
async def test_with_fallbacks_marks_the_model_that_stood_in(
    handler: Eco2CallbackHandler, records: Records, inside: bool, mode: str
) -> None:
    """The fallback's call is told from an ordinary one by the failure before it, in every mode."""
    model = FakeModel(fails=[ConnectionError("reset")], fails_after=0).with_fallbacks([FakeModel(model="gpt-4o")])

    async def run(config: Any) -> None:
        if mode == "invoke":
            model.invoke("hello", config=config)
        elif mode == "stream":
            list(model.stream("hello", config=config))
        elif mode == "ainvoke":
            await model.ainvoke("hello", config=config)
        else:
            _ = [chunk async for chunk in model.astream("hello", config=config)]

    async def node(state: State) -> State:
        await run(None)
        await FakeModel().ainvoke("afterwards")
        return {}

    if inside:
        await graph_of(node).compile().ainvoke({"answers": []}, {"callbacks": [handler]})
    else:
        await run({"callbacks": [handler]})

    told = [(call.request_model, call.status, call.retry) for call in records.calls]
    assert told[:2] == [("gpt-5.2", "error", None), ("gpt-4o", "success", "fallback")]
    assert told[2:] == ([("gpt-5.2", "success", None)] if inside else [])


async def test_a_rate_limit_is_told_from_other_errors(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """429 is counted as such, costs nothing and is not unpriced."""

    class TooManyError(Exception):
        status_code = 429

    with pytest.raises(TooManyError):
        await FakeModel(fails=[TooManyError("slow down")]).ainvoke("hello", config={"callbacks": [handler]})

    call = records.call
    assert (call.status, call.error_type, call.rate_limited) == ("error", "TooManyError", True)
    assert (call.usage, call.cost, call.unpriced_reason) == (None, None, None)
    assert sample(registry, "llm_rate_limit_errors_total", provider="openai", model="gpt-5.2") == 1
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2"}
    assert sample(registry, "llm_errors_total", error_type="TooManyError", **labels) == 1


async def test_a_failure_of_which_nobody_knows_the_bill_is_unpriced(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """An error that is no refusal may have been billed: unknown, counted, never zero."""
    with pytest.raises(AttributeError):
        await FakeModel(fails=[AttributeError("parse")]).ainvoke("hello", config={"callbacks": [handler]})

    assert (records.call.cost, records.call.unpriced_reason) == (None, "no_usage")
    assert sample(registry, "llm_unpriced_calls_total", provider="openai", model="gpt-5.2", reason="no_usage") == 1


async def test_an_unknown_model_is_unpriced_counted_and_logged_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """No price is never zero dollars, and the log says what to do about it."""
    model = FakeModel(model="our-llama", answered_by="our-llama")

    for _ in range(3):
        await model.ainvoke("hello", config={"callbacks": [handler]})

    assert [(call.cost, call.unpriced_reason) for call in records.calls] == [(None, "unknown_model")] * 3
    labels = {"provider": "openai", "model": "our-llama"}
    assert sample(registry, "llm_unpriced_calls_total", reason="unknown_model", **labels) == 3
    assert sample(registry, "llm_tokens_total", tenant_id="", token_type="input", **labels) == 3000
    (message,) = [r.getMessage() for r in caplog.records if r.name == "eco2_callbacks.metering"]
    assert message.startswith("No price for model 'our-llama' of provider 'openai' on ")
    assert message.endswith("; add it to the file named by ECO2_PRICES or pass prices=. Its calls count as unpriced.")


async def test_an_answer_that_names_no_known_model_costs_what_was_asked_for(
    handler: Eco2CallbackHandler, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """A deployment's own name in the answer falls back to the model asked for, silently."""
    await FakeModel(answered_by="/deployments/blue").ainvoke("hello", config={"callbacks": [handler]})

    assert records.call.model == "/deployments/blue"
    assert records.call.cost is not None
    assert records.call.cost.total_usd == COST
    assert caplog.messages == []


async def test_a_stream_without_usage_is_estimated_and_warned_about_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing usage becomes an estimate that says so, with the remedy in the log."""
    model = FakeModel(usage=None)

    for _ in range(2):
        _ = [chunk async for chunk in model.astream("How do I sort this?", config={"callbacks": [handler]})]

    call = records.calls[0]
    assert (call.status, call.estimated, call.estimate_reason) == ("success", True, "no_usage")
    # "How do I sort this?" is 6 tokens, one message's overhead 3 and the reply's 3; "sort it well" is 3 and 4 for
    # the marks around it.
    assert call.usage == TokenUsage(input_tokens=12, output_tokens=7)
    assert call.cost is not None
    usd = float(2 * call.cost.total_usd)
    labels = {"provider": "openai", "model": "gpt-5.2-2025-12-11"}
    estimated = sample(registry, "llm_estimated_cost_dollars_total", reason="no_usage", **labels)
    assert estimated == pytest.approx(usd, abs=1e-12)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == (
        f"Model 'gpt-5.2' of provider 'openai' answered without usage (run {call.run_id}); its cost is estimated. "
        "For a ChatOpenAI stream with its own base_url or client pass stream_usage=True."
    )


async def test_an_answer_from_the_llm_cache_is_a_hit_and_no_spend(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """LangChain's cache answers for nothing: its usage is not counted again."""
    model = FakeModel(cache=InMemoryCache())

    for _ in range(2):
        await model.ainvoke("hello", config={"callbacks": [handler]})

    paid, hit = records.calls
    assert (paid.from_cache, hit.from_cache) == (False, True)
    assert (hit.usage, hit.cost) == (TokenUsage(), Cost())
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2-2025-12-11"}
    assert sample(registry, "llm_cache_hits_total", **labels) == 1
    assert sample(registry, "llm_calls_total", intent="unclassified", status="success", **labels) == 2
    del labels["node"]
    assert sample(registry, "llm_tokens_total", tenant_id="", token_type="input", **labels) == 1000
    assert sample(registry, "llm_cost_dollars_total", tenant_id="", **labels) == float(COST)


async def test_a_cancelled_call_is_closed_by_the_run_above_it(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """LangChain tells a cancelled ``ainvoke`` only to its parents; the call ends with them, as an estimate."""

    async def slow(state: State) -> State:
        await FakeModel(pause_seconds=60).ainvoke("Wait for me")
        return {}

    task = asyncio.create_task(graph_of(slow).compile().ainvoke({"answers": []}, {"callbacks": [handler]}))
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("cancelled", "CancelledError", "cancelled")
    assert call.usage is not None
    assert call.usage.input_tokens > 0
    assert (records.nodes["slow"].status, records.request.status) == ("cancelled", "cancelled")
    assert sample(registry, "eco2_callbacks_open_runs") == 0
    assert sample(registry, "agent_active_sessions", agent_name="eco2", tenant_id="") == 0


async def test_a_stream_left_early_keeps_what_it_had_said(handler: Eco2CallbackHandler, records: Records) -> None:
    """A consumer that breaks off pays for the tokens so far, as an estimate."""
    stream = FakeModel(usage=None).astream("How do I sort this?", config={"callbacks": [handler]})

    await anext(stream)
    await anext(stream)
    await stream.aclose()

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("cancelled", "GeneratorExit", "cancelled")
    assert call.usage == TokenUsage(input_tokens=12, output_tokens=7)  # "sort it " is three tokens, and four


async def test_a_stream_that_breaks_is_estimated_from_its_text(handler: Eco2CallbackHandler, records: Records) -> None:
    """An error in mid-stream does not lose what was streamed before it."""
    model = FakeModel(usage=None, fails=[ConnectionError("reset")], fails_after=2)

    with pytest.raises(ConnectionError):
        _ = [chunk async for chunk in model.astream("How do I sort this?", config={"callbacks": [handler]})]

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("error", "ConnectionError", "error")
    assert call.usage == TokenUsage(input_tokens=12, output_tokens=7)


async def test_tools_and_retrievers_are_timed_where_they_ran(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """Tool calls and retrievals carry node and status, and tools count into the request."""

    @tool
    def weather(city: str) -> str:
        """Tell the weather."""
        if city == "nowhere":
            raise LookupError(city)
        return "rain"

    class Rules(BaseRetriever):
        def _get_relevant_documents(self, query: str, *, run_manager: Any) -> list[Document]:
            return [Document("rinse it")]

    async def waste_rag(state: State) -> State:
        await Rules().ainvoke("bottle")
        await weather.ainvoke({"city": "Seoul"})
        with pytest.raises(LookupError):
            await weather.ainvoke({"city": "nowhere"})
        return {}

    await graph_of(waste_rag).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    (retrieval,) = records.of(RetrieverCall)
    assert (retrieval.retriever, retrieval.node, retrieval.status) == ("Rules", "waste_rag", "success")
    tools = [(call.tool_name, call.node, call.status, call.error_type) for call in records.of(ToolCall)]
    assert tools == [
        ("weather", "waste_rag", "success", None),
        ("weather", "waste_rag", "error", "LookupError"),
    ]
    assert records.request.tool_calls == 2
    assert sample(registry, "tool_calls_total", tool_name="weather", agent_name="eco2", status="error") == 1
    assert sample(registry, "retrieval_duration_seconds_count", retriever="Rules", node="waste_rag") == 1


async def test_feedback_that_a_node_returns_is_observed(registry: CollectorRegistry, records: Records) -> None:
    """The mapping names node, key and path of a score in the node's output."""
    handler = Eco2CallbackHandler(
        registry=registry, sinks=[records], feedback={"grade": {"rag_quality": "scores.rag", "missing": "scores.no"}}
    )

    class Graded(TypedDict, total=False):
        scores: dict[str, float]

    async def grade(state: Graded) -> Graded:
        return {"scores": {"rag": 0.75}}

    graph = StateGraph(Graded)
    graph.add_node("grade", grade)
    graph.add_edge(START, "grade")
    await graph.compile().ainvoke({}, {"callbacks": [handler]})

    assert records.nodes["grade"].feedback == {"rag_quality": 0.75}
    assert sample(registry, "chat_feedback_score_bucket", node="grade", key="rag_quality", le="0.8") == 1
    assert sample(registry, "chat_feedback_score_bucket", node="grade", key="rag_quality", le="0.7") == 0


@pytest.mark.parametrize("mode", ["ainvoke", "astream"])
async def test_attached_twice_counts_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, mode: str
) -> None:
    """The same handler in the graph's config and on the model measures each run once."""
    model = FakeModel(callbacks=[handler])

    async def node(state: State) -> State:
        if mode == "ainvoke":
            await model.ainvoke("hello")
        else:
            _ = [chunk async for chunk in model.astream("hello")]
        return {}

    graph = graph_of(node).compile()
    await graph.ainvoke({"answers": []}, {"callbacks": [handler, handler]})

    assert records.call.streamed_tokens == (3 if mode == "astream" else 0)
    assert records.request.llm_calls == 1
    assert sample(registry, "chat_intent_total", intent="unclassified") == 1


async def test_two_handlers_with_registries_of_their_own_stay_apart() -> None:
    """Each handler knows only what it is attached to."""
    first, second = CollectorRegistry(), CollectorRegistry()
    one, two = Eco2CallbackHandler(registry=first), Eco2CallbackHandler(registry=second)

    await FakeModel().ainvoke("hello", config={"callbacks": [one]})
    await FakeModel().ainvoke("hello", config={"callbacks": [one, two]})

    labels = {"provider": "openai", "model": "gpt-5.2-2025-12-11", "tenant_id": "", "token_type": "input"}
    assert sample(first, "llm_tokens_total", **labels) == 2000
    assert sample(second, "llm_tokens_total", **labels) == 1000


async def test_handlers_on_one_registry_share_its_instruments(registry: CollectorRegistry) -> None:
    """A second handler adds to the same series instead of being refused."""
    one, two = Eco2CallbackHandler(registry=registry), Eco2CallbackHandler(registry=registry)

    await FakeModel().ainvoke("hello", config={"callbacks": [one]})
    await FakeModel().ainvoke("hello", config={"callbacks": [two]})

    labels = {"provider": "openai", "model": "gpt-5.2-2025-12-11", "tenant_id": "", "token_type": "input"}
    assert sample(registry, "llm_tokens_total", **labels) == 2000


class Raising:
    """A sink that fails."""

    closed = False

    def emit(self, record: Any) -> None:
        raise RuntimeError("disk full")

    def close(self) -> None:
        self.closed = True
        raise RuntimeError("still full")


async def test_a_raising_sink_is_logged_and_counted_and_hurts_nobody(
    registry: CollectorRegistry, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the application nor the other sinks notice a sink that fails."""
    raising = Raising()
    handler = Eco2CallbackHandler(registry=registry, sinks=[raising, records])

    reply = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    handler.close()

    assert reply.content == "sort it well"
    assert records.call.cost is not None
    assert raising.closed
    assert sample(registry, "eco2_callbacks_errors_total", callback="emit") == 1
    assert sample(registry, "eco2_callbacks_errors_total", callback="close") == 1
    assert f"Sink Raising raised in emit (run {records.call.run_id}); the application is not affected." in caplog.text


async def test_an_exception_in_a_callback_never_reaches_the_application(
    registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A broken clock breaks the measurement and is counted; the answer arrives."""

    def broken() -> float:
        raise OSError("no clock")

    handler = Eco2CallbackHandler(registry=registry, clock=broken)

    reply = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})

    assert reply.content == "sort it well"
    assert sample(registry, "eco2_callbacks_errors_total", callback="on_chat_model_start") == 1
    assert "on_chat_model_start failed for run" in caplog.text


def started(handler: Eco2CallbackHandler, parent: uuid.UUID | None = None) -> uuid.UUID:
    run_id = uuid.uuid4()
    metadata = {"ls_provider": "openai", "ls_model_name": "gpt-5.2"}
    handler.on_chat_model_start(
        {}, [[HumanMessage("hello")]], run_id=run_id, parent_run_id=parent, tags=[], metadata=metadata
    )
    return run_id


def result(usage: Any = None) -> LLMResult:
    message = AIMessage("fine", usage_metadata=USAGE if usage is None else usage)
    return LLMResult(generations=[[ChatGeneration(message=message)]])


def test_runs_without_an_end_are_closed_by_the_run_above(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A lost end costs its own run's accuracy and nothing else; an end that comes too late counts no second time."""
    root, middle = uuid.uuid4(), uuid.uuid4()
    handler.on_chain_start({}, {}, run_id=root)
    handler.on_chain_start({}, {}, run_id=middle, parent_run_id=root)
    call = started(handler, middle)

    handler.on_chain_end({}, run_id=root)
    handler.on_llm_end(result(), run_id=call)
    handler.on_chain_end({}, run_id=middle)

    assert (records.call.status, records.call.error_type) == ("cancelled", None)
    assert records.request.llm_calls == 1
    assert sample(registry, "eco2_callbacks_open_runs") == 0


def test_the_number_of_open_runs_is_bounded(
    registry: CollectorRegistry, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Past the bound the oldest run is closed as cancelled and counted as evicted, never dropped."""
    monkeypatch.setattr("eco2_callbacks.tracker._MOST_OPEN_RUNS", 3)
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])

    runs = [started(handler) for _ in range(4)]

    assert sample(registry, "eco2_callbacks_open_runs") == 3
    assert sample(registry, "eco2_callbacks_evicted_runs_total") == 1
    assert (records.call.run_id, records.call.status) == (runs[0], "cancelled")


def test_close_ends_what_is_open(handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry) -> None:
    """At shutdown open calls become records before the sinks are closed."""
    started(handler)

    handler.close()

    assert records.call.status == "cancelled"
    assert sample(registry, "eco2_callbacks_open_runs") == 0


def test_emit_takes_a_record_made_elsewhere(handler: Eco2CallbackHandler, registry: CollectorRegistry) -> None:
    """Code outside LangChain hands in a record of its own and every sink gets it."""
    record = LLMCall(
        run_id=uuid.uuid4(),
        trace_id=uuid.uuid4(),
        node="batch",
        provider="openai",
        model="gpt-5.2",
        started_at=datetime.now(UTC),
        duration_seconds=1.0,
        usage=TokenUsage(input_tokens=5),
        cost=Cost(input_usd=Decimal("0.25"), parts={"input": Decimal("0.25")}),
    )

    handler.emit(record)

    assert sample(registry, "llm_cost_dollars_total", provider="openai", model="gpt-5.2", tenant_id="") == 0.25


@pytest.mark.parametrize(
    ("changes", "fault"),
    [
        ({"usage": TokenUsage(input_tokens=-1)}, "the counts ['input_tokens'] are below 0"),
        ({"cost": Cost(input_usd=Decimal(-1))}, "the cost is below 0"),
        (
            {"cost": Cost(input_usd=Decimal(1), parts={"input": Decimal(2)})},
            "the parts of the cost sum to 2, not to its total 1",
        ),
        ({"status": "interrupted"}, "status is 'interrupted', wanted 'success', 'error' or 'cancelled'"),
        (
            {"otel_trace_id": "c0ffee", "otel_span_id": "beef000000000002"},
            "the OpenTelemetry ids are 'c0ffee' and 'beef000000000002', wanted 32 and 16 hexadecimal digits",
        ),
        (
            {"otel_trace_id": "c0ffee" + 26 * "0"},
            f"the OpenTelemetry ids are 'c0ffee{26 * '0'}' and None, wanted 32 and 16 hexadecimal digits",
        ),
    ],
    ids=["negative_count", "negative_cost", "parts_do_not_sum", "unknown_status", "short_trace_id", "no_span_id"],
)
def test_a_record_that_cannot_be_counted_is_refused_and_said_so(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    changes: dict[str, Any],
    fault: str,
) -> None:
    """A faulty record of somebody else's spoils no counter and no sink."""
    values = {
        "run_id": uuid.uuid4(),
        "trace_id": uuid.uuid4(),
        "started_at": datetime.now(UTC),
        "duration_seconds": 1.0,
    }

    handler.emit(LLMCall(**{**values, **changes}))

    assert records.all == []
    assert caplog.messages == [f"A record was handed in that cannot be counted: {fault}."]
    assert sample(registry, "eco2_callbacks_errors_total", callback="emit") == 1


def test_state_labels_follow_other_keys_too(registry: CollectorRegistry, records: Records) -> None:
    """A tenant that a node finds out about labels what comes after it."""
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
    """A root model run is an LLMCall only."""
    FakeModel().invoke("hello", config={"callbacks": [handler]})

    assert [type(record).__name__ for record in records.all] == ["LLMCall"]
    assert records.call.trace_id == records.call.run_id


def test_a_chain_below_a_run_never_seen_is_a_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """Under somebody else's trace the topmost run that the handler sees is the request."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()), parent_run_id=uuid.uuid4(), metadata={})
    handler.on_chain_end({}, run_id=root)

    assert records.request.trace_id == root


def test_a_chain_in_a_graph_without_the_handler_is_the_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """Attached inside a node only, the handler takes the topmost run it sees for the request."""

    def node(state: State) -> State:
        RunnableLambda(lambda text: FakeModel().invoke(text)).invoke("hello", config={"callbacks": [handler]})
        return {}

    graph_of(node).compile().invoke({"answers": []})

    assert [type(record).__name__ for record in records.all] == ["LLMCall", "GraphRun"]
    assert records.call.node == "node"
    assert records.request.cost.total_usd == COST


def test_siblings_of_a_run_that_ends_meanwhile_are_closed_too(handler: Eco2CallbackHandler, records: Records) -> None:
    """A run that another thread closes first does not keep the others open."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()))
    first, *_ = (started(handler, root) for _ in range(3))
    runs = handler._tracker._runs
    open_root = runs.get(root)
    assert open_root is not None
    assert open_root.children is not None
    stale = dict(open_root.children)
    handler.on_llm_end(result(), run_id=first)
    open_root.children = stale

    handler.on_chain_end({}, run_id=root)

    assert sorted(call.status for call in records.calls) == ["cancelled", "cancelled", "success"]
    assert len(runs) == 0


def test_a_tree_of_any_depth_is_closed(handler: Eco2CallbackHandler, records: Records) -> None:
    """Three thousand runs below each other end with the topmost one."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()))
    parent = root
    for _ in range(3000):
        handler.on_chain_start({}, {}, run_id=(child := uuid.uuid4()), parent_run_id=parent)
        parent = child

    handler.on_chain_end({}, run_id=root)

    assert records.request.status == "success"
    assert len(handler._tracker._runs) == 0


def test_an_abandoned_stream_may_be_collected_at_any_moment(
    handler: Eco2CallbackHandler, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector ends it with a callback, even in the middle of another one, without a deadlock."""
    lock = handler._tracker._runs._lock
    stream = FakeModel().stream("hello", config={"callbacks": [handler]})
    next(stream)

    with lock:
        del stream
        gc.collect()

    assert (records.call.status, records.call.streamed_tokens) == ("cancelled", 1)


def test_batch_with_a_failure_counts_every_call(handler: Eco2CallbackHandler, records: Records) -> None:
    """Each prompt of a batch is a call of its own, the failing one too."""
    model = FakeModel(fails=[ConnectionError("reset")])

    replies = model.batch(["a", "b", "c"], config={"callbacks": [handler]}, return_exceptions=True)

    assert sum(isinstance(reply, ConnectionError) for reply in replies) == 1
    assert sorted(call.status for call in records.calls) == ["error", "success", "success"]


async def test_the_messages_of_the_application_are_left_alone(handler: Eco2CallbackHandler) -> None:
    """Measuring changes nothing in what the model returns."""
    measured = await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    plain = await FakeModel().ainvoke("hello")

    measured.id = plain.id
    assert measured == plain


def test_eight_threads_lose_nothing(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """Sums are exact when calls end on many threads at once."""

    def work() -> None:
        for _ in range(50):
            FakeModel().invoke("hello", config={"callbacks": [handler], "metadata": {"tenant_id": "acme"}})

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(records.calls) == 400
    labels = {"provider": "openai", "model": "gpt-5.2-2025-12-11", "tenant_id": "acme"}
    assert sample(registry, "llm_cost_dollars_total", **labels) == pytest.approx(400 * float(COST), abs=1e-9)
    assert sample(registry, "llm_tokens_total", token_type="output", **labels) == 40_000
    assert sample(registry, "eco2_callbacks_open_runs") == 0


async def test_five_hundred_streams_at_once_leave_nothing_behind(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """Concurrent streams keep apart and are all forgotten once they ended."""
    model = FakeModel(words=["word "] * 20)

    async def consume() -> None:
        async for _ in model.astream("hello", config={"callbacks": [handler]}):
            await asyncio.sleep(0)

    await asyncio.gather(*(consume() for _ in range(500)))

    labels = {"provider": "openai", "model": "gpt-5.2-2025-12-11", "tenant_id": ""}
    assert sample(registry, "llm_tokens_total", token_type="output", **labels) == 50_000
    assert sample(registry, "eco2_callbacks_open_runs") == 0
    tracker = handler._tracker
    assert len(tracker._runs) == 0
    assert len(tracker._attempts) == 0


@pytest.mark.slow
async def test_five_thousand_calls_do_not_grow_the_process(registry: CollectorRegistry) -> None:
    """After a warm-up the number of live objects stays the same."""
    handler = Eco2CallbackHandler(registry=registry)
    graph = graph_of(intent, answer).compile()

    async def calls(number: int) -> int:
        for _ in range(number // 2):
            await graph.ainvoke({"answers": []}, {"callbacks": [handler]})
        generate_latest(registry)
        gc.collect()
        return len(gc.get_objects())

    await calls(500)
    before = await calls(500)
    after = await calls(5000)

    assert after - before < 500


def test_every_callback_that_can_fail_is_born_at_zero(registry: CollectorRegistry) -> None:
    """An alert on failures inside the handler finds its series before the first one."""
    Eco2CallbackHandler(registry=registry)

    defined = {name for name in vars(Eco2CallbackHandler) if name.startswith("on_")}
    defined |= {"emit", "overflow", "feedback", "stream_metrics", "close"}
    born = {
        line.labels["callback"]
        for family in registry.collect()
        for line in family.samples
        if line.name == "eco2_callbacks_errors_total"
    }
    assert born == defined


async def test_a_stream_that_breaks_inside_a_graph_keeps_what_it_had_said(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """LangChain hands on an empty result there; what was streamed before the error is not lost."""

    async def breaks(state: State) -> State:
        await FakeModel(usage=None, fails=[ConnectionError("reset")], fails_after=2).ainvoke("How do I sort this?")
        return {}

    with pytest.raises(ConnectionError):
        _ = [
            part
            async for part in graph_of(breaks)
            .compile()
            .astream({"answers": []}, {"callbacks": [handler]}, stream_mode="messages")
        ]

    assert (records.call.streamed_tokens, records.call.estimate_reason) == (2, "error")
    assert records.call.usage == TokenUsage(input_tokens=12, output_tokens=7)


@pytest.mark.skipif(not hasattr(BaseCallbackHandler, "on_stream_event"), reason="this langchain-core has no v3 streams")
@pytest.mark.filterwarnings("ignore:The method .* is in beta")
def test_a_v3_stream_is_counted_once_with_its_details(handler: Eco2CallbackHandler, records: Records) -> None:
    """LangChain's v3 events drop the details of a usage; the chunks below them have it whole."""
    model = FakeModel(usage=DETAILED_USAGE, metadata_of_answer={"service_tier": "flex"})

    list(model.stream_events("hello", config={"callbacks": [handler]}, version="v3"))

    assert (records.call.model, records.call.service_tier) == ("gpt-5.2-2025-12-11", "flex")
    assert records.call.usage == TokenUsage(
        input_tokens=1200, output_tokens=350, cache_read_tokens=1024, reasoning_tokens=128
    )
    assert (records.call.streamed, records.call.streamed_tokens) == (True, 3)


def test_a_model_that_fires_events_only_is_a_stream_too(handler: Eco2CallbackHandler, records: Records) -> None:
    """First token and text come from the events where no token is told."""
    run_id = started(handler)
    for event in (
        {"event": "message-start"},
        {"event": "content-block-delta", "delta": {"type": "text-delta", "text": "sort it "}},
        {"event": "content-block-delta", "delta": {"type": "text-delta", "text": "well"}},
    ):
        handler.on_stream_event(event, run_id=run_id)
    handler.on_llm_error(GeneratorExit(), run_id=run_id)

    call = records.call
    assert (call.streamed, call.streamed_tokens, call.status) == (True, 2, "cancelled")
    assert call.usage is not None
    assert call.usage.output_tokens == 7


@pytest.mark.parametrize("nested", [False, True], ids=["model", "chain"])
async def test_a_call_with_callbacks_of_its_own_stays_in_its_node(
    handler: Eco2CallbackHandler, records: Records, nested: bool
) -> None:
    """A config pasted into a node cuts LangChain's tree, not the bill of the node and the request."""

    async def node(state: State) -> State:
        model: Any = RunnableLambda(lambda text: text) | FakeModel() if nested else FakeModel()
        await model.ainvoke("hello", config={"callbacks": [handler]})
        return {}

    await graph_of(node).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert records.nodes["node"].cost.total_usd == records.request.cost.total_usd == COST
    assert records.call.trace_id == records.request.trace_id


@pytest.mark.parametrize("chained", [False, True], ids=["models", "chains"])
def test_fallbacks_at_the_top_are_one_request(handler: Eco2CallbackHandler, records: Records, chained: bool) -> None:
    """The attempts of a topmost fallback belong to it, chains included."""
    first: Any = FakeModel(fails=[ConnectionError("reset")])
    second: Any = FakeModel(model="gpt-4o")
    if chained:
        first, second = (RunnableLambda(lambda text: text) | model for model in (first, second))

    first.with_fallbacks([second]).invoke("hello", config={"callbacks": [handler]})

    assert (records.request.llm_calls, records.request.cost.total_usd) == (2, COST)
    assert [call.retry for call in records.calls] == [None, "fallback"]


@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_fallbacks_in_a_batch_are_told(handler: Eco2CallbackHandler, records: Records, mode: str) -> None:
    """Only the input whose first model failed is answered by a fallback."""
    model = FakeModel(fails=[ConnectionError("reset")]).with_fallbacks([FakeModel(model="gpt-4o")])

    config = {"callbacks": [handler], "max_concurrency": 1}
    replies = model.batch(["a", "b"], config=config) if mode == "batch" else await model.abatch(["a", "b"], config)

    assert len(replies) == 2
    told = sorted((call.request_model, call.status, call.retry) for call in records.calls)
    assert told == [
        ("gpt-4o", "success", "fallback"),
        ("gpt-5.2", "error", None),
        ("gpt-5.2", "success", None),
    ]


async def test_an_intent_from_before_an_interrupt_still_holds(handler: Eco2CallbackHandler, records: Records) -> None:
    """A resumed request takes up the state that nodes had filled before it was interrupted."""

    async def ask(state: State) -> State:
        return {"answers": [interrupt("which bin?")]}

    graph = graph_of(intent, ask, answer).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    await graph.ainvoke({"answers": []}, config)
    await graph.ainvoke(Command(resume="blue"), config)

    assert [(call.node, call.intent) for call in records.calls] == [("intent", "unclassified"), ("answer", "waste")]
    assert [run.intent for run in records.all if type(run).__name__ == "GraphRun"] == ["waste", "waste"]


async def test_a_new_turn_does_not_start_with_the_last_ones_intent(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """What the thread's state still holds of an earlier turn labels nothing."""
    graph = graph_of(intent, answer).compile(checkpointer=InMemorySaver())
    config = {"callbacks": [handler], "configurable": {"thread_id": "1"}}

    for _ in range(2):
        await graph.ainvoke({"answers": []}, config)

    assert [call.intent for call in records.calls] == ["unclassified", "waste", "unclassified", "waste"]


async def test_one_odd_text_does_not_break_the_scrape(
    handler: Eco2CallbackHandler, registry: CollectorRegistry
) -> None:
    """A lone surrogate in an intent is replaced: Prometheus could not fetch anything any more."""

    def odd(state: State) -> State:
        return {"intent": "waste\ud83d"}

    await graph_of(odd, answer).compile().ainvoke({"answers": []}, {"callbacks": [handler]})

    assert 'intent="waste?"' in generate_latest(registry).decode()


def test_a_topmost_run_without_an_end_is_forgotten_after_hours(registry: CollectorRegistry, records: Records) -> None:
    """Nobody is told of a cancelled call without a run above: it is closed when it is older than any request."""
    seconds = [0.0]
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], clock=lambda: seconds[0])
    forgotten = started(handler)

    seconds[0] = 6 * 3600.0
    started(handler)
    assert records.calls == []
    seconds[0] += 1
    started(handler)

    assert (records.call.run_id, records.call.status) == (forgotten, "cancelled")
    assert sample(registry, "eco2_callbacks_evicted_runs_total") == 1


def test_a_second_prompt_of_one_request_is_not_billed_again(handler: Eco2CallbackHandler, records: Records) -> None:
    """A text-completion request tells its usage on the first prompt's run; the others have none of their own."""
    whole = LLMResult(
        generations=[[Generation(text="a")], [Generation(text="b")]],
        llm_output={
            "token_usage": {"prompt_tokens": 200, "completion_tokens": 20},
            "model_name": "gpt-3.5-turbo-instruct",
        },
    )
    for flat in whole.flatten():
        run_id = uuid.uuid4()
        handler.on_llm_start({}, ["prompt"], run_id=run_id, metadata={"ls_provider": "openai"})
        handler.on_llm_end(flat, run_id=run_id)

    assert [(call.operation, call.usage) for call in records.calls] == [
        ("text_completion", TokenUsage(input_tokens=200, output_tokens=20)),
        ("text_completion", TokenUsage()),
    ]


async def test_an_error_after_a_handled_rate_limit_is_not_one_itself(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """The second model's own failure is not taken for the first one's refusal."""

    class TooManyError(Exception):
        status_code = 429

    async def second_try() -> None:
        try:
            await FakeModel(fails=[TooManyError("slow down")]).ainvoke("hello", config={"callbacks": [handler]})
        except TooManyError:
            await FakeModel(fails=[ValueError("parse")]).ainvoke("hello", config={"callbacks": [handler]})

    with pytest.raises(ValueError, match="parse"):
        await second_try()

    assert [(call.rate_limited, call.unpriced_reason) for call in records.calls] == [(True, None), (False, "no_usage")]


def test_odd_tags_and_names_lose_nothing(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A run with tags or a name that are no texts is measured all the same."""
    handler.on_chain_start({}, {}, run_id=(root := uuid.uuid4()), tags=[1], name=5)  # type: ignore[list-item]
    handler.on_chain_end({}, run_id=root)

    assert records.request.status == "success"
    assert sample(registry, "agent_active_sessions", agent_name="eco2", tenant_id="") == 0


def test_a_copied_model_goes_on_reporting(handler: Eco2CallbackHandler, records: Records) -> None:
    """A deep copy of a model or config holds the same handler."""
    model = FakeModel(callbacks=[handler]).model_copy(deep=True)

    model.invoke("hello")

    assert records.call.cost is not None


def test_the_applications_decimal_context_changes_no_dollar(handler: Eco2CallbackHandler, records: Records) -> None:
    """Dollars are exact whatever precision the application works with."""
    with localcontext(prec=3):
        FakeModel(usage={"input_tokens": 123_457, "output_tokens": 11, "total_tokens": 123_468}).invoke(
            "hello", config={"callbacks": [handler]}
        )

    assert records.call.cost is not None
    # 123457 x 1.75 + 11 x 14 USD per million
    assert records.call.cost.total_usd == Decimal("0.21620375")


def test_retrievers_and_scores_are_born_at_zero(registry: CollectorRegistry) -> None:
    """A retriever's series begin with its first start, a configured score's with the handler."""
    handler = Eco2CallbackHandler(registry=registry, feedback={"grade": {"rag": "score"}})

    handler.on_retriever_start({}, "query", run_id=uuid.uuid4(), name="Rules", metadata={"langgraph_node": "rag"})

    assert sample(registry, "retrieval_duration_seconds_count", retriever="Rules", node="rag") == 0
    assert sample(registry, "chat_feedback_score_count", node="grade", key="rag") == 0
