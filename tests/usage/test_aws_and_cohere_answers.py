"""Answers of boto3's Bedrock client and of the cohere and mistralai SDKs, in the shapes that these SDKs return."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from eco2_callbacks import Eco2CallbackHandler, LLMCall
from tests.support.record_sink import Records

CLAUDE = "us.anthropic.claude-sonnet-4-5-20250929-v1:0"
CONVERSE_USAGE: dict[str, Any] = {
    "inputTokens": 100,
    "outputTokens": 50,
    "totalTokens": 1650,
    "cacheReadInputTokens": 1000,
    "cacheWriteInputTokens": 500,
    "cacheDetails": [{"ttl": "1h", "inputTokens": 200}, {"ttl": "5m", "inputTokens": 300}],
}
# A profile of the US costs a tenth more: 100 x 3.3 + 1000 x 0.33 + 300 x 4.125 + 200 x 6.6 + 50 x 16.5
CONVERSE_USD = Decimal("0.0040425")
CONVERSE: dict[str, Any] = {
    "ResponseMetadata": {"RequestId": "r-1", "HTTPHeaders": {"x-amzn-requestid": "r-1"}, "HTTPStatusCode": 200},
    "output": {
        "message": {
            "role": "assistant",
            "content": [
                {"reasoningContent": {"reasoningText": {"text": "Glass?", "signature": "s"}}},
                {"text": "in the bin"},
                {"toolUse": {"toolUseId": "t", "name": "look_up", "input": {"item": "glass"}}},
            ],
        }
    },
    "stopReason": "tool_use",
    "usage": CONVERSE_USAGE,
    "metrics": {"latencyMs": 3},
}
CONVERSE_EVENTS: list[dict[str, Any]] = [
    {"messageStart": {"role": "assistant"}},
    {"contentBlockDelta": {"delta": {"reasoningContent": {"text": "Glass?"}}, "contentBlockIndex": 0}},
    {"contentBlockDelta": {"delta": {"text": "in the "}, "contentBlockIndex": 1}},
    {"contentBlockDelta": {"delta": {"text": "bin"}, "contentBlockIndex": 1}},
    {"contentBlockStop": {"contentBlockIndex": 1}},
    {"contentBlockStart": {"start": {"toolUse": {"toolUseId": "t", "name": "look_up"}}, "contentBlockIndex": 2}},
    {"contentBlockDelta": {"delta": {"toolUse": {"input": '{"item": "glass"}'}}, "contentBlockIndex": 2}},
    {"messageStop": {"stopReason": "tool_use"}},
    {"metadata": {"usage": CONVERSE_USAGE, "metrics": {"latencyMs": 3}}},
]
COHERE_USAGE = {
    "billed_units": {"input_tokens": 100.0, "output_tokens": 50.0},
    "tokens": {"input_tokens": 600.0, "output_tokens": 52.0},
}
# command-a: 100 x 2.5 + 50 x 10; command-r of August 2024: 100 x 0.15 + 50 x 0.6
COMMAND_A_USD, COMMAND_R_USD = Decimal("0.00075"), Decimal("0.000045")
COHERE: dict[str, Any] = {
    "id": "c-1",
    "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "in the bin"}]},
    "usage": COHERE_USAGE,
}
COHERE_EVENTS: list[dict[str, Any]] = [
    {"type": "message-start", "id": "c-1", "delta": {"message": {"role": "assistant"}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "in the "}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "bin"}}}},
    {"type": "content-end", "index": 0},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE_USAGE}},
]
COHERE_V1: dict[str, Any] = {"text": "in the bin", "generation_id": "c-1", "meta": COHERE_USAGE}
COHERE_V1_EVENTS: list[dict[str, Any]] = [
    {"event_type": "stream-start", "generation_id": "c-1"},
    {"event_type": "text-generation", "text": "in the "},
    {"event_type": "text-generation", "text": "bin"},
    {"event_type": "stream-end", "response": COHERE_V1},
]


def _as_models(value: Any) -> Any:
    """Return dicts as objects that can be dumped, as the SDKs' pydantic models can."""
    if isinstance(value, dict):
        fields = {key: _as_models(inner) for key, inner in value.items()}
        return SimpleNamespace(**fields, model_dump=lambda **_: value)
    return [_as_models(inner) for inner in value] if isinstance(value, list) else value


def _as_is(value: Any) -> Any:
    return value


of_sdk = pytest.mark.parametrize("of_sdk", [_as_is, _as_models], ids=["dict", "object"])


