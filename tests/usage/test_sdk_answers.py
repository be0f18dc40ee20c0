"""Answers of the openai, google-genai and anthropic SDKs: what each reports, as the SDK's objects and as dicts."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest
from anthropic.types import Message, RawMessageStreamEvent
from google.genai.types import GenerateContentResponse
from langchain_core.messages import AIMessage
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from eco2_callbacks import Eco2CallbackHandler, LLMCall, TokenUsage
from tests.support.record_sink import Records

CHAT: dict[str, Any] = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt-5.2-2025-12-11",
    "service_tier": "flex",
    "choices": [
        {
            "index": 0,
            "finish_reason": "stop",
            "logprobs": None,
            "message": {"role": "assistant", "content": "in the bin", "refusal": None},
        }
    ],
    "usage": {
        "prompt_tokens": 1200,
        "completion_tokens": 350,
        "total_tokens": 1550,
        "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 128, "audio_tokens": 0},
    },
}
RESPONSE: dict[str, Any] = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1.0,
    "model": "gpt-5.2-2025-12-11",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "service_tier": "default",
    "output": [
        {
            "id": "ws_1",
            "type": "web_search_call",
            "status": "completed",
            "action": {"type": "search", "query": "glass"},
        },
        {"id": "ws_2", "type": "web_search_call", "status": "completed", "action": {"type": "open_page", "url": "x"}},
        {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "in the bin", "annotations": []}],
        },
    ],
    "usage": {
        "input_tokens": 1200,
        "input_tokens_details": {"cached_tokens": 1024, "cache_write_tokens": 0},
        "output_tokens": 350,
        "output_tokens_details": {"reasoning_tokens": 128},
        "total_tokens": 1550,
    },
}
MESSAGE: dict[str, Any] = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude-sonnet-4-5-20250929",
    "stop_reason": "end_turn",
    "stop_sequence": None,
    "content": [{"type": "text", "text": "in the bin", "citations": None}],
    "usage": {
        "input_tokens": 100,
        "output_tokens": 50,
        "cache_read_input_tokens": 1000,
        "cache_creation_input_tokens": 300,
        "cache_creation": {"ephemeral_5m_input_tokens": 200, "ephemeral_1h_input_tokens": 100},
        "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0},
        "service_tier": "standard",
    },
}
GEMINI: dict[str, Any] = {
    "responseId": "r1",
    "modelVersion": "gemini-2.5-flash",
    "candidates": [
        {
            "content": {"role": "model", "parts": [{"text": "thinking", "thought": True}, {"text": "in the bin"}]},
            "finishReason": "STOP",
            "groundingMetadata": {"webSearchQueries": ["glass", "bin"]},
        }
    ],
    "usageMetadata": {
        "promptTokenCount": 1000,
        "toolUsePromptTokenCount": 50,
        "cachedContentTokenCount": 400,
        "candidatesTokenCount": 100,
        "thoughtsTokenCount": 200,
        "totalTokenCount": 1350,
        "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 700}, {"modality": "AUDIO", "tokenCount": 300}],
        "cacheTokensDetails": [{"modality": "AUDIO", "tokenCount": 100}, {"modality": "TEXT", "tokenCount": 300}],
        "candidatesTokensDetails": [{"modality": "TEXT", "tokenCount": 100}],
    },
}
_OPENAI = TokenUsage(input_tokens=1200, output_tokens=350, cache_read_tokens=1024, reasoning_tokens=128)


def _as_dict(answer: Any) -> Any:
    return answer


def _record(handler: Eco2CallbackHandler, records: Records, answer: Any, provider: str, model: str) -> LLMCall:
    with handler.call(provider=provider, model=model) as call:
        call.answered(answer)
    return records.call


@pytest.mark.parametrize("of_sdk", [ChatCompletion.model_validate, _as_dict], ids=["object", "dict"])
def test_a_chat_completion(handler: Eco2CallbackHandler, records: Records, of_sdk: Callable[[Any], Any]) -> None:
    """Counts, details, model, tier and id of a Chat Completion are read."""
    record = _record(handler, records, of_sdk(CHAT), "openai", "gpt-5.2")

    assert record.usage == _OPENAI
    assert (record.model, record.response_id, record.service_tier) == ("gpt-5.2-2025-12-11", "chatcmpl-1", "flex")
    # gpt-5.2 in the flex tier, half of the standard prices: 176 x 0.875 + 1024 x 0.0875 + 350 x 7 per million
    assert record.cost is not None
    assert record.cost.total_usd == Decimal("0.0026936")


@pytest.mark.parametrize("of_sdk", [Response.model_validate, _as_dict], ids=["object", "dict"])
def test_a_response_with_searches(handler: Eco2CallbackHandler, records: Records, of_sdk: Callable[[Any], Any]) -> None:
    """A Response's counts are read, and its searches are billed: one searched, one opened a page."""
    record = _record(handler, records, of_sdk(RESPONSE), "openai", "gpt-5.2")

    assert record.usage is not None
    assert (record.usage.total_tokens, record.usage.web_searches) == (1550, 1)
    # 176 x 1.75 + 1024 x 0.175 + 350 x 14 per million, and a search for 0.01
    assert record.cost is not None
    assert record.cost.total_usd == Decimal("0.0153872")


