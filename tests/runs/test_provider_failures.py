"""Providers that break, fail, stall or refuse: received text is billed, a refusal is not."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from google.genai.types import HttpOptions, HttpRetryOptions
from langchain_core.runnables import Runnable

from eco2_callbacks import GraphRun, NodeRun
from tests.support.failing_provider import Api, FailingProvider, Plan, text_of_pieces
from tests.support.ledger_checks import REFUSED, UNKNOWN, WHOLE, Bill, LedgerChecks, estimate_so_far
from tests.support.official_models import APIS, OfficialModels, graph_of

PROMPT = "How do I sort a bottle?"
PIECES = 3
TIMEOUT_SECONDS = 0.15
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore:.* is in beta", "ignore:The v3 streaming protocol")

Model = Runnable[Any, Any]


# Ways to call a model, bare and inside a node.


async def invoke(model: Model, checks: LedgerChecks) -> None:
    model.invoke(PROMPT, checks.config)


async def ainvoke(model: Model, checks: LedgerChecks) -> None:
    await model.ainvoke(PROMPT, checks.config)


async def stream(model: Model, checks: LedgerChecks) -> None:
    for _ in model.stream(PROMPT, checks.config):
        pass


async def astream(model: Model, checks: LedgerChecks) -> None:
    async for _ in model.astream(PROMPT, checks.config):
        pass


async def stream_v3(model: Any, checks: LedgerChecks) -> None:
    for _ in model.stream_events(PROMPT, checks.config, version="v3"):
        pass


async def astream_v3(model: Any, checks: LedgerChecks) -> None:
    async with await model.astream_events(PROMPT, checks.config, version="v3") as events:
        async for _ in events:
            pass


async def stream_graph(model: Model, checks: LedgerChecks) -> None:
    for _ in graph_of(model).stream({"message": PROMPT}, checks.config, stream_mode="messages"):
        pass


async def astream_graph(model: Model, checks: LedgerChecks) -> None:
    async for _ in graph_of(model).astream({"message": PROMPT}, checks.config, stream_mode="messages"):
        pass


async def astream_graph_v3(model: Model, checks: LedgerChecks) -> None:
    events = await graph_of(model).astream_events({"message": PROMPT}, checks.config, version="v3")
    async with events:
        async for _ in events:
            pass


Call = Callable[[Any, LedgerChecks], Coroutine[Any, Any, None]]
WHOLE_CALLS = (invoke, ainvoke)
STREAMS = (stream, astream, stream_v3, astream_v3)
GRAPHS = (stream_graph, astream_graph, astream_graph_v3)

# What the official models raise, by how the stream ends.
RAISED = {
    ("cut", "chat"): "OpenAIConnectionError",
    ("cut", "responses"): "OpenAIConnectionError",
    ("cut", "gemini"): "RemoteProtocolError",
    ("error", "chat"): "APIError",
    ("error", "responses"): "ValueError",
    ("error", "gemini"): "GoogleAPIError",
    ("failed", "responses"): "ValueError",
    ("garbage", "chat"): "JSONDecodeError",
    ("garbage", "responses"): "JSONDecodeError",
    ("garbage", "gemini"): "UnknownApiResponseError",
}
TIMED_OUT = {"chat": "OpenAITimeoutError", "responses": "OpenAITimeoutError", "gemini": "ReadTimeout"}


async def failing(call: Call, model: Any, checks: LedgerChecks) -> str:
    """Return the class of the exception that the call raised, and release the exception."""
    with pytest.raises(Exception) as raised:  # noqa: PT011 # the caller checks which one
        await call(model, checks)
    return type(raised.value).__name__


def assert_runs_above_failed(checks: LedgerChecks, call: Call, error_type: str) -> None:
    """Assert that node and request failed with the call's error, for a call inside a graph."""
    runs = [("error", error_type)] if call in GRAPHS else []
    assert checks.ended(NodeRun) == checks.ended(GraphRun) == runs


