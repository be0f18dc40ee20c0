"""Meter: from an open model call and the way it ended to its LLMCall: usage, cost, and what is uncertain in them."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import UUID

from langchain_core.messages import BaseMessage, HumanMessage
from langchain_core.outputs import ChatGeneration, ChatGenerationChunk, Generation, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from eco2_callbacks.errors import UnknownModelError
from eco2_callbacks.estimation import estimate_usage
from eco2_callbacks.extraction import Answer, choices_of, complete, messages_of, read_answer, read_usage
from eco2_callbacks.outcomes import Outcome
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.records import Cost, EstimateReason, LLMCall, UnpricedReason
from eco2_callbacks.runs import OpenCall
from eco2_callbacks.usage import TokenUsage

__all__ = ["Meter"]

_logger = logging.getLogger(__name__)
_FREE = Cost()
_MOST_WARNINGS = 1000
# Estimated from what was asked for: in which tier it would have been answered too.
_UNTOLD = ("cancelled", "error", "no_usage")


class Meter:
    """Measures finished model calls.

    Args:
        prices: Where the prices come from.
        on_failure: Told of an exception, while it is handled, with the callback and the run.
    """

    def __init__(self, prices: PriceBook, on_failure: Callable[[str, UUID], None]) -> None:
        self._prices = prices
        self._on_failure = on_failure
        self._warned: set[tuple[str, str, str]] = set()
        self._lock = threading.RLock()

    def measure(
        self, call: OpenCall, result: LLMResult | None, outcome: Outcome, *, duration_seconds: float, agent_name: str
    ) -> LLMCall:
        """Return the record of a call that ended, with or without an answer."""
        try:
            answer, usage, reason, cost, unpriced = self._bill(call, result, outcome)
        except Exception:  # whatever a malformed answer leads to, the call happened and is counted
            self._on_failure("on_llm_end", call.run_id)
            answer, usage, reason, cost, unpriced = Answer(call.request_model), None, None, None, "no_usage"
        arrivals = call.stream.arrivals if call.stream is not None else ()
        return LLMCall(
            run_id=call.run_id,
            trace_id=call.top,
            parent_run_id=call.parent_run_id,
            operation=call.operation,
            node=call.node_name,
            intent=call.intent,
            tenant_id=call.tenant_id,
            agent_name=agent_name,
            provider=call.provider,
            model=answer.model,
            request_model=call.request_model,
            status=outcome.status,
            error_type=outcome.error_type,
            retry=call.retry,
            rate_limited=outcome.rate_limited,
            started_at=call.started_at,
            duration_seconds=duration_seconds,
            time_to_first_token_seconds=max(0.0, arrivals[0] - call.started) if arrivals else None,
            streamed=call.stream is not None,
            streamed_tokens=len(arrivals),
            usage=usage,
            cost=cost,
            estimated=reason is not None,
            estimate_reason=reason,
            unpriced_reason=unpriced,
            service_tier=answer.service_tier,
            from_cache=answer.from_cache,
            tags=call.tags,
            metadata=call.metadata,
            **call.span,
        )

    def _bill(
        self, call: OpenCall, result: LLMResult | None, outcome: Outcome
    ) -> tuple[Answer, TokenUsage | None, EstimateReason | None, Cost | None, UnpricedReason | None]:
        if outcome.status != "success" and not any(getattr(choice, "text", "") for choice in choices_of(result)):
            # Of a stream that was cut short LangChain may hand on nothing.
            result = _streamed(call) or result
        answer = read_answer(
            result,
            provider=call.provider,
            request_model=call.request_model,
            prompt=call.messages,
            params=call.params,
        )
        usage = answer.usage
        reason: EstimateReason | None = None if answer.exact else "media"
        if outcome.status != "success":
            usage, reason = _of_unfinished(call, answer, result, outcome)
        elif usage is None and result is not None:
            usage, reason = _estimate(call, result, answer.model), "no_usage"
            self._warn_of_no_usage(call)
        elif usage is not None and call.last_event is not None:
            usage = _with_details(usage, _streamed(call))
        tier = answer.service_tier
        if tier is None and reason in _UNTOLD:
            tier = call.params.get("service_tier")
        cost, unpriced = self._price(call, answer, usage, outcome, tier if isinstance(tier, str) else None)
        return answer, usage, reason if usage is not None else None, cost, unpriced

    def _price(
        self, call: OpenCall, answer: Answer, usage: TokenUsage | None, outcome: Outcome, tier: str | None
    ) -> tuple[Cost | None, UnpricedReason | None]:
        if usage is None:
            # A provider that refused the request billed nothing; of every other failure nobody knows.
            return None, None if outcome.refused else "no_usage"
        if answer.from_cache:
            return _FREE, None
        unknown: UnknownModelError | None = None
        # An answer can name a model that nobody sells: a deployment, a path on a server of one's own.
        for model in dict.fromkeys((answer.model, call.request_model)):
            try:
                return self._prices.price(
                    usage, provider=call.provider, model=model, service_tier=tier, at=call.started_at
                ), None
            except UnknownModelError as error:
                unknown = unknown or error
        if self._is_first("price", call.provider, answer.model):
            _logger.warning("%s Its calls count as unpriced.", unknown)
        return None, "unknown_model"

    def _warn_of_no_usage(self, call: OpenCall) -> None:
        if self._is_first("usage", call.provider, call.request_model):
            _logger.warning(
                "Model %r of provider %r answered without usage (run %s); its cost is estimated. "
                "For a ChatOpenAI stream with its own base_url or client pass stream_usage=True.",
                call.request_model,
                call.provider,
                call.run_id,
            )

    def _is_first(self, what: str, provider: str, model: str) -> bool:
        key = (what, provider, model)
        with self._lock:
            if key in self._warned or len(self._warned) >= _MOST_WARNINGS:
                return False
            self._warned.add(key)
            return True


def _of_unfinished(
    call: OpenCall, answer: Answer, result: LLMResult | None, outcome: Outcome
) -> tuple[TokenUsage | None, EstimateReason | None]:
    """Return what a call consumed that was cut short, as an estimate; None where nothing can be said."""
    reason: EstimateReason = "cancelled" if outcome.status == "cancelled" else "error"
    if answer.usage is not None:
        # Some providers tell the input at once and the output at the end only, or now and then.
        later = estimate_usage((), _since_usage(call), {}, provider=call.provider, model=answer.model)
        usage = replace(answer.usage, output_tokens=answer.usage.output_tokens + later.output_tokens)
        return _complete(call, usage, result, answer.model), reason
    if (told := read_usage(call.told)) is not None:
        return _complete(call, told, result, answer.model), reason
    likely = _estimate(call, result, answer.model)
    answered = likely.output_tokens or (call.stream is not None and call.stream.arrivals)
    if reason == "error" and not answered:
        # Failed before it answered anything: whether the provider took the prompt is not known.
        return None, None
    return likely, reason


def _estimate(call: OpenCall, result: LLMResult | None, model: str) -> TokenUsage:
    # Chunks as they came: merged, the calls of several choices become one.
    received = _chunks(call) or _output(result)
    sent = call.messages or call.prompts
    likely = estimate_usage(sent, received, call.params, provider=call.provider, model=model)
    return _complete(call, likely, result, model)


def _complete(call: OpenCall, usage: TokenUsage, result: LLMResult | None, model: str) -> TokenUsage:
    prompt, params = call.messages, call.params
    return complete(usage, messages_of(result), provider=call.provider, model=model, prompt=prompt, params=params)[0]


def _output(result: LLMResult | None) -> list[BaseMessage]:
    texts = [text for choice in choices_of(result) if isinstance(text := getattr(choice, "text", None), str)]
    return messages_of(result) or [HumanMessage(content=text) for text in texts]


def _chunks(call: OpenCall) -> list[BaseMessage]:
    return [message for chunk in call.chunks if (message := getattr(chunk, "message", None)) is not None]


def _since_usage(call: OpenCall) -> list[BaseMessage]:
    """Return the chunks that came after a usage was last told."""
    later: list[BaseMessage] = []
    for message in reversed(_chunks(call)):
        # Some chunks tell a usage of nothing.
        if (usage := read_usage(getattr(message, "usage_metadata", None))) is not None and usage.total_tokens:
            break
        later.append(message)
    return later[::-1]


def _streamed(call: OpenCall) -> LLMResult | None:
    """Return what the call streamed as a result, None if that was nothing."""
    chunks = [chunk for chunk in call.chunks if isinstance(chunk, ChatGenerationChunk)]
    if (merged := merge_chat_generation_chunks(chunks)) is not None:
        # Model and tier of a v3 stream stand in the generation only.
        metadata = {**(merged.generation_info or {}), **merged.message.response_metadata}
        message = merged.message.model_copy(update={"response_metadata": metadata})
        return LLMResult(generations=[[ChatGeneration(message=message)]])
    text = "".join([getattr(chunk, "text", "") for chunk in call.chunks] or call.texts)
    return LLMResult(generations=[[Generation(text=text)]]) if text else None


def _with_details(usage: TokenUsage, streamed: LLMResult | None) -> TokenUsage:
    """Return a v3 stream's usage with the details, which its end lacks, that its chunks told of the same total."""
    told = next((raw for m in messages_of(streamed) if (raw := getattr(m, "usage_metadata", None))), None)
    chunked = read_usage(told)
    if chunked is None or chunked.total_tokens != usage.total_tokens:
        return usage
    return replace(usage, **{name: count for name, count in vars(chunked).items() if count})
