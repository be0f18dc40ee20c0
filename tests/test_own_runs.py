"""call() and tool(): calls that LangChain does not see count in node, request, Prometheus, sinks and on LangSmith."""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import AsyncIterator, Iterator
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.types import interrupt
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LLMCall, SDKCall, ToolCall
from tests.support.fake_model import COST, FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import State, graph_of, sample

# A Chat Completion as OpenAI documents it.
ANSWER: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "gpt-5.2-2025-12-11",
    "service_tier": "default",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "in the bin"}}],
    "usage": {"prompt_tokens": 1000, "completion_tokens": 100, "total_tokens": 1100},
}
# gpt-5.2: 1000 x 1.75 + 100 x 14 USD per million tokens
USD = Decimal("0.00315")
CALL = {"provider": "openai", "model": "gpt-5.2"}


def chunks(*, with_usage: bool = True) -> list[dict[str, Any]]:
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "model": "gpt-5.2-2025-12-11"}
    texts = [{**common, "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("in ", "the ", "bin")]
    return [*texts, {**common, "choices": [], "usage": ANSWER["usage"]}] if with_usage else texts


async def streamed(items: list[Any]) -> AsyncIterator[Any]:
    for item in items:
        await asyncio.sleep(0)
        yield item


@pytest.mark.parametrize("kind", ["sync", "async"])
async def test_a_call_counts_in_its_node_and_request(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, kind: str
) -> None:
    """An SDK's call inside a node has its attribution, and adds to node, request and Prometheus."""

    def intent(state: State) -> State:
        return {"intent": "waste"}

    def sync_raw(state: State) -> State:
        with handler.call(**CALL) as call:
            assert call.answered(ANSWER) is ANSWER
        return {}

    async def async_raw(state: State) -> State:
        async with handler.call(**CALL) as call:
            await asyncio.sleep(0)
            call.answered(ANSWER)
        return {}

    node = sync_raw if kind == "sync" else async_raw
    config = {"callbacks": [handler], "metadata": {"tenant_id": "acme"}}
    await graph_of(intent, node).compile().ainvoke({"answers": []}, config)

    call = records.call
    assert (call.node, call.intent, call.tenant_id) == (node.__name__, "waste", "acme")
    assert (call.provider, call.model, call.request_model) == ("openai", "gpt-5.2-2025-12-11", "gpt-5.2")
    assert (call.response_id, call.service_tier, call.estimated) == ("chatcmpl-1", "default", False)
    assert call.cost is not None
    assert call.cost.total_usd == USD
    assert call.trace_id == records.request.trace_id
    assert call.parent_run_id == records.nodes[node.__name__].run_id
    assert (call.path, call.agent_name) == (records.nodes[node.__name__].path, "eco2")
    assert records.nodes[node.__name__].cost.total_usd == records.request.cost.total_usd == USD
    assert records.request.llm_calls == 1
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(float(USD))
    assert exposed(registry, "graph_node_cost_dollars_total") == pytest.approx(float(USD))
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


@pytest.mark.parametrize("kind", ["sync", "async", "by_hand"])
async def test_a_streamed_call_is_measured_chunk_by_chunk(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, kind: str
) -> None:
    """A stream passes through unchanged; its chunks, usage and first token are in the record."""
    sent = chunks()
    if kind == "sync":
        with handler.call(**CALL) as call:
            passed = list(call.streamed(sent))
    elif kind == "async":
        async with handler.call(**CALL) as call:
            passed = [chunk async for chunk in call.streamed(streamed(sent))]
    else:
        passed = sent
        with handler.call(**CALL) as call:
            for chunk in sent:
                call.add_chunk(chunk)

    record = records.call
    assert passed == sent
    assert (record.status, record.streamed, record.streamed_tokens) == ("success", True, 3)
    assert record.time_to_first_token_seconds is not None
    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (USD, False)
    assert exposed(registry, "chat_stream_tokens_total") == 3
    assert exposed(registry, "chat_stream_active") == 0


def test_a_stream_that_is_left_counts_as_cancelled(handler: Eco2CallbackHandler, records: Records) -> None:
    """Of a stream that is left early, what was sent and what arrived is estimated."""
    request = {"messages": [{"role": "user", "content": "Where does glass go?"}]}
    with handler.call(**CALL, request=request) as call:
        for _ in call.streamed(chunks()):
            break

    record = records.call
    assert (record.status, record.estimate_reason) == ("cancelled", "cancelled")
    assert record.usage is not None
    assert record.usage.input_tokens > 0
    assert record.usage.output_tokens > 0


def test_a_stream_without_usage_is_estimated(handler: Eco2CallbackHandler, records: Records) -> None:
    """A whole stream without a usage is a success with an estimated cost."""
    with handler.call(**CALL) as call:
        _ = list(call.streamed(chunks(with_usage=False)))

    record = records.call
    assert (record.status, record.estimate_reason) == ("success", "no_usage")


def test_the_whole_answer_wins_over_its_stream(handler: Eco2CallbackHandler, records: Records) -> None:
    """An answer that comes after its own chunks counts once."""
    with handler.call(**CALL) as call:
        _ = list(call.streamed(chunks()))
        call.answered(ANSWER)

    assert records.call.usage is not None
    assert records.call.usage.total_tokens == 1100


def test_several_answers_in_a_block_add_up(handler: Eco2CallbackHandler, records: Records) -> None:
    """The answers of one block are one call with the sum; the same answer given twice counts once."""
    with handler.call(**CALL) as call:
        call.answered(ANSWER)
        call.answered(ANSWER)
        call.answered({**ANSWER, "id": "chatcmpl-2"})

    assert records.call.cost is not None
    assert records.call.cost.total_usd == 2 * USD


@pytest.mark.parametrize("answered", [False, True], ids=["without_answer", "after_the_answer"])
def test_an_exception_passes_on_and_is_recorded(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, answered: bool
) -> None:
    """The record has the error; an answer that came before it is billed exactly."""

    def read(call: SDKCall) -> None:
        if answered:
            call.answered(ANSWER)
        raise ValueError("no JSON")

    with pytest.raises(ValueError, match="no JSON"), handler.call(**CALL) as call:
        read(call)

    record = records.call
    assert (record.status, record.error_type, record.estimated) == ("error", "ValueError", False)
    assert (record.cost and record.cost.total_usd) == (USD if answered else None)
    assert exposed(registry, "llm_errors_total") == 1


def test_a_refused_call_billed_nothing(handler: Eco2CallbackHandler, records: Records) -> None:
    """An HTTP error of the provider is an error without a cost and without a missing price."""

    class RateLimitError(Exception):
        status_code = 429

    with pytest.raises(RateLimitError), handler.call(**CALL):
        raise RateLimitError

    assert records.call.rate_limited
    assert records.call.unpriced_reason is None


async def test_a_cancelled_call_is_recorded(handler: Eco2CallbackHandler, records: Records) -> None:
    """A cancelled task ends its call as cancelled."""
    started = asyncio.Event()

    async def work() -> None:
        async with handler.call(**CALL):
            started.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(work())
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert records.call.status == "cancelled"


def test_a_block_without_an_answer_has_no_usage(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """A forgotten answer is counted as unpriced and logged once, and never as zero dollars."""
    for _ in range(2):
        with handler.call(**CALL):
            pass

    assert [(call.status, call.cost, call.unpriced_reason) for call in records.calls] == [
        ("success", None, "no_usage")
    ] * 2
    assert exposed(registry, "llm_unpriced_calls_total") == 2
    assert caplog.text.count("ended without an answer") == 1


@pytest.mark.parametrize("answer", [object(), 7, {"text": "hello"}, None], ids=["object", "int", "dict", "none"])
def test_what_is_no_answer_is_logged_and_counted(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    answer: Any,
) -> None:
    """Something else than an answer breaks nothing; it is logged once and counted."""
    with handler.call(**CALL) as call:
        call.answered(answer)
        call.add_chunk(answer)

    assert sample(registry, "eco2_callbacks_errors_total", callback="call") == 2
    assert f"call.answered() came with {type(answer).__name__!r}, wanted an answer of openai" in caplog.text
    assert records.call.unpriced_reason == "no_usage"


def test_an_answer_that_raises_breaks_nothing(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """An object whose fields raise is counted as an error of the handler."""

    class Broken:
        choices = ()

        @property
        def usage(self) -> Any:
            raise OSError("gone")

    with handler.call(**CALL) as call:
        call.answered(Broken())

    assert len(records.calls) == 1
    assert sample(registry, "eco2_callbacks_errors_total", callback="call") == 1


def test_a_call_below_a_node_of_another_thread_keeps_no_context(handler: Eco2CallbackHandler, records: Records) -> None:
    """Outside any run a call is a trace of its own."""
    with handler.call(**CALL, metadata={"tenant_id": "acme"}, tags=["batch"]) as call:
        call.answered(ANSWER)

    record = records.call
    assert record.trace_id == record.run_id == call.run_id
    assert (record.node, record.tenant_id, record.tags) == ("", "acme", ("batch",))


def test_the_address_decides_who_is_paid(handler: Eco2CallbackHandler, records: Records) -> None:
    """A server of one's own behind the openai SDK is not billed at OpenAI's rates."""
    with handler.call(provider="openai", model="my-model", base_url="http://10.0.0.7:8000/v1") as call:
        call.answered({**ANSWER, "model": "my-model"})

    assert (records.call.provider, records.call.unpriced_reason) == ("self_hosted", "self_hosted")


@pytest.mark.parametrize("name", ["google", "gemini", "google-genai", "google_genai"])
def test_a_provider_has_its_usual_names(handler: Eco2CallbackHandler, records: Records, name: str) -> None:
    """The names that users of the SDKs know stand for LangChain's."""
    with handler.call(provider=name, model="gemini-2.5-flash"):
        pass

    assert records.call.provider == "google_genai"


def test_a_repeated_call_is_a_retry(handler: Eco2CallbackHandler, records: Records) -> None:
    """A call that sends the same request again after a failure is a retry."""
    request = {"messages": [{"role": "user", "content": "Where does glass go?"}]}

    def raw(state: State) -> State:
        with pytest.raises(OSError, match="gone"), handler.call(**CALL, request=request):
            raise OSError("gone")
        with handler.call(**CALL, request=request) as call:
            call.answered(ANSWER)
        return {}

    graph_of(raw).compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert [(call.status, call.retry) for call in records.calls] == [("error", None), ("success", "retry")]


def test_a_tool_of_ones_own_counts_in_its_request(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A tool that is no LangChain tool is a ToolCall of its node; one inside it is no second one of the agent."""

    def raw(state: State) -> State:
        with handler.tool("look_up", inputs={"item": "glass"}) as run:
            with handler.tool("cache"):
                pass
            with handler.call(**CALL) as call:
                call.answered(ANSWER)
            assert run.returned("bin") == "bin"
        return {}

    graph_of(raw).compile().invoke({"answers": []}, {"callbacks": [handler]})

    tools = records.of(ToolCall)
    assert [(run.tool_name, run.node, run.status) for run in tools] == [
        ("cache", "raw", "success"),
        ("look_up", "raw", "success"),
    ]
    assert records.call.parent_run_id == tools[1].run_id
    assert (records.request.tool_calls, records.request.llm_calls) == (1, 1)
    assert records.nodes["raw"].cost.total_usd == USD
    assert exposed(registry, "tool_calls_total") == 2


def test_a_failed_tool_is_recorded(handler: Eco2CallbackHandler, records: Records) -> None:
    """A tool's exception passes on; an interrupt inside it is no error."""
    with pytest.raises(OSError, match="gone"), handler.tool("look_up"):
        raise OSError("gone")

    def ask(state: State) -> State:
        with handler.tool("ask"):
            interrupt("which bin?")
        return {}

    graph_of(ask).compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert [(run.status, run.error_type) for run in records.of(ToolCall)] == [
        ("error", "OSError"),
        ("interrupted", "GraphInterrupt"),
    ]


def test_blocks_inside_langchain_runs_find_the_nearest_one(handler: Eco2CallbackHandler, records: Records) -> None:
    """A call inside a chain inside a tool block is below that chain; below a LangChain tool it is below the tool."""

    @tool
    def look_up(item: str) -> str:
        """Look an item up."""
        with handler.call(**CALL) as call:
            call.answered(ANSWER)
        return item

    def raw(state: State) -> State:
        with handler.tool("outer"):
            RunnableLambda(lambda item: look_up.invoke({"item": item})).invoke("glass")
        return {}

    graph_of(raw).compile().invoke({"answers": []}, {"callbacks": [handler]})

    (inner,) = [run for run in records.of(ToolCall) if run.tool_name == "look_up"]
    assert records.call.parent_run_id == inner.run_id
    assert records.call.node == "raw"


def test_a_call_inside_an_agent_belongs_to_it(handler: Eco2CallbackHandler, records: Records) -> None:
    """An SDK's call and a tool below an agent have the agent's name and its path, as LangChain's own calls have."""

    def model(state: State) -> State:
        FakeModel().invoke("hello")
        with handler.tool("look_up"), handler.call(**CALL) as call:
            call.answered(ANSWER)
        return {}

    agent = graph_of(model).compile(name="researcher")
    agent.invoke({"answers": []}, {"callbacks": [handler], "metadata": {"lc_agent_name": "researcher"}})

    of_langchain, of_sdk = records.calls
    (run,) = records.of(ToolCall)
    assert of_langchain.agent_name == "researcher"
    assert {(each.agent_name, each.path) for each in (of_langchain, of_sdk, run)} == {("researcher", of_langchain.path)}


def test_langchain_and_sdk_calls_mix_in_a_node(handler: Eco2CallbackHandler, records: Records) -> None:
    """The node's sum holds both."""

    def raw(state: State) -> State:
        FakeModel().invoke("hello")
        with handler.call(**CALL) as call:
            call.answered(ANSWER)
        return {}

    graph_of(raw).compile().invoke({"answers": []}, {"callbacks": [handler]})

    assert records.nodes["raw"].cost.total_usd == COST + USD


def test_a_block_that_is_left_in_another_context_breaks_nothing(handler: Eco2CallbackHandler, records: Records) -> None:
    """A generator that is closed elsewhere ends its call."""

    def generate() -> Iterator[str]:
        with handler.call(**CALL) as call:
            call.answered(ANSWER)
            yield "in the bin"

    generator = generate()
    contextvars.copy_context().run(next, generator)
    generator.close()

    assert isinstance(records.all[0], LLMCall)
    assert records.call.cost is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"provider": "", "model": "m"}, "provider= is '', wanted a text that is not empty; pass one."),
        ({"provider": "openai", "model": None}, "model= is None, wanted a text that is not empty; pass one."),
        ({**CALL, "base_url": 3}, "base_url= is 3, wanted a text that is not empty; pass one."),
        ({**CALL, "request": "hello"}, "request= is 'hello', wanted a mapping; pass a dict."),
        ({**CALL, "tags": "beta"}, "tags= is 'beta', wanted a list of texts; pass ['beta']."),
        ({**CALL, "metadata": [1]}, "metadata= is [1], wanted a mapping; pass a dict."),
    ],
    ids=["provider", "model", "base_url", "request", "tags", "metadata"],
)
def test_wrong_arguments_of_call_are_refused(
    handler: Eco2CallbackHandler, arguments: dict[str, Any], message: str
) -> None:
    """A wrong argument is refused before the block, with what to do."""
    with pytest.raises(ConfigError) as raised:
        handler.call(**arguments)

    assert str(raised.value) == message


@pytest.mark.parametrize("name", ["", None, 3])
def test_wrong_arguments_of_tool_are_refused(handler: Eco2CallbackHandler, name: Any) -> None:
    """A tool needs a name, and inputs that are a mapping or a text."""
    with pytest.raises(ConfigError, match="name= is"):
        handler.tool(name)
    with pytest.raises(ConfigError, match="inputs= is 3"):
        handler.tool("look_up", inputs=3)  # type: ignore[arg-type]