def streams_opened(api: Api, call: Call) -> int:
    """Return how many streams are open before the first text; ChatOpenAI passes an empty chunk on."""
    return int(call not in WHOLE_CALLS and api != "gemini")


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [*STREAMS, *GRAPHS])
@pytest.mark.parametrize(("ends", "api"), RAISED)
async def test_a_stream_that_breaks_is_billed_so_far(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, ends: Any, call: Call
) -> None:
    """The text before a cut connection, an error event or invalid JSON is billed."""
    provider.set_plans(PROMPT, Plan(ends=ends, after=PIECES))

    raised = await failing(call, official_models.model(api), checks)

    assert raised == RAISED[ends, api]
    (call_record,) = checks.assert_balanced(
        ("error", raised, estimate_so_far(api, text_of_pieces(api, PIECES), "error"))
    )
    assert call_record.streamed_tokens == PIECES
    assert_runs_above_failed(checks, call, raised)


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [stream, astream, astream_graph])
@pytest.mark.parametrize("api", APIS)
async def test_a_stream_that_stalls_is_billed_so_far(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """The client's own timeout ends a stream like a broken connection."""
    provider.set_plans(PROMPT, Plan(ends="stall", after=PIECES))

    raised = await failing(call, official_models.model(api, timeout=TIMEOUT_SECONDS), checks)

    assert raised == TIMED_OUT[api]
    (call_record,) = checks.assert_balanced(
        ("error", raised, estimate_so_far(api, text_of_pieces(api, PIECES), "error"))
    )
    assert call_record.streamed_tokens == PIECES
    assert_runs_above_failed(checks, call, raised)


@ON_ONE_LOOP
@pytest.mark.parametrize("api", ["chat", "responses"])
async def test_a_stream_whose_next_chunk_is_late_is_billed_so_far(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """ChatOpenAI's limit between two chunks is a timeout like any other."""
    provider.set_plans(PROMPT, Plan(ends="stall", after=PIECES))

    raised = await failing(astream, official_models.model(api, stream_chunk_timeout=TIMEOUT_SECONDS), checks)

    assert raised == "StreamChunkTimeoutError"
    checks.assert_balanced(("error", raised, estimate_so_far(api, text_of_pieces(api, PIECES), "error")))


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
async def test_a_slow_stream_is_billed_in_full(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api
) -> None:
    """A stream that takes longer than the timeout, but never between two chunks, ends normally."""
    pieces = {"chat": 26, "responses": 26, "gemini": 7}[api]
    provider.set_plans(PROMPT, Plan(pause_seconds=0.21 / pieces))

    await astream(official_models.model(api, timeout=TIMEOUT_SECONDS), checks)

    (call_record,) = checks.assert_balanced(("success", None, WHOLE))
    assert call_record.streamed_tokens == pieces


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [*WHOLE_CALLS, stream, astream, astream_v3, astream_graph])
@pytest.mark.parametrize("ends", ["cut", "garbage"])
@pytest.mark.parametrize("api", APIS)
async def test_a_call_that_breaks_before_its_first_text_is_unpriced(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, ends: Any, call: Call
) -> None:
    """It is unknown whether the provider bills the prompt: no tokens, no dollars, counted as unpriced."""
    provider.set_plans(PROMPT, Plan(ends=ends))

    raised = await failing(call, official_models.model(api), checks)

    checks.assert_balanced(("error", raised, UNKNOWN), streams=streams_opened(api, call))


@ON_ONE_LOOP
@pytest.mark.parametrize("call", WHOLE_CALLS)
@pytest.mark.parametrize("api", APIS)
async def test_a_call_that_is_never_answered_is_unpriced(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """A client timeout before the answer leaves the cost unknown."""
    provider.set_plans(PROMPT, Plan(ends="stall"))

    raised = await failing(call, official_models.model(api, timeout=TIMEOUT_SECONDS), checks)

    assert raised == TIMED_OUT[api]
    checks.assert_balanced(("error", raised, UNKNOWN), streams=0)


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [stream, astream, astream_v3, astream_graph])
@pytest.mark.parametrize(
    ("api", "ends", "bill"),
    [
        ("chat", "error", UNKNOWN),
        ("responses", "error", UNKNOWN),
        ("responses", "failed", UNKNOWN),
        # Gemini's error event carries an HTTP status.
        ("gemini", "error", REFUSED),
    ],
)
async def test_a_stream_that_starts_with_an_error_is_refused_or_unpriced(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    ends: Any,
    bill: Bill,
    call: Call,
) -> None:
    """An error event instead of text is a refusal where it has a status, else unpriced."""
    provider.set_plans(PROMPT, Plan(ends=ends))

    raised = await failing(call, official_models.model(api), checks)

    assert raised == RAISED[ends, api]
    checks.assert_balanced(("error", raised, bill), streams=streams_opened(api, call))


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [*WHOLE_CALLS, stream, astream, astream_v3, astream_graph])
@pytest.mark.parametrize("status", [429, 500])
@pytest.mark.parametrize("api", APIS)
async def test_a_refused_call_costs_nothing(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, status: int, call: Call
) -> None:
    """An error status means that nothing is billed, which is not unpriced; 429 counts as a rate limit."""
    provider.set_plans(PROMPT, Plan(status=status))

    raised = await failing(call, official_models.model(api), checks)

    assert raised == ("Google" if api == "gemini" else "OpenAI") + {429: "RateLimitError", 500: "APIError"}[status]
    (call_record,) = checks.assert_balanced(("error", raised, REFUSED), streams=0)
    assert call_record.rate_limited == (status == 429)
    assert_runs_above_failed(checks, call, raised)


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [*WHOLE_CALLS, stream, astream])
@pytest.mark.parametrize("api", APIS)
async def test_what_the_sdk_retries_is_one_call(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """Retries inside a provider's SDK fire no callbacks: all attempts are one call with one end."""
    provider.set_plans(PROMPT, Plan(status=429, headers={"retry-after-ms": "1"}))
    provider.prompts.clear()
    retries = HttpRetryOptions(attempts=3, initial_delay=0.001, max_delay=0.002, jitter=0)
    model: Any = official_models.model(api) if api == "gemini" else official_models.model(api, max_retries=2)
    if api == "gemini":
        model = model.bind(http_options=HttpOptions(retry_options=retries))

    raised = await failing(call, model, checks)

    assert len(provider.prompts) == 3
    (call_record,) = checks.assert_balanced(("error", raised, REFUSED), streams=0)
    assert call_record.rate_limited


@ON_ONE_LOOP
@pytest.mark.parametrize("call", [stream, astream, stream_v3, astream_v3, astream_graph, astream_graph_v3])
@pytest.mark.parametrize("api", APIS)
async def test_a_stream_without_usage_is_estimated(
    provider: FailingProvider, official_models: OfficialModels, checks: LedgerChecks, api: Api, call: Call
) -> None:
    """Where a provider never reports its usage, the text is estimated."""
    provider.set_plans(PROMPT, Plan(usage=False))

    await call(official_models.model(api), checks)

    (call_record,) = checks.assert_balanced(
        ("success", None, Bill(WHOLE.output_tokens, None, estimate_reason="no_usage"))
    )
    assert call_record.streamed
