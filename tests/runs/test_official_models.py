"""Calls of the official models, cancelled, repeated, batched or cached: each is recorded and billed once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import START, StateGraph
from langgraph.types import Command, RetryPolicy, interrupt

from eco2_callbacks import GraphRun, NodeRun
from tests.support.failing_provider import INPUT_TOKENS, OUTPUT_TOKENS, Api, FailingProvider, Plan, text_of_pieces
from tests.support.ledger_checks import REFUSED, UNKNOWN, WHOLE, Bill, LedgerChecks, estimate_so_far, wait_until
from tests.support.official_models import APIS, OfficialModels, State, graph_of
from tests.support.record_sink import exposed

PROMPT, OTHER_PROMPT, REFUSED_PROMPT = "How do I sort a bottle?", "How do I sort a can?", "How do I sort a secret?"
BROKEN = {"chat": "OpenAIConnectionError", "responses": "OpenAIConnectionError", "gemini": "RemoteProtocolError"}
LIMITED = {"chat": "OpenAIRateLimitError", "responses": "OpenAIRateLimitError", "gemini": "GoogleRateLimitError"}
# An answer from LangChain's cache.
FREE = Bill(0, 0)
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore:.* is in beta", "ignore:The v3 streaming protocol")


@pytest.fixture(autouse=True)
def plans(provider: FailingProvider) -> None:
    for prompt in (PROMPT, OTHER_PROMPT):
        provider.set_plans(prompt, Plan())
    provider.set_plans(REFUSED_PROMPT, Plan(status=429))
    provider.prompts.clear()


async def cancelled(provider: FailingProvider, call: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(call)
    await wait_until(lambda: bool(provider.prompts))
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def waited_for(provider: FailingProvider, call: Awaitable[Any]) -> None:
    task = asyncio.ensure_future(call)
    await wait_until(lambda: bool(provider.prompts))
    with suppress(TimeoutError):
        await asyncio.wait_for(task, 0.01)


@asynccontextmanager
async def timeout_once_asked(provider: FailingProvider) -> AsyncIterator[None]:
    """End the block by a time-out, but not before the provider has the request, however slow the machine is."""
    async with asyncio.timeout(None) as limit:

        async def strike() -> None:
            await wait_until(lambda: bool(provider.prompts))
            limit.reschedule(asyncio.get_running_loop().time())

        striking = asyncio.create_task(strike())
        try:
            yield
        finally:
            striking.cancel()


async def timed_out(provider: FailingProvider, call: Awaitable[Any]) -> None:
    with suppress(TimeoutError):
        async with timeout_once_asked(provider):
            await call


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("end", [cancelled, waited_for, timed_out])
async def test_a_call_cancelled_before_its_answer_is_billed_for_its_prompt(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, end: Any
) -> None:
    """No end callback fires, and no run is above the call; it is closed once its caller's frames are gone."""
    provider.set_plans(PROMPT, Plan(ends="stall"))
    model = official_models.model(api)

    await end(provider, model.ainvoke(PROMPT, checks.config))
    if end is not cancelled and api == "gemini":
        # The task continues, so only the end of its frames shows it; google-genai keeps them until its next request.
        await model.ainvoke(OTHER_PROMPT)
    await asyncio.sleep(0)  # until then the loop itself holds them
    gc.collect()

    checks.assert_balanced(("cancelled", None, estimate_so_far(api, "", "cancelled")), streams=0)


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("end", [cancelled, waited_for, timed_out])
async def test_a_call_cancelled_with_its_graph_is_billed_for_its_prompt(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, end: Any
) -> None:
    """A node that ends closes the call that it made."""
    provider.set_plans(PROMPT, Plan(ends="stall"))

    await end(provider, graph_of(official_models.model(api)).ainvoke({"message": PROMPT}, checks.config))

    checks.assert_balanced(("cancelled", "CancelledError", estimate_so_far(api, "", "cancelled")), streams=0)
    assert checks.ended(NodeRun) == checks.ended(GraphRun) == [("cancelled", "CancelledError")]


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
async def test_a_call_that_its_node_gives_up_is_billed_for_its_prompt(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """A node that stops waiting for a call and continues does not keep the call open."""
    provider.set_plans(PROMPT, Plan(ends="stall"))

    async def patient(state: State) -> State:
        with suppress(TimeoutError):
            async with timeout_once_asked(provider):
                await official_models.model(api).ainvoke(state["message"])
        return {"answer": "later"}

    graph = StateGraph(State).add_node("answer", patient).add_edge(START, "answer").compile()
    await graph.ainvoke({"message": PROMPT}, checks.config)

    (call,) = checks.assert_balanced(("cancelled", None, estimate_so_far(api, "", "cancelled")), streams=0)
    assert call.node == "answer"
    assert checks.ended(NodeRun) == checks.ended(GraphRun) == [("success", None)]


PROMPT_BATCH = [[HumanMessage(prompt)] for prompt in (PROMPT, REFUSED_PROMPT, OTHER_PROMPT)]


@pytest.mark.parametrize("api", APIS)
def test_a_generate_with_one_failure_leaves_nothing_open(
    official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """LangChain drops the other answers and fires the error callback only; the others are estimated."""
    with suppress(Exception):
        official_models.model(api).generate(PROMPT_BATCH, callbacks=checks.callbacks)
    gc.collect()

    # The last prompt was never sent, which no callback shows either.
    lost = ("cancelled", None, estimate_so_far(api, "", "cancelled"))
    checks.assert_balanced(lost, ("error", LIMITED[api], REFUSED), lost, streams=0)


@pytest.mark.parametrize("api", APIS)
def test_a_nodes_generate_with_one_failure_leaves_nothing_open(
    official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """In a node that fails because of it, the other calls end with the node."""

    def answer(state: State, config: RunnableConfig) -> State:
        official_models.model(api).generate(PROMPT_BATCH, callbacks=config["callbacks"])
        return {}

    graph = StateGraph(State).add_node("answer", answer).add_edge(START, "answer").compile()
    with suppress(Exception):
        graph.invoke({"message": PROMPT}, checks.config)

    lost = ("cancelled", LIMITED[api], estimate_so_far(api, "", "cancelled"))
    checks.assert_balanced(lost, ("error", LIMITED[api], REFUSED), lost, streams=0)
    assert checks.ended(NodeRun) == checks.ended(GraphRun) == [("error", LIMITED[api])]


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
async def test_an_agenerate_with_one_failure_bills_the_others_exactly(
    official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """Its prompts run in parallel, and LangChain fires the callbacks of each."""
    with suppress(Exception):
        await official_models.model(api).agenerate(PROMPT_BATCH, callbacks=checks.callbacks)

    answered = ("success", None, WHOLE)
    checks.assert_balanced(answered, ("error", LIMITED[api], REFUSED), answered, streams=0)


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("return_exceptions", [True, False])
@pytest.mark.parametrize("mode", ["batch", "abatch"])
async def test_a_batch_with_one_failure_bills_the_others_exactly(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    return_exceptions: bool,
    mode: str,
) -> None:
    """Each input of a batch is a call of its own, whether its failure is returned or raised."""
    provider.set_plans(REFUSED_PROMPT, Plan(ends="cut"))
    model, prompts = official_models.model(api), [PROMPT, REFUSED_PROMPT, OTHER_PROMPT]

    try:
        if mode == "batch":
            _, failure, _ = model.batch(prompts, checks.config, return_exceptions=return_exceptions)
        else:
            _, failure, _ = await model.abatch(prompts, checks.config, return_exceptions=return_exceptions)
        returned = type(failure).__name__
    except Exception as error:
        raised = type(error).__name__
    assert (returned if return_exceptions else raised) == BROKEN[api]
    # An exception that is raised at once leaves the other calls running.
    await wait_until(lambda: not checks.open_runs)

    answered = ("success", None, WHOLE)
    checks.assert_balanced(answered, ("error", BROKEN[api], UNKNOWN), answered, streams=0)


async def ainvoke(model: Any, checks: LedgerChecks) -> None:
    await model.ainvoke(PROMPT, checks.config)


async def astream(model: Any, checks: LedgerChecks) -> None:
    async for _ in model.astream(PROMPT, checks.config):
        pass


async def astream_v3(model: Any, checks: LedgerChecks) -> None:
    async with await model.astream_events(PROMPT, checks.config, version="v3") as events:
        async for _ in events:
            pass


async def ainvoke_graph(model: Any, checks: LedgerChecks) -> None:
    await graph_of(model).ainvoke({"message": PROMPT}, checks.config)


async def astream_graph(model: Any, checks: LedgerChecks) -> None:
    async for _ in graph_of(model).astream({"message": PROMPT}, checks.config, stream_mode="messages"):
        pass


async def astream_graph_v3(model: Any, checks: LedgerChecks) -> None:
    async with await graph_of(model).astream_events({"message": PROMPT}, checks.config, version="v3") as events:
        async for _ in events:
            pass


Call = Callable[[Any, LedgerChecks], Awaitable[None]]


@ON_ONE_LOOP
@pytest.mark.parametrize("api", ["chat", "gemini"])
@pytest.mark.parametrize("call", [ainvoke, astream, astream_v3, astream_graph])
async def test_several_choices_are_billed_once(
    official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """The provider bills one prompt and three answers, although LangChain repeats the usage on every choice."""
    await call(official_models.model(api, n=3), checks)

    # 1,000 input and 468 output tokens: 0.00175 + 0.006552 USD of gpt-5.2, 0.0005 + 0.001404 of Gemini.
    checks.assert_balanced(("success", None, Bill(3 * OUTPUT_TOKENS, INPUT_TOKENS)), streams=int(call is not ainvoke))


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("call", "hit", "streams"),
    [
        (ainvoke, True, 0),
        (ainvoke_graph, True, 0),
        (astream_graph, True, 1),
        # LangChain streams the cached answer again.
        (astream_graph_v3, True, 2),
        # LangChain has no cache for a model's own streams.
        (astream, False, 2),
        (astream_v3, False, 2),
    ],
)
async def test_an_answer_from_the_cache_costs_nothing(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    call: Call,
    hit: bool,
    streams: int,
) -> None:
    """A cached answer has no tokens and no dollars; a new request is billed again."""
    model = official_models.model(api).model_copy(update={"cache": InMemoryCache()})

    for _ in range(2):
        await call(model, checks)

    again = ("success", None, FREE if hit else WHOLE)
    calls = checks.assert_balanced(("success", None, WHOLE), again, streams=streams)
    assert [call.from_cache for call in calls] == [False, hit]
    assert exposed(checks.registry, "llm_cache_hits_total") == hit
    assert len(provider.prompts) == 2 - hit


def failed_attempt(provider: FailingProvider, api: Api, call: Call) -> tuple[str, str | None, Bill]:
    """Make the first attempt fail: after two pieces where a graph streams, else refused."""
    if call in {astream_graph, astream_graph_v3}:
        provider.set_plans(PROMPT, Plan(ends="cut", after=2), Plan())
        return "error", BROKEN[api], estimate_so_far(api, text_of_pieces(api, 2), "error")
    provider.set_plans(PROMPT, Plan(status=429), Plan())
    return "error", LIMITED[api], REFUSED


STREAMS = {astream: 1, astream_graph: 2, astream_graph_v3: 2}
ATTEMPTS = [(reason, call) for reason in ("retry", "fallback") for call in (ainvoke, ainvoke_graph, *STREAMS)]
ATTEMPTS.remove(("retry", astream))  # LangChain does not retry a stream


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(("reason", "call"), ATTEMPTS)
async def test_each_attempt_is_billed_by_itself(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call, reason: str
) -> None:
    """The failed attempt is a call with the text it had received; the next attempt is marked."""
    model = official_models.model(api)
    failure = failed_attempt(provider, api, call)
    retrying, falling_back = model.with_retry(wait_exponential_jitter=False), model.with_fallbacks([model])

    await call(retrying if reason == "retry" else falling_back, checks)

    calls = checks.assert_balanced(failure, ("success", None, WHOLE), streams=STREAMS.get(call, 0))
    assert [call.retry for call in calls] == [None, reason]
    assert exposed(checks.registry, "llm_retries_total") == 1
    assert checks.ended(GraphRun) == [("success", None)]


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("call", [ainvoke_graph, astream_graph])
async def test_a_node_that_is_retried_is_billed_each_time(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """A RetryPolicy runs the node again in the same request, which pays for both runs."""
    failure = failed_attempt(provider, api, call)
    policy = RetryPolicy(initial_interval=0.001, jitter=False, retry_on=Exception)
    graph = graph_of(official_models.model(api), retry_policy=policy)

    if call is ainvoke_graph:
        await graph.ainvoke({"message": PROMPT}, checks.config)
    else:
        async for _ in graph.astream({"message": PROMPT}, checks.config, stream_mode="messages"):
            pass

    calls = checks.assert_balanced(failure, ("success", None, WHOLE), streams=2 if call is astream_graph else 0)
    assert checks.ended(NodeRun) == [("error", failure[1]), ("success", None)]
    assert checks.ended(GraphRun) == [("success", None)]
    (request,) = checks.records.of(GraphRun)
    assert request.cost.total_usd == sum(call.cost.total_usd for call in calls if call.cost is not None)
    assert request.estimated == any(call.estimated for call in calls)


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize("streamed", [False, True])
async def test_an_interrupted_node_is_billed_each_time(
    official_models: OfficialModels, checks: LedgerChecks, api: Api, streamed: bool
) -> None:
    """A node that interrupts after its model call runs again on resume, and so does the call."""
    model = official_models.model(api)

    async def answer(state: State) -> State:
        text = (await model.ainvoke(state["message"])).text
        return {"answer": f"{text} {interrupt('Which bin?')}"}

    builder = StateGraph(State).add_node("answer", RunnableLambda(answer)).add_edge(START, "answer")
    graph: Any = builder.compile(checkpointer=InMemorySaver())
    config = {**checks.config, "configurable": {"thread_id": "1"}}

    for inputs in ({"message": PROMPT}, Command(resume="blue")):
        if streamed:
            async for _ in graph.astream(inputs, config, stream_mode="messages"):
                pass
        else:
            await graph.ainvoke(inputs, config)

    answered = ("success", None, WHOLE)
    checks.assert_balanced(answered, answered, streams=2 * streamed)
    assert checks.ended(NodeRun) == [("interrupted", "GraphInterrupt"), ("success", None)]
    assert checks.ended(GraphRun) == [("interrupted", None), ("success", None)]
