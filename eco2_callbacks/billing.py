"""CallBiller: from an ended model call to its record, with usage, cost, and what is uncertain in them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple
from uuid import UUID

from langchain_core.outputs import LLMResult
from msgspec.structs import replace

from eco2_callbacks.call_usage import (
    chunks_since_usage,
    estimate_call,
    has_empty_counts,
    streamed_result,
    usage_of_unfinished,
    with_last_of_cumulative,
    with_streamed_details,
)
from eco2_callbacks.errors import UnknownModelError
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import Adjustment, Context, Cost, PriceBook, Quote, RatesUsed
from eco2_callbacks.records import CostSource, EstimateReason, LLMCall, UnpricedReason
from eco2_callbacks.runs import OpenLLMCall, text_of
from eco2_callbacks.usage import (
    Answer,
    Estimator,
    Exchange,
    Sampling,
    TokenUsage,
    choices_of,
    read_answer,
    read_usage,
    token_counter,
)

__all__ = ["CallBiller"]

_logger = logging.getLogger(__name__)
_FREE = Cost()
_ZERO = Decimal(0)
_MAX_PURPOSE = 120


class _Bill(NamedTuple):
    """What is known about the cost of one call."""

    answer: Answer
    usage: TokenUsage | None = None
    estimate_reason: EstimateReason | None = None
    cost: Cost | None = None
    unpriced_reason: UnpricedReason | None = None
    cost_source: CostSource = "rates"
    rates: RatesUsed | None = None
    computed_cost: Cost | None = None
    list_cost: Cost | None = None
    margin: Adjustment | None = None
    cache_savings_usd: Decimal = _ZERO
    cache_surcharge_usd: Decimal = _ZERO


class CallBiller:
    """Makes the record of each model call.

    Args:
        prices: Prices of the models.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
    """

    def __init__(self, prices: PriceBook, *, on_failure: Callable[[str, UUID], None]) -> None:
        self._prices = prices
        self._on_failure = on_failure

    def record(self, call: OpenLLMCall) -> LLMCall:
        """Return the record of an ended call, with or without an answer."""
        try:
            bill = _bill_of_passed_answer(call) if call.is_passed_on else self._bill(call)
        except Exception:  # a malformed answer can raise anything, but the call happened and is counted
            self._on_failure("on_llm_end", call.run_id)
            bill = _Bill(Answer(call.request_model), unpriced_reason="no_usage")
        answer, outcome = bill.answer, call.outcome
        arrivals = call.stream.arrivals if call.stream is not None else ()
        purpose = call.metadata.get("lc_source")
        _, user_id, session_id, job_id, feature, prompt_version = call.identity.texts
        return LLMCall(
            run_id=call.run_id,
            trace_id=call.trace_id,
            parent_run_id=call.parent_run_id,
            enclosing_run_id=call.enclosing_run_id,
            operation=call.operation,
            node=call.node_name,
            intent=call.intent,
            agent_name=call.place.agent_name,
            path=call.place.path,
            purpose=None if purpose is None else text_of(purpose)[:_MAX_PURPOSE] or None,
            tenant_id=call.tenant_id,
            user_id=user_id,
            session_id=session_id,
            job_id=job_id,
            feature=feature,
            prompt_version=prompt_version,
            provider=call.provider,
            model=answer.model,
            request_model=call.request_model,
            status=outcome.status,
            error_type=outcome.error_type,
            retry=call.retry,
            sdk_retries=call.sdk_retries,
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
            estimator=_estimator(call, bill),
            unpriced_reason=bill.unpriced_reason,
            cost_source=bill.cost_source,
            rates=bill.rates,
            computed_cost=bill.computed_cost,
            list_cost=bill.list_cost,
            margin_usd=_ZERO if bill.margin is None or bill.cost is None else bill.margin.usd_on(bill.cost.total_usd),
            cache_savings_usd=bill.cache_savings_usd,
            cache_surcharge_usd=bill.cache_surcharge_usd,
            response_id=answer.response_id,
            service_tier=answer.service_tier,
            from_cache=answer.from_cache,
            tags=call.tags,
            metadata=call.metadata,
            **call.span,
        )

    def _bill(self, call: OpenLLMCall) -> _Bill:
        """Reported usage or an estimate, then the units that no count reports, then the price."""
        result, succeeded, served = call.output, call.is_answered or call.outcome.status == "success", call.served
        if not succeeded and not any(getattr(choice, "text", "") for choice in choices_of(result)):
            # LangChain may pass on nothing of a stream that was cut short.
            result = streamed_result(call) or result
        answer = _read_answer(call, result)
        rules = served.rules
        if call.chunks and answer.usage is not None and not rules.streams_parts:
            answer = with_last_of_cumulative(answer, call.chunks)
        exchange = Exchange(
            answer,
            call.request_model,
            call.params,
            served.model_kwargs,
            streamed=call.stream is not None,
            region=served.region,
            prompt=call.messages,
        )
        usage: TokenUsage | None
        reason: EstimateReason | None
        is_certain = True
        if not succeeded:
            usage, reason = usage_of_unfinished(call, answer, result, rules)
        elif result is not None and (answer.usage is None or has_empty_counts(answer, result)):
            usage, reason = estimate_call(call, result, rules, answer.model), "no_usage"
            self._warn_no_usage(call)
        else:
            usage, reason = answer.usage, None
            if usage is not None and not answer.from_cache:
                if call.last_event is not None:
                    usage = with_streamed_details(usage, streamed_result(call))
                usage, is_certain = rules.read_usage(usage, exchange)
        if usage is None:
            # A provider that refused the request billed nothing. After any other failure that is unknown.
            return _Bill(answer, unpriced_reason=None if call.outcome.refused else "no_usage")
        if answer.from_cache:
            return _Bill(answer, usage, cost=_FREE)
        samplings = rules.samplings(usage, exchange) if reason is None else ()
        if samplings:
            main = TokenUsage.sum(each.usage for each in samplings if each.is_main)
            is_certain = is_certain and main.input_tokens == usage.input_tokens
        usage, is_whole_bill = rules.add_unreported_usage(
            usage, answer.messages, prompt=call.messages, params=call.params, model=answer.model
        )
        if reason is None:
            # Every answer has a prompt, and with it input.
            has_lost_input = usage.input_tokens == 0 and usage.output_tokens > 0
            if not is_certain or has_lost_input or rules.is_incomplete(usage, exchange):
                reason = "lost_usage"
                if has_lost_input and (call.messages or call.prompts):
                    usage = replace(usage, input_tokens=estimate_call(call, None, rules, answer.model).input_tokens)
            elif not is_whole_bill:
                reason = "media"
        tier = answer.service_tier
        if tier is None and reason not in (None, "media"):
            tier = call.params.get("service_tier")  # no answer names the tier, so the requested one counts
        context = rules.price_context(exchange, tier if isinstance(tier, str) else None)
        bill = self._price(call, exchange, usage, context, samplings)
        if bill.estimate_reason is None and reason is not None:
            bill = bill._replace(estimate_reason=reason)
        stated_usd = rules.stated_cost(exchange)
        if stated_usd is not None:
            bill = _with_stated_cost(bill, stated_usd)
        elif bill.estimate_reason == "lost_usage":
            self._warn_lost_usage(call)
        return bill

    def _price(
        self,
        call: OpenLLMCall,
        exchange: Exchange,
        usage: TokenUsage,
        context: Context,
        samplings: Sequence[Sampling],
    ) -> _Bill:
        """Return the bill of a usage, and of further samplings, each with its own model."""
        answer, served = exchange.answer, call.served
        whole, others = usage, [sampling for sampling in samplings if not sampling.is_main] if samplings else ()
        if others:
            whole = TokenUsage.sum([usage, *(other.usage for other in others)])
        limit, window = served.rules.sampling_limit(exchange)
        if samplings and (prompts := [each.usage.input_tokens for each in samplings if each.is_main]):
            limit, window = max(limit, len(prompts)), max(prompts)
        quotes, models = None, []
        try:
            quote, model = self._quote(call, exchange, usage, context, limit, window)
            if others:
                quotes = [quote]
                for other in others:
                    part, name = self._quote(call, exchange, other.usage, context, 1, None, model=other.model)
                    quotes.append(part)
                    models.append(name)
        except UnknownModelError as error:
            reason: UnpricedReason = "self_hosted" if served.is_self_hosted else "unknown_model"
            if is_first("price", call.provider, answer.model):
                _logger.warning("%s Its calls count as unpriced.", error)
            # The provider can state what it charges.
            return _Bill(answer, whole, unpriced_reason=reason, margin=self._margin(call, exchange))
        if quotes:
            quote = Quote(
                cost=Cost.sum(part.cost for part in quotes),
                is_custom=any(part.is_custom for part in quotes),
                unpriced=tuple(name for part in quotes for name in part.unpriced),
                is_certain=all(part.is_certain for part in quotes),
                cache_savings_usd=sum((part.cache_savings_usd for part in quotes), _ZERO),
                cache_surcharge_usd=sum((part.cache_surcharge_usd for part in quotes), _ZERO),
                rates=None if quote.rates is None else replace(quote.rates, other_models=tuple(dict.fromkeys(models))),
                list_cost=_list_cost(quotes),
                margin=quote.margin,
            )
        source: CostSource = "custom" if quote.is_custom else "rates"
        if quote.unpriced and is_first("unit", call.provider, answer.model):
            _logger.warning(
                "No rate for %s of model %r of provider %r; the cost leaves it out. "
                "Add the rate to the file named by ECO2_PRICES or pass prices=.",
                ", ".join(quote.unpriced),
                model,
                call.provider,
            )
        return _Bill(
            answer,
            whole,
            None if quote.is_certain else "lost_usage",
            quote.cost,
            "unpriced_unit" if quote.unpriced else None,
            cost_source=source,
            rates=quote.rates,
            list_cost=quote.list_cost,
            margin=quote.margin,
            cache_savings_usd=quote.cache_savings_usd,
            cache_surcharge_usd=quote.cache_surcharge_usd,
        )

    def _quote(
        self,
        call: OpenLLMCall,
        exchange: Exchange,
        usage: TokenUsage,
        context: Context,
        samplings: int,
        window: int | None,
        model: str | None = None,
    ) -> tuple[Quote, str]:
        """Return the quote of the main model, or of a further one, and the name that it was found under.

        The answer can name something without a price: a deployment, or a path on the user's own server.
        """
        unknown: UnknownModelError | None = None
        rules = call.served.rules
        models = (model,) if model is not None else dict.fromkeys(rules.price_models(exchange))
        for name in models:
            try:
                quote = self._prices.quote(
                    usage,
                    provider=call.provider,
                    model=name,
                    context=context,
                    at=call.started_at,
                    samplings=samplings,
                    window=window,
                    tenant_id=call.tenant_id,
                    takes_fixed=model is None,
                )
            except UnknownModelError as error:
                unknown = unknown or error
            else:
                if unknown is None or quote.has_custom_rate or rules.is_same_model(exchange, name):
                    return quote, name
        raise unknown or UnknownModelError(call.provider, exchange.answer.model, call.started_at.date().isoformat())

    def _margin(self, call: OpenLLMCall, exchange: Exchange) -> Adjustment | None:
        """Return the margin on a call without a price."""
        for name in dict.fromkeys(call.served.rules.price_models(exchange)):
            margin = self._prices.margin(
                provider=call.provider, model=name, at=call.started_at, tenant_id=call.tenant_id
            )
            if margin is not None:
                return margin
        return None

    def _warn_no_usage(self, call: OpenLLMCall) -> None:
        if call.operation != "embeddings" and is_first("usage", call.provider, call.request_model):
            _logger.warning(
                "Model %r of provider %r answered without usage (run %s); its cost is estimated. "
                "For a ChatOpenAI stream with its own base_url or client pass stream_usage=True.",
                call.request_model,
                call.provider,
                call.run_id,
            )

    def _warn_lost_usage(self, call: OpenLLMCall) -> None:
        if is_first("lost", call.provider, call.request_model):
            _logger.warning(
                "The client library dropped a part of the usage of model %r of provider %r, or its counts contradict "
                "each other (run %s); the cost is an estimate. See docs/providers.md.",
                call.request_model,
                call.provider,
                call.run_id,
            )


def _read_answer(call: OpenLLMCall, result: LLMResult | None) -> Answer:
    """Return the answer; one that repeats a requested name with LiteLLM's prefix has the provider's own name."""
    answer = read_answer(result, request_model=call.request_model)
    if answer.model != call.request_model and answer.model == call.metadata.get("ls_model_name"):
        return answer._replace(model=call.request_model)
    return answer


def _bill_of_passed_answer(call: OpenLLMCall) -> _Bill:
    """Return the bill of a call that passed on the answer of a call inside it, which has the tokens and the cost."""
    answer = _read_answer(call, call.output)
    return _Bill(answer._replace(from_cache=True), TokenUsage(), cost=_FREE)


def _list_cost(quotes: Sequence[Quote]) -> Cost | None:
    """Return the sum of the list costs, None where one is unknown."""
    known = [quote.list_cost for quote in quotes if quote.list_cost is not None]
    return Cost.sum(known) if len(known) == len(quotes) else None


def _with_stated_cost(bill: _Bill, stated_usd: Decimal) -> _Bill:
    """Return the bill with what the provider says it charged; the computed cost stands beside it."""
    computed = bill.cost or bill.computed_cost
    if computed is not None and computed.total_usd == stated_usd:
        cost = computed
    else:
        cost = Cost(output_usd=stated_usd, parts={"unsplit": stated_usd} if stated_usd else {})
    return bill._replace(
        cost=cost,
        cost_source="provider",
        computed_cost=computed,
        unpriced_reason=None,
        # Tokens may be uncertain still. The dollars are not.
        estimate_reason=bill.estimate_reason if bill.estimate_reason in ("cancelled", "error") else None,
    )


def _estimator(call: OpenLLMCall, bill: _Bill) -> Estimator | None:
    """Return what counted the text of an estimated usage, None where no text was counted."""
    if bill.usage is None or bill.estimate_reason in (None, "media"):
        return None
    if bill.estimate_reason == "lost_usage":
        counted = call.outcome.status == "success"
    elif bill.answer.usage is not None:
        counted = bool(chunks_since_usage(call))
    else:
        counted = bill.estimate_reason == "no_usage" or read_usage(call.reported_usage) is None
    return token_counter(bill.answer.model).name if counted else None