@pytest.mark.parametrize("of_sdk", [Message.model_validate, _as_dict], ids=["object", "dict"])
def test_an_anthropic_message(handler: Eco2CallbackHandler, records: Records, of_sdk: Callable[[Any], Any]) -> None:
    """Anthropic's cached tokens, which stand beside the input, and their lifetimes are read."""
    record = _record(handler, records, of_sdk(MESSAGE), "anthropic", "claude-sonnet-4-5")

    assert record.usage == TokenUsage(
        input_tokens=1400,
        output_tokens=50,
        cache_read_tokens=1000,
        cache_creation_tokens=300,
        cache_creation_5m_tokens=200,
        cache_creation_1h_tokens=100,
        web_searches=2,
    )
    # 100 x 3 + 1000 x 0.30 + 200 x 3.75 + 100 x 6 + 50 x 15 per million, and two searches for 0.01
    assert record.cost is not None
    assert record.cost.total_usd == Decimal("0.0227")
    assert record.response_id == "msg_1"


def test_a_stream_that_a_fallback_model_finished(handler: Eco2CallbackHandler, records: Records) -> None:
    """What the first model wrote costs its own rates; the rest, and the answer, are the fallback model's."""
    counts = {"cache_read_input_tokens": 0, "cache_creation_input_tokens": 0}
    first = {"type": "message", "model": "claude-fable-5", "input_tokens": 1000, "output_tokens": 200, **counts}
    second = {"type": "fallback_message", "model": "claude-opus-4-8", "input_tokens": 1200, "output_tokens": 300}
    last = {"input_tokens": 1200, "output_tokens": 300, **counts, "iterations": [first, second | counts]}
    start = {**MESSAGE, "model": "claude-fable-5", "content": [], "usage": {"input_tokens": 1000, "output_tokens": 1}}
    events = [
        {"type": "message_start", "message": start},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": last},
        {"type": "message_stop"},
    ]

    with handler.call(provider="anthropic", model="claude-fable-5") as call:
        assert list(call.streamed(events)) == events

    # 1000 x 10 + 200 x 50 = 20000; 1200 x 5 + 300 x 25 = 13500
    assert records.call.cost is not None
    assert records.call.cost.total_usd == Decimal("0.0335")
    assert records.call.model == "claude-opus-4-8"


