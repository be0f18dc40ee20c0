"""The usage of streamed and unfinished calls, from the chunks that have arrived."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from msgspec.structs import replace

from eco2_callbacks.records import EstimateReason
from eco2_callbacks.runs import OpenLLMCall
from eco2_callbacks.usage import (
    Answer,
    ProviderRules,
    TokenUsage,
    choices_of,
    estimate_usage,
    message_text,
    messages_of,
    read_counts,
    read_usage,
)

__all__ = [
    "chunks_since_usage",
    "estimate_call",
    "has_empty_counts",
    "reports_usage_once",
    "streamed_result",
    "usage_of_unfinished",
    "with_last_of_cumulative",
    "with_streamed_details",
]


def streamed_result(call: OpenLLMCall) -> LLMResult | None:
    """Return what the call streamed as a result; None if it streamed nothing."""
    chunks = [chunk for chunk in call.chunks if isinstance(chunk, ChatGenerationChunk)]
    if (merged := merge_chat_generation_chunks(chunks)) is not None:
        # A v3 stream names model and tier in the generation only.
        metadata = {**(merged.generation_info or {}), **merged.message.response_metadata}
        message = merged.message.model_copy(update={"response_metadata": metadata})
        return LLMResult(generations=[[ChatGeneration(message=message)]])
    text = "".join([getattr(chunk, "text", "") for chunk in call.chunks] or call.texts)
    return LLMResult(generations=[[Generation(text=text)]]) if text else None


def usage_of_unfinished(
    call: OpenLLMCall, answer: Answer, result: LLMResult | None, rules: ProviderRules
) -> tuple[TokenUsage | None, EstimateReason | None]:
    """Return the usage of a call that was cut short, as an estimate; None where nothing is known."""
    reason: EstimateReason = "cancelled" if call.outcome.status == "cancelled" else "error"
    if answer.usage is not None:
        # Some providers report the input at once, and the output now and then or only at the end.
        later = estimate_usage((), chunks_since_usage(call), {}, rules=rules, model=answer.model)
        return replace(answer.usage, output_tokens=answer.usage.output_tokens + later.output_tokens), reason
    if (reported := read_usage(call.reported_usage)) is not None:
        return reported, reason
    estimate = estimate_call(call, result, rules, answer.model)
    answered = estimate.output_tokens or (call.stream is not None and call.stream.arrivals)
    if reason == "error" and not answered:
        # It failed before any answer: whether the provider accepted the prompt is unknown.
        return None, None
    return estimate, reason


def estimate_call(call: OpenLLMCall, result: LLMResult | None, rules: ProviderRules, model: str) -> TokenUsage:
    """Return the likely usage of a call: what was sent and what has arrived, counted offline."""
    # Chunks as they came: merged, the tool calls of several choices become one.
    received = _chunk_messages(call) or _output_messages(result)
    return estimate_usage(call.messages or call.prompts, received, call.params, rules=rules, model=model)


def has_empty_counts(answer: Answer, result: LLMResult) -> bool:
    """Return whether an answer of text reports a usage of 0, as a server or client library does that does not count.

    An answer without text is left out: some image models count nothing. So is an answer without a report, which is that
    of a request's further prompts.
    """
    usage = answer.usage
    if usage is None or usage.total_tokens or answer.from_cache or not (answer.raw_usage or answer.reported):
        return False
    return any(message_text(message) for message in _output_messages(result))


def chunks_since_usage(call: OpenLLMCall) -> list[BaseMessage]:
    """Return the chunks that arrived after the last reported usage."""
    later: list[BaseMessage] = []
    for message in reversed(_chunk_messages(call)):
        # Some chunks report a usage of 0.
        if (usage := read_usage(getattr(message, "usage_metadata", None))) is not None and usage.total_tokens:
            break
        later.append(message)
    return later[::-1]


def with_last_of_cumulative(answer: Answer, chunks: Sequence[Any]) -> Answer:
    """Return the answer with its last usage where each chunk repeated the usage so far, as vLLM and gateways do.

    LangChain adds them up. Counts that never fall show it; parts that do add up (Anthropic's) fall. Two usages with
    different inputs may be those of two samplings: they add up.
    """
    if reports_usage_once(chunks):
        return answer
    last: Mapping[str, Any] | None = None
    input_tokens = output_tokens = reports = 0
    has_same_input = True
    for chunk in chunks:
        raw = getattr(getattr(chunk, "message", None), "usage_metadata", None)
        if not raw or (usage := read_usage(raw)) is None or not (usage.total_tokens or last):
            continue
        if usage.input_tokens < max(input_tokens, 1) or usage.output_tokens < output_tokens:
            return answer
        has_same_input = has_same_input and input_tokens in (0, usage.input_tokens)
        last, input_tokens, output_tokens = raw, usage.input_tokens, usage.output_tokens
        reports += 1
    reading = read_counts(last)
    if reading is None or last is None or (reports < 3 and not has_same_input):
        return answer
    return answer._replace(usage=reading.usage, is_consistent=reading.is_consistent, raw_usage=last)


def reports_usage_once(chunks: Sequence[Any]) -> bool:
    """Return whether at most one chunk near the ends of a stream reports a usage, so that it is not cumulative."""
    near_ends = chunks if len(chunks) < 6 else (*chunks[:2], *chunks[-3:])
    return sum(_has_usage(chunk) for chunk in near_ends) < 2


def with_streamed_details(usage: TokenUsage, streamed: LLMResult | None) -> TokenUsage:
    """Return a v3 stream's usage with the details of its chunks: its end lacks them. The totals must agree."""
    messages: Sequence[Any] = messages_of(streamed)
    raw = next((raw for message in messages if (raw := getattr(message, "usage_metadata", None))), None)
    chunked = read_usage(raw)
    if chunked is None or chunked.total_tokens != usage.total_tokens:
        return usage
    return replace(usage, **dict(chunked.nonzero()))


def _has_usage(chunk: Any) -> bool:
    return bool(getattr(getattr(chunk, "message", None), "usage_metadata", None))


def _output_messages(result: LLMResult | None) -> list[BaseMessage]:
    texts = [text for choice in choices_of(result) if isinstance(text := getattr(choice, "text", None), str)]
    return messages_of(result) or [HumanMessage(content=text) for text in texts]


def _chunk_messages(call: OpenLLMCall) -> list[BaseMessage]:
    return [message for chunk in call.chunks if (message := getattr(chunk, "message", None)) is not None]