def _answered(handler: Eco2CallbackHandler, records: Records, answer: Any, provider: str, model: str) -> LLMCall:
    with handler.call(provider=provider, model=model) as call:
        call.answered(answer)
    return records.call


def _streamed(handler: Eco2CallbackHandler, records: Records, events: Any, provider: str, model: str) -> LLMCall:
    with handler.call(provider=provider, model=model) as call:
        assert list(call.streamed(events)) == events
    return records.call


def _check(record: LLMCall, usd: Decimal, input_tokens: int) -> None:
    assert record.cost is not None
    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (input_tokens, 50)
    assert (record.cost.total_usd, record.estimated, record.status) == (usd, False, "success")


@pytest.mark.parametrize("provider", ["bedrock", "aws", "amazon_bedrock"])
def test_an_answer_of_converse(handler: Eco2CallbackHandler, records: Records, provider: str) -> None:
    """Cached tokens lie beside Bedrock's input and are billed by their lifetime; the request names the model."""
    record = _answered(handler, records, CONVERSE, provider, CLAUDE)

    _check(record, CONVERSE_USD, 1600)
    assert record.usage is not None
    assert (record.usage.cache_read_tokens, record.usage.cache_creation_1h_tokens) == (1000, 200)
    assert (record.provider, record.model, record.response_id) == ("amazon_bedrock", CLAUDE, "r-1")


def test_a_stream_of_converse(handler: Eco2CallbackHandler, records: Records) -> None:
    """The events give what the whole answer gives."""
    record = _streamed(handler, records, CONVERSE_EVENTS, "bedrock", CLAUDE)

    _check(record, CONVERSE_USD, 1600)
    assert record.streamed_tokens > 0


def test_a_stream_of_converse_that_is_left_is_estimated(handler: Eco2CallbackHandler, records: Records) -> None:
    """What had arrived before the usage is counted, and marked."""
    with handler.call(provider="bedrock", model=CLAUDE, request={"messages": [{"content": [{"text": "?"}]}]}) as call:
        for event in call.streamed(CONVERSE_EVENTS):
            if "contentBlockStop" in event:
                break

    record = records.call
    assert (record.status, record.estimate_reason) == ("cancelled", "cancelled")
    assert record.usage is not None
    assert record.usage.output_tokens > 0


def test_the_headers_of_invoke_model_are_read(handler: Eco2CallbackHandler, records: Records) -> None:
    """The body belongs to the application and differs by model; Bedrock's headers tell the tokens of every model."""
    headers = {"x-amzn-bedrock-input-token-count": "100", "x-amzn-bedrock-output-token-count": "50"}
    answer = {"ResponseMetadata": {"HTTPHeaders": headers}, "contentType": "application/json", "body": object()}

    record = _answered(handler, records, answer, "bedrock", "meta.llama3-3-70b-instruct-v1:0")

    _check(record, Decimal("0.000108"), 100)  # 150 x 0.72


_HEADERS = {"x-amzn-bedrock-input-token-count": "100", "x-amzn-bedrock-output-token-count": "50"}
_INVOKED: dict[str, Any] = {"ResponseMetadata": {"HTTPHeaders": _HEADERS}}
_FAST = {"latency": "optimized"}


@pytest.mark.parametrize(
    ("answer", "request_fields"),
    [
        ({**CONVERSE, "serviceTier": {"type": "flex"}}, {}),
        (CONVERSE, {"serviceTier": {"type": "flex"}}),
        ({**CONVERSE, "performanceConfig": _FAST}, {}),
        (CONVERSE, {"performanceConfig": _FAST}),
        ({**_INVOKED, "serviceTier": "flex"}, {}),
        (_INVOKED, {"serviceTier": "flex"}),
        ({**_INVOKED, "performanceConfigLatency": "optimized"}, {}),
        (_INVOKED, {"performanceConfigLatency": "optimized"}),
    ],
    ids=[f"{api}-{what}" for api in ("converse", "invoke") for what in ("tier", "asked", "latency", "asked_latency")],
)
def test_a_tier_of_bedrock_without_a_rate_is_marked(
    handler: Eco2CallbackHandler, records: Records, answer: dict[str, Any], request_fields: dict[str, Any]
) -> None:
    """Tier and latency are the answer's, in boto3's own names, or else the request's."""
    with handler.call(provider="bedrock", model="us.amazon.nova-pro-v1:0", request=request_fields) as call:
        call.answered(answer)

    assert records.call.unpriced_reason == "unpriced_unit"