@pytest.mark.parametrize(("category", "usd"), [("cyber", "0"), (None, "0"), ("bio", "0.01"), ("new", "0.01")])
def test_a_refusal_of_claude_before_any_output(
    handler: Eco2CallbackHandler, records: Records, category: str | None, usd: str
) -> None:
    """The category decides whether its input is billed, of a message and of a stream."""
    refusal = {"stop_reason": "refusal", "stop_details": {"type": "refusal", "category": category}}
    counts = {"input_tokens": 1000, "output_tokens": 0}
    message = {**MESSAGE, **refusal, "model": "claude-fable-5", "content": [], "usage": counts}
    events = [
        {"type": "message_start", "message": {**message, "stop_reason": None, "stop_details": None}},
        {"type": "message_delta", "delta": refusal, "usage": {"output_tokens": 0}},
        {"type": "message_stop"},
    ]

    _record(handler, records, message, "anthropic", "claude-fable-5")
    with handler.call(provider="anthropic", model="claude-fable-5") as call:
        assert list(call.streamed(events)) == events

    for record in records.calls:
        assert record.cost is not None
        assert (record.cost.total_usd, record.estimated) == (Decimal(usd), False)  # 1000 x 10 where it is billed


def _gemini(answer: Any) -> Any:
    return GenerateContentResponse.model_validate(answer)


@pytest.mark.parametrize("of_sdk", [_gemini, _as_dict], ids=["object", "dict"])
def test_a_gemini_answer(handler: Eco2CallbackHandler, records: Records, of_sdk: Callable[[Any], Any]) -> None:
    """Gemini's thoughts, tool prompts and modalities are read, which LangChain loses."""
    record = _record(handler, records, of_sdk(GEMINI), "google", "gemini-2.5-flash")

    assert record.usage == TokenUsage(
        input_tokens=1050,
        output_tokens=300,
        cache_read_tokens=400,
        reasoning_tokens=200,
        input_audio_tokens=300,
        cache_read_audio_tokens=100,
        web_searches=1,
    )
    assert (record.provider, record.model, record.response_id) == ("google_genai", "gemini-2.5-flash", "r1")
    assert (record.estimated, record.cost_source) == (False, "rates")


@pytest.mark.parametrize(
    ("traffic", "tier", "reason"),
    [("ON_DEMAND", None, None), ("ON_DEMAND_FLEX", "flex", "unpriced_unit")],
)
def test_the_traffic_of_vertex_ai_is_its_tier(
    handler: Eco2CallbackHandler, records: Records, traffic: str, tier: str | None, reason: str | None
) -> None:
    """A flex answer of Vertex AI is not billed as a standard one; gemini-2.5-flash has no public flex rate."""
    answer = {**GEMINI, "usageMetadata": {**GEMINI["usageMetadata"], "trafficType": traffic}}

    record = _record(handler, records, _gemini(answer), "google_vertexai", "gemini-2.5-flash")

    assert (record.service_tier, record.unpriced_reason) == (tier, reason)


def _chat_chunks() -> list[dict[str, Any]]:
    common = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-5.2-2025-12-11"}
    delta = {"index": 0, "finish_reason": None, "logprobs": None}
    texts = [{**common, "choices": [{**delta, "delta": {"content": text}}]} for text in ("in ", "the bin")]
    return [*texts, {**common, "service_tier": "default", "choices": [], "usage": CHAT["usage"]}]


def _response_events() -> list[dict[str, Any]]:
    about = {"item_id": "msg_1", "output_index": 0, "content_index": 0, "logprobs": []}
    return [
        {"type": "response.created", "sequence_number": 0, "response": {**RESPONSE, "output": [], "usage": None}},
        {"type": "response.output_text.delta", "sequence_number": 1, "delta": "in ", **about},
        {"type": "response.output_text.delta", "sequence_number": 2, "delta": "the bin", **about},
        {"type": "response.completed", "sequence_number": 3, "response": {**RESPONSE, "output": []}},
    ]


def _message_events() -> list[dict[str, Any]]:
    start = {**MESSAGE, "content": [], "usage": {**MESSAGE["usage"], "output_tokens": 1, "server_tool_use": None}}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": "", "citations": None}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "in "}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "the bin"}},
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": 50, "server_tool_use": {"web_search_requests": 2, "web_fetch_requests": 0}},
        },
        {"type": "message_stop"},
    ]


