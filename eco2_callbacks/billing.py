"""CallBiller: from an ended model call to its record, with usage, cost, and what is uncertain in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks
from msgspec.structs import replace

from eco2_callbacks.errors import UnknownModelError
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import Cost, PriceBook
from eco2_callbacks.records import EstimateReason, LLMCall, UnpricedReason
from eco2_callbacks.runs import OpenLLMCall
from eco2_callbacks.usage import (
    Answer,
    ProviderRules,
    TokenUsage,
    choices_of,
    estimate_usage,
    messages_of,
    read_answer,
    read_usage,
    rules_for,
)

__all__ = ["CallBiller"]

_logger = logging.getLogger(__name__)
_FREE = Cost()


class _Bill(NamedTuple):
    """What is known about the cost of one call."""

    answer: Answer
    usage: TokenUsage | None = None
    estimate_reason: EstimateReason | None = None
    cost: Cost | None = None
    unpriced_reason: UnpricedReason | None = None


class CallBiller:
    """Makes the record of each model call.

    Args:
        prices: Prices of the models.
        agent_name: As the handler's.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
    """

    def __init__(self, prices: PriceBook, *, agent_name: str, on_failure: Callable[[str, UUID], None]) -> None:
        self._prices = prices
        self._agent_name = agent_name
        self._on_failure = on_failure

    def record(self, call: OpenLLMCall) -> LLMCall:
        """Return the record of an ended call, with or without an answer."""
        try:
            bill = self._bill(call)
        except Exception:  # a malformed answer can raise anything, but the call happened and is counted
            self._on_failure("on_llm_end", call.run_id)
            bill = _Bill(Answer(call.request_model), unpriced_reason="no_usage")
        answer, outcome = bill.answer, call.outcome
        arrivals = call.stream.arrivals if call.stream is not None else ()
        return LLMCall(
            run_id=call.run_id,
            trace_id=call.trace_id,
            parent_run_id=call.parent_run_id,
            operation=call.operation,
            node=call.node_name,
            intent=call.intent,
            tenant_id=call.tenant_id,
            agent_name=self._agent_name,
            provider=call.provider,
            model=answer.model,
            request_model=call.request_model,
            status=outcome.status,
            error_type=outcome.error_type,
            retry=call.retry,
            rate_limited=outcome.rate_limited,
            started_at=call.started_at,
            duration_seconds=call.duration_seconds,
            time_to_first_token_seconds=max(0.0, arrivals[0] - call.started) if arrivals else None,
            streamed=call.stream is not None,
            streamed_tokens=len(arrivals),
            usage=bill.usage,
            cost=bill.cost,
            estimated=bill.estimate_reason is not None,
            estimate_reason=bill.estimate_reason,
            unpriced_reason=bill.unpriced_reason,
            service_tier=answer.service_tier,
            from_cache=answer.from_cache,
            tags=call.tags,
            metadata=call.metadata,
            **call.span,
        )

    def _bill(self, call: OpenLLMCall) -> _Bill:
        """Reported usage or an estimate, then the units that no count reports, then the price."""
        result, succeeded = call.output, call.outcome.status == "success"
        if not succeeded and not any(getattr(choice, "text", "") for choice in choices_of(result)):
            # LangChain may pass on nothing of a stream that was cut short.
            result = _streamed_result(call) or result
        answer = read_answer(result, request_model=call.request_model)
        rules = rules_for(call.provider)
        usage: TokenUsage | None
        reason: EstimateReason | None
        if not succeeded:
            usage, reason = _usage_of_unfinished(call, answer, result, rules)
        elif answer.usage is None and result is not None:
            usage, reason = _estimate(call, result, rules, answer.model), "no_usage"
            self._warn_no_usage(call)
        else:
            usage, reason = answer.usage, None
            if usage is not None and call.last_event is not None:
                usage = _with_streamed_details(usage, _streamed_result(call))
        if usage is None:
            # A provider that refused the request billed nothing. After any other failure that is unknown.
            return _Bill(answer, unpriced_reason=None if call.outcome.refused else "no_usage")
        if answer.from_cache:
            return _Bill(answer, usage, cost=_FREE)
        usage, is_whole_bill = rules.add_unreported_usage(
            usage, messages_of(result), prompt=call.messages, params=call.params, model=answer.model
        )
        if reason is None and not is_whole_bill:
            reason = "media"
        tier = answer.service_tier
        if tier is None and reason not in (None, "media"):
            tier = call.params.get("service_tier")  # no answer names the tier, so the requested one counts
        cost, unpriced_reason = self._price(call, answer.model, usage, tier if isinstance(tier, str) else None)
        return _Bill(answer, usage, reason, cost, unpriced_reason)

    def _price(
        self, call: OpenLLMCall, answered_by: str, usage: TokenUsage, tier: str | None
    ) -> tuple[Cost | None, UnpricedReason | None]:
        unknown: UnknownModelError | None = None
        # The answer can name something without a price: a deployment, or a path on the user's own server.
        for model in dict.fromkeys((answered_by, call.request_model)):
            try:
                cost = self._prices.price(
                    usage, provider=call.provider, model=model, service_tier=tier, at=call.started_at
                )
            except UnknownModelError as error:
                unknown = unknown or error
            else:
                return cost, None
        if is_first("price", call.provider, answered_by):
            _logger.warning("%s Its calls count as unpriced.", unknown)
        return None, "unknown_model"

    def _warn_no_usage(self, call: OpenLLMCall) -> None:
        if is_first("usage", call.provider, call.request_model):
            _logger.warning(
                "Model %r of provider %r answered without usage (run %s); its cost is estimated. "
                "For a ChatOpenAI stream with its own base_url or client pass stream_usage=True.",
                call.request_model,
                call.provider,
                call.run_id,
            )


def _usage_of_unfinished(
    call: OpenLLMCall, answer: Answer, result: LLMResult | None, rules: ProviderRules
) -> tuple[TokenUsage | None, EstimateReason | None]:
    """Return the usage of a call that was cut short, as an estimate; None where nothing is known."""
    reason: EstimateReason = "cancelled" if call.outcome.status == "cancelled" else "error"
    if answer.usage is not None:
        # Some providers report the input at once, and the output now and then or only at the end.
        later = estimate_usage((), _chunks_since_usage(call), {}, rules=rules, model=answer.model)
        return replace(answer.usage, output_tokens=answer.usage.output_tokens + later.output_tokens), reason
    if (reported := read_usage(call.reported_usage)) is not None:
        return reported, reason
    estimate = _estimate(call, result, rules, answer.model)
    answered = estimate.output_tokens or (call.stream is not None and call.stream.arrivals)
    if reason == "error" and not answered:
        # It failed before any answer: whether the provider accepted the prompt is unknown.
        return None, None
    return estimate, reason


def _estimate(call: OpenLLMCall, result: LLMResult | None, rules: ProviderRules, model: str) -> TokenUsage:
    # Chunks as they came: merged, the tool calls of several choices become one.
    received = _chunk_messages(call) or _output_messages(result)
    return estimate_usage(call.messages or call.prompts, received, call.params, rules=rules, model=model)


def _output_messages(result: LLMResult | None) -> list[BaseMessage]:
    texts = [text for choice in choices_of(result) if isinstance(text := getattr(choice, "text", None), str)]
    return messages_of(result) or [HumanMessage(content=text) for text in texts]


def _chunk_messages(call: OpenLLMCall) -> list[BaseMessage]:
    return [message for chunk in call.chunks if (message := getattr(chunk, "message", None)) is not None]


def _chunks_since_usage(call: OpenLLMCall) -> list[BaseMessage]:
    """Return the chunks that arrived after the last reported usage."""
    later: list[BaseMessage] = []
    for message in reversed(_chunk_messages(call)):
        # Some chunks report a usage of 0.
        if (usage := read_usage(getattr(message, "usage_metadata", None))) is not None and usage.total_tokens:
            break
        later.append(message)
    return later[::-1]


def _streamed_result(call: OpenLLMCall) -> LLMResult | None:
    """Return what the call streamed as a result; None if it streamed nothing."""
    chunks = [chunk for chunk in call.chunks if isinstance(chunk, ChatGenerationChunk)]
    if (merged := merge_chat_generation_chunks(chunks)) is not None:
        # A v3 stream names model and tier in the generation only.
        metadata = {**(merged.generation_info or {}), **merged.message.response_metadata}
        message = merged.message.model_copy(update={"response_metadata": metadata})
        return LLMResult(generations=[[ChatGeneration(message=message)]])
    text = "".join([getattr(chunk, "text", "") for chunk in call.chunks] or call.texts)
    return LLMResult(generations=[[Generation(text=text)]]) if text else None


def _with_streamed_details(usage: TokenUsage, streamed: LLMResult | None) -> TokenUsage:
    """Return a v3 stream's usage with the details of its chunks: its end lacks them. The totals must agree."""
    messages: Sequence[Any] = messages_of(streamed)
    raw = next((raw for message in messages if (raw := getattr(message, "usage_metadata", None))), None)
    chunked = read_usage(raw)
    if chunked is None or chunked.total_tokens != usage.total_tokens:
        return usage
    return replace(usage, **dict(chunked.nonzero()))
