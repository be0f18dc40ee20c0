"""Records of streams: first token, chunks, and the estimate of a stream that ends early."""

from __future__ import annotations

import gc

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from tests.support.fake_model import DETAILED_USAGE, FakeModel
from tests.support.record_sink import Records
from tests.support.small_graphs import State, graph_of
from tests.support.started_calls import start_call


async def test_a_stream_records_its_first_token_and_its_chunks(records: Records, registry: CollectorRegistry) -> None:
    """Chunks without content are no tokens; the first chunk with content is the first token."""
    seconds = iter(range(100))
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], clock=lambda: float(next(seconds)))

    _ = [chunk async for chunk in FakeModel().astream("hello", config={"callbacks": [handler]})]

    call = records.call
    assert (call.streamed, call.streamed_tokens) == (True, 3)
    assert call.time_to_first_token_seconds == 1.0  # the clock steps once at the start and once at each token
    assert call.duration_seconds == 4.0


async def test_a_stream_closed_early_is_estimated_from_its_text(handler: Eco2CallbackHandler, records: Records) -> None:
    """A stream that its consumer closes is billed for the tokens so far, as an estimate."""
    stream = FakeModel(usage=None).astream("How do I sort this?", config={"callbacks": [handler]})

    await anext(stream)
    await anext(stream)
    await stream.aclose()

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("cancelled", "GeneratorExit", "cancelled")
    assert call.estimator == "bpe-openai"
    assert call.usage == TokenUsage(
        input_tokens=12, output_tokens=7
    )  # "sort it " is three tokens and its delimiters four


async def test_a_stream_that_breaks_is_estimated_from_its_text(handler: Eco2CallbackHandler, records: Records) -> None:
    """An error in mid-stream does not lose the text before it."""
    model = FakeModel(usage=None, fails=[ConnectionError("reset")], fails_after=2)

    with pytest.raises(ConnectionError):
        _ = [chunk async for chunk in model.astream("How do I sort this?", config={"callbacks": [handler]})]

    call = records.call
    assert (call.status, call.error_type, call.estimate_reason) == ("error", "ConnectionError", "error")
    assert call.usage == TokenUsage(input_tokens=12, output_tokens=7)


def test_an_abandoned_stream_may_be_collected_at_any_moment(
    handler: Eco2CallbackHandler, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The garbage collector may end a stream inside another callback, without a deadlock."""
    lock = handler._tracker._runs._lock
    stream = FakeModel().stream("hello", config={"callbacks": [handler]})
    next(stream)

    with lock:
        del stream
        gc.collect()

    assert (records.call.status, records.call.streamed_tokens) == ("cancelled", 1)


async def test_a_stream_that_breaks_inside_a_graph_is_estimated_from_its_text(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """LangChain passes an empty result on there, and the text before the error is still estimated."""

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


@pytest.mark.needs_core("1.4")  # v3 streams
@pytest.mark.filterwarnings("ignore:The method .* is in beta")
def test_a_v3_stream_is_counted_once_with_its_details(handler: Eco2CallbackHandler, records: Records) -> None:
    """LangChain's v3 events drop the usage details; the chunks below them have the whole usage."""
    model = FakeModel(usage=DETAILED_USAGE, metadata_of_answer={"service_tier": "flex"})

    list(model.stream_events("hello", config={"callbacks": [handler]}, version="v3"))

    assert (records.call.model, records.call.service_tier) == ("gpt-5.2-2025-12-11", "flex")
    assert records.call.usage == TokenUsage(
        input_tokens=1200, output_tokens=350, cache_read_tokens=1024, reasoning_tokens=128
    )
    assert (records.call.streamed, records.call.streamed_tokens) == (True, 3)


def test_a_model_that_fires_events_only_is_a_stream(handler: Eco2CallbackHandler, records: Records) -> None:
    """First token and text come from the events where no token callback fires."""
    run_id = start_call(handler)
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