def test_the_latency_that_served_the_call_wins(handler: Eco2CallbackHandler, records: Records) -> None:
    """Optimized inference that was asked for, and not given, costs the standard rates."""
    with handler.call(provider="bedrock", model=CLAUDE, request={"performanceConfig": _FAST}) as call:
        call.answered({**CONVERSE, "performanceConfig": {"latency": "standard"}})

    _check(records.call, CONVERSE_USD, 1600)
    assert records.call.unpriced_reason is None


def test_a_stream_of_converse_names_its_latency(handler: Eco2CallbackHandler, records: Records) -> None:
    """The last event holds the tier and the latency."""
    last = {"metadata": {**CONVERSE_EVENTS[-1]["metadata"], "performanceConfig": _FAST}}

    record = _streamed(handler, records, [*CONVERSE_EVENTS[:-1], last], "bedrock", "us.amazon.nova-pro-v1:0")

    assert record.unpriced_reason == "unpriced_unit"


@of_sdk
@pytest.mark.parametrize(
    ("answer", "model", "usd"),
    [(COHERE, "command-a-03-2025", COMMAND_A_USD), (COHERE_V1, "command-r-08-2024", COMMAND_R_USD)],
    ids=["v2", "v1"],
)
def test_cohere_bills_units(
    handler: Eco2CallbackHandler,
    records: Records,
    of_sdk: Callable[[Any], Any],
    answer: dict[str, Any],
    model: str,
    usd: Decimal,
) -> None:
    """The billed units count, not the tokens that were processed with Cohere's own prompt."""
    record = _answered(handler, records, of_sdk(answer), "cohere", model)

    _check(record, usd, 100)
    assert record.response_id == "c-1"


@of_sdk
@pytest.mark.parametrize(
    ("events", "model", "usd"),
    [(COHERE_EVENTS, "command-a-03-2025", COMMAND_A_USD), (COHERE_V1_EVENTS, "command-r-08-2024", COMMAND_R_USD)],
    ids=["v2", "v1"],
)
def test_a_stream_of_cohere(
    handler: Eco2CallbackHandler,
    records: Records,
    of_sdk: Callable[[Any], Any],
    events: list[Any],
    model: str,
    usd: Decimal,
) -> None:
    """The events of either version give what the whole answer gives."""
    record = _streamed(handler, records, of_sdk(events), "cohere", model)

    _check(record, usd, 100)
    assert (record.response_id, record.streamed_tokens) == ("c-1", 2)


def test_a_cohere_answer_without_billed_units_is_marked(handler: Eco2CallbackHandler, records: Records) -> None:
    """Processed tokens are more than what is billed, so a cost by them is an estimate."""
    answer = {**COHERE, "usage": {"tokens": COHERE_USAGE["tokens"]}}

    record = _answered(handler, records, answer, "cohere", "command-a-03-2025")

    assert (record.estimated, record.estimate_reason) == (True, "lost_usage")


def test_an_embedding_of_cohere_has_input_only(handler: Eco2CallbackHandler, records: Records) -> None:
    """Texts and pictures of an embedding are billed as input."""
    with handler.call(provider="cohere", model="embed-v4.0", operation="embeddings") as call:
        call.answered({"id": "e", "embeddings": {}, "meta": {"billed_units": {"input_tokens": 7, "image_tokens": 5}}})

    assert records.call.usage is not None
    assert (records.call.usage.input_tokens, records.call.usage.output_tokens) == (12, 0)


@of_sdk
def test_a_stream_of_mistral_is_unwrapped(
    handler: Eco2CallbackHandler, records: Records, of_sdk: Callable[[Any], Any]
) -> None:
    """Each event of the mistralai SDK wraps a chunk in OpenAI's shape."""
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    common = {"id": "m", "object": "chat.completion.chunk", "model": "mistral-small-latest"}
    chunks = [{**common, "choices": [{"index": 0, "delta": {"content": word}}]} for word in ("in ", "the ", "bin")]
    events = [{"data": chunk} for chunk in (*chunks, {**common, "choices": [{"delta": {}}], "usage": usage})]

    record = _streamed(handler, records, of_sdk(events), "mistralai", "mistral-small-latest")

    assert (record.provider, record.streamed_tokens, record.estimated) == ("mistral", 3, False)
    assert record.usage is not None
    assert record.usage.total_tokens == 150