def _gemini_chunks() -> list[dict[str, Any]]:
    first = {
        "responseId": "r1",
        "modelVersion": "gemini-2.5-flash",
        "candidates": [{"content": {"role": "model", "parts": [{"text": "in "}]}}],
        "usageMetadata": {"promptTokenCount": 1000, "candidatesTokenCount": 2, "totalTokenCount": 1002},
    }
    return [first, GEMINI]


def _adapter(kind: Any) -> Callable[[Any], Any]:
    return TypeAdapter(kind).validate_python


STREAMS = {
    "chat": (_chat_chunks, _adapter(ChatCompletionChunk), "openai", "gpt-5.2", 1550, 2),
    "responses": (_response_events, _adapter(ResponseStreamEvent), "openai", "gpt-5.2", 1550, 2),
    "anthropic": (_message_events, _adapter(RawMessageStreamEvent), "anthropic", "claude-sonnet-4-5", 1450, 2),
    "gemini": (_gemini_chunks, _gemini, "google_genai", "gemini-2.5-flash", 1350, 2),
}


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("as_object", [True, False], ids=["object", "dict"])
def test_a_stream_gives_what_the_whole_answer_gives(
    handler: Eco2CallbackHandler, records: Records, kind: str, as_object: bool
) -> None:
    """Usage, model and id of a stream are those of the whole answer; each chunk with text is counted."""
    make, of_sdk, provider, model, total_tokens, texts = STREAMS[kind]
    with handler.call(provider=provider, model=model) as call:
        for _ in call.streamed([of_sdk(chunk) if as_object else chunk for chunk in make()]):
            pass

    record = records.call
    assert record.usage is not None
    assert (record.usage.total_tokens, record.streamed_tokens) == (total_tokens, texts)
    assert (record.status, record.estimated, record.response_id is not None) == ("success", False, True)
    if kind == "anthropic":
        assert (record.usage.web_searches, record.usage.cache_creation_1h_tokens) == (2, 100)


@pytest.mark.parametrize("kind", STREAMS)
@pytest.mark.parametrize("received", [1, 2])
def test_a_failing_stream_keeps_what_arrived(
    handler: Eco2CallbackHandler, records: Records, kind: str, received: int
) -> None:
    """A stream that fails after some chunks is an error; what arrived is estimated, or billed if it was whole."""
    make, _, provider, model, total_tokens, _ = STREAMS[kind]

    def connection() -> Iterator[Any]:
        yield from make()[:received]
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"), handler.call(provider=provider, model=model) as call:
        _ = list(call.streamed(connection()))

    record = records.call
    whole = record.usage is not None and record.usage.total_tokens == total_tokens
    assert (record.status, record.error_type) == ("error", "OSError")
    assert whole or record.estimated or record.usage is None


def test_a_chunk_of_the_chat_helper_is_unwrapped(handler: Eco2CallbackHandler, records: Records) -> None:
    """The events of ``client.chat.completions.stream()`` hold the chunks, and repeat their text."""
    events: list[dict[str, Any]] = []
    for chunk in _chat_chunks():
        events += [{"type": "chunk", "chunk": chunk}, {"type": "content.delta", "delta": "again"}]

    with handler.call(provider="openai", model="gpt-5.2") as call:
        _ = list(call.streamed(events))

    assert (records.call.usage, records.call.streamed_tokens) == (_OPENAI, 2)


@dataclass
class ModelResponse:
    """As the Agents SDK's."""

    usage: Any
    response_id: str
    output: list[Any] = field(default_factory=list)


@dataclass
class RunResult:
    """As the Agents SDK's."""

    raw_responses: list[ModelResponse]
    final_output: str = "in the bin"


