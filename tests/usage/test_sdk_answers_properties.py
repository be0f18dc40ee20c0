"""Properties of SDK answers: nothing that an application passes can raise, and each block is one call."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.record_sink import Records

KEYS = [
    *("id", "object", "type", "model", "usage", "choices", "message", "delta", "content", "output", "tool_calls"),
    *("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens", "total_tokens", "cached_tokens"),
    *("input_tokens_details", "prompt_tokens_details", "cache_creation", "cache_read_input_tokens", "iterations"),
    *("usageMetadata", "usage_metadata", "promptTokenCount", "candidates", "parts", "text", "inlineData", "index"),
    *("inputTokens", "outputTokens", "cacheReadInputTokens", "cacheDetails", "contentBlockDelta", "metadata", "meta"),
    *("billed_units", "tokens", "event_type", "toolUse", "ResponseMetadata", "HTTPHeaders", "data"),
    *("promptTokensDetails", "modality", "tokenCount", "groundingMetadata", "raw_responses", "response", "chunk"),
]
TYPES = [
    *("message", "message_start", "message_delta", "content_block_delta", "message-end", "tool-call-delta"),
    *("response", "response.completed", "chunk", "stream-end"),
]
scalars = st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(TYPES) | st.text(max_size=5)
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=5),
    max_leaves=25,
)
answers = st.dictionaries(st.sampled_from(KEYS), values, max_size=8)
# One for all examples: making a handler takes longer than an example.
_records = Records()
_handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[_records])
PROVIDERS = st.sampled_from(["openai", "google", "anthropic", "azure", "openrouter", "bedrock", "cohere", "mine"])


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    answers=st.lists(answers | values, max_size=3), chunks=st.lists(answers | values, max_size=4), provider=PROVIDERS
)
def test_no_answer_can_raise(answers: list[Any], chunks: list[Any], provider: str) -> None:
    """Whatever comes as an answer or a chunk, the block ends well and is one record without negative counts."""
    _records.all.clear()

    with _handler.call(provider=provider, model="gpt-5.2") as call:
        for chunk in chunks:
            call.add_chunk(chunk)
        for answer in answers:
            call.answered(answer)

    record = _records.call
    assert record.status == "success"
    assert record.usage is None or min(record.usage.input_tokens, record.usage.output_tokens) >= 0
    assert record.cost is None or record.cost.total_usd >= 0


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(request=st.dictionaries(st.sampled_from([*KEYS, "messages", "contents", "input", "system", "tools"]), values))
def test_no_request_can_raise(request: dict[str, Any]) -> None:
    """Whatever is passed as the request, a call without an answer is one record."""
    _records.all.clear()

    with _handler.call(provider="openai", model="gpt-5.2", request=request) as call:
        call.answered({"object": "chat.completion", "choices": [], "usage": None})

    assert _records.call.status == "success"