def test_an_agents_result_is_the_sum_of_its_responses(handler: Eco2CallbackHandler, records: Records) -> None:
    """All model responses of an Agents SDK run count; prices by prompt length look at each one's own prompt."""
    # gemini-2.5-pro costs more above 200,000 input tokens: no single prompt is so long.
    usage = {"requests": 1, "input_tokens": 150_000, "output_tokens": 100, "total_tokens": 150_100}
    result = RunResult([ModelResponse(usage, "resp_1"), ModelResponse(usage, "resp_2")])

    record = _record(handler, records, result, "google_genai", "gemini-2.5-pro")

    assert record.usage is not None
    assert (record.usage.input_tokens, record.usage.output_tokens) == (300_000, 200)
    # 300,000 x 1.25 + 200 x 10 USD per million
    assert record.cost is not None
    assert (record.cost.total_usd, record.estimated) == (Decimal("0.377"), False)


def test_the_events_of_a_streamed_agents_run(handler: Eco2CallbackHandler, records: Records) -> None:
    """A streamed Agents SDK run holds several responses, each with a usage of its own."""
    events: list[dict[str, Any]] = [{"type": "agent_updated_stream_event", "new_agent": None}]
    events += [{"type": "raw_response_event", "data": event} for event in _response_events() * 2]

    with handler.call(provider="openai", model="gpt-5.2") as call:
        _ = list(call.streamed(events))

    assert records.call.usage is not None
    assert (records.call.usage.total_tokens, records.call.estimated) == (3100, False)


def test_answers_of_langchain_are_read_too(handler: Eco2CallbackHandler, records: Records) -> None:
    """A message of LangChain that a call outside of it returned is an answer."""
    usage = {"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100}
    message = AIMessage("in the bin", usage_metadata=usage, response_metadata={"model_name": "gpt-5.2"})

    record = _record(handler, records, message, "openai", "gpt-5.2")

    assert record.cost is not None
    assert record.cost.total_usd == Decimal("0.00315")


def test_a_raw_http_response_is_parsed(handler: Eco2CallbackHandler, records: Records) -> None:
    """The wrapper that ``with_raw_response`` returns holds the answer."""

    class RawResponse:
        http_response = None

        def parse(self) -> Any:
            return ChatCompletion.model_validate(CHAT)

    assert _record(handler, records, RawResponse(), "openai", "gpt-5.2").usage == _OPENAI


def test_an_embedding_has_input_only(handler: Eco2CallbackHandler, records: Records) -> None:
    """An embedding's usage is that of its prompt."""
    answer = {"object": "list", "model": "text-embedding-3-small", "data": [], "usage": {"prompt_tokens": 1000}}

    record = _record(handler, records, answer, "openai", "text-embedding-3-small")

    # 0.02 USD per million
    assert record.cost is not None
    assert record.cost.total_usd == Decimal("0.00002")


@pytest.mark.parametrize(
    "usage",
    [{}, {"prompt_tokens": -1}, {"prompt_tokens": "many"}, {"prompt_tokens": None}, 7, [], {"input_tokens": 1e400}],
    ids=["empty", "negative", "text", "none", "int", "list", "infinite"],
)
def test_a_malformed_usage_is_estimated(handler: Eco2CallbackHandler, records: Records, usage: Any) -> None:
    """A usage that cannot be read leads to an estimate, never to zero dollars."""
    record = _record(handler, records, {**CHAT, "usage": usage}, "openai", "gpt-5.2")

    assert (record.status, record.estimate_reason) == ("success", "no_usage")


def test_an_estimate_counts_the_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """Without a usage, the prompt that the request names is counted, in every SDK's shape."""
    answer = {**CHAT, "usage": None}
    requests: list[dict[str, Any]] = [
        {"messages": [{"role": "user", "content": "Where does glass go?"}]},
        {"system": "Be short.", "messages": [{"role": "user", "content": [{"type": "text", "text": "Where?"}]}]},
        {"instructions": "Be short.", "input": "Where does glass go?"},
        {"contents": [{"role": "user", "parts": [{"text": "Where does glass go?"}]}]},
        {"contents": "Where does glass go?"},
    ]
    for request in requests:
        with handler.call(provider="openai", model="gpt-5.2", request=request) as call:
            call.answered(answer)

    assert all(record.usage is not None and record.usage.input_tokens > 5 for record in records.calls)
