"""WorstCase: what a call can cost at most, worked out before it is sent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from langchain_core.messages import AIMessage, BaseMessage

from eco2_callbacks.budgets.money import to_nano
from eco2_callbacks.errors import UnknownModelError
from eco2_callbacks.pricing import Context, PriceBook
from eco2_callbacks.usage import (
    Answer,
    Exchange,
    ServedModel,
    TokenUsage,
    estimate_usage,
)

__all__ = ["PlannedCall", "WorstCase"]

# OpenAI's, Anthropic's, Gemini's and the common names of the same limit; the first that is set holds.
_MAX_TOKENS = (
    *("max_completion_tokens", "max_output_tokens", "max_tokens", "max_tokens_to_sample", "max_new_tokens"),
    "num_predict",
)
_CHOICES = ("n", "candidate_count")
_OUTPUT_KEYS = frozenset({*_MAX_TOKENS, *_CHOICES})
# Up to this length a text is not counted: no tokenizer makes more tokens than the text has bytes.
_SHORT_BYTES = 512
_MESSAGE_TOKENS = 16
# Beyond it a model's prices can rise, so each call looks the price up.
_PLAIN_PROMPT = 100_000
_PROBE_TOKENS = 10_000
_MAX_KNOWN = 1024
# Parameters that can change the price of a token.
_PRICE_KEYS = frozenset(
    {"extra_body", "inference_geo", "model_kwargs", "service_tier", "speed", "tools", "web_search_options"}
)


class PlannedCall(NamedTuple):
    """A call before it is sent.

    Attributes:
        served: Who serves the model.
        request_model: The requested model.
        params: LangChain's invocation parameters.
        messages: What is sent to a chat model.
        prompts: What is sent to a text-completion model.
        answer_model: The model that answered; ``""`` before the answer, or where it names none.
    """

    served: ServedModel
    request_model: str
    params: Mapping[str, Any]
    messages: Sequence[BaseMessage] = ()
    prompts: Sequence[str] = ()
    answer_model: str = ""


class _Rates(NamedTuple):
    """Nanodollars of a thousand tokens."""

    input: int
    output: int

    def nano(self, input_tokens: int, output_tokens: int) -> int:
        return (input_tokens * self.input + output_tokens * self.output) // 1000 + 1


class _Known(NamedTuple):
    """What is known of a model object: its arguments, its rates, and the output that its arguments allow."""

    model_kwargs: Mapping[str, Any]
    rates: _Rates | None
    output_tokens: int


class WorstCase:
    """Works out the most that a call can cost: its input as counted, and ``max_tokens`` of output, at the rate.

    Args:
        prices: Prices of the models.
        assumed_output_tokens: Output of a call whose request sets no maximum.
        now: As the handler's.
    """

    def __init__(self, prices: PriceBook, *, assumed_output_tokens: int, now: Callable[[], datetime]) -> None:
        self._prices = prices
        self._assumed_output_tokens = assumed_output_tokens
        self._now = now
        self._known: dict[tuple[int, str, str, str], _Known] = {}
        self._day_end: datetime | None = None

    def nano(self, call: PlannedCall) -> int | None:
        """Return the worst case in nanodollars; None where no price is known.

        A model that runs on the user's own machine and has no custom rate costs nothing.
        """
        at = self._now()
        _, rates, output_tokens = self._look_up(call, at)
        if rates is None:
            return 0 if call.served.is_self_hosted else None
        if not _OUTPUT_KEYS.isdisjoint(call.params) or "model_kwargs" in call.params:
            output_tokens = self._output_tokens(call.params, call.served.model_kwargs)
        input_tokens = _input_tokens(call)
        if input_tokens > _PLAIN_PROMPT:
            usage = TokenUsage(input_tokens=input_tokens, output_tokens=output_tokens)
            exchange = _exchange(call)
            exact = self._quote(call, exchange, usage, _context(call, exchange), at)
            if exact is not None:
                return exact
        return rates.nano(input_tokens, output_tokens)

    def covers(self, amount: int, call: PlannedCall, usage: Mapping[str, Any]) -> bool:
        """Return whether a reservation is at least what a call's tokens cost.

        False where no price is known yet. A call that reserved nothing costs nothing only on the user's own machine.

        Args:
            amount: Nanodollars that are reserved.
            call: The call as it was sent, with the model that answered.
            usage: LangChain's usage of its answer, with whole numbers of input and output tokens.
        """
        rates = self._look_up(call, self._now()).rates
        if rates is None:
            return not amount and call.served.is_self_hosted
        input_tokens, output_tokens, total = usage["input_tokens"], usage["output_tokens"], usage.get("total_tokens")
        if type(total) is int and total > input_tokens + output_tokens:
            output_tokens = total - input_tokens  # some models report their reasoning in the total alone
        return input_tokens <= _PLAIN_PROMPT and rates.nano(input_tokens, output_tokens) <= amount

    def _look_up(self, call: PlannedCall, at: datetime) -> _Known:
        if self._day_end is None or at >= self._day_end:
            # Rates hold for a day of UTC.
            day = at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
            self._day_end = day + timedelta(days=1)
            self._known.clear()
        served, model_kwargs = call.served, call.served.model_kwargs
        is_plain = _PRICE_KEYS.isdisjoint(call.params)
        # The arguments of a model object can change its price as well.
        key = (id(model_kwargs), served.provider, call.request_model, call.answer_model)
        if is_plain and (known := self._known.get(key)) is not None and known.model_kwargs is model_kwargs:
            return known
        exchange = _exchange(call)
        rates = self._find_rates(call, exchange, _context(call, exchange), at)
        found = _Known(model_kwargs, rates, self._output_tokens({}, model_kwargs))
        if is_plain:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[key] = found
        return found

    def _find_rates(self, call: PlannedCall, exchange: Exchange, context: Context, at: datetime) -> _Rates | None:
        sent = self._quote(call, exchange, TokenUsage(input_tokens=_PROBE_TOKENS), context, at)
        # A provider can bill the first use of a prompt as a cache write, above the plain rate.
        written = self._quote(
            call,
            exchange,
            TokenUsage(input_tokens=_PROBE_TOKENS, cache_creation_tokens=_PROBE_TOKENS),
            context,
            at,
        )
        answered = self._quote(call, exchange, TokenUsage(output_tokens=_PROBE_TOKENS), context, at)
        if sent is None or answered is None:
            return None
        per_thousand = _PROBE_TOKENS // 1000
        return _Rates(-(-max(sent, written or 0) // per_thousand), -(-answered // per_thousand))

    def _quote(
        self, call: PlannedCall, exchange: Exchange, usage: TokenUsage, context: Context, at: datetime
    ) -> int | None:
        for model in dict.fromkeys(call.served.rules.price_models(exchange)):
            try:
                quote = self._prices.quote(usage, provider=call.served.provider, model=model, context=context, at=at)
            except UnknownModelError:
                continue
            return to_nano(quote.cost.total_usd)
        return None

    def _output_tokens(self, params: Mapping[str, Any], model_kwargs: Mapping[str, Any]) -> int:
        limit = choices = None
        for source in (params, params.get("model_kwargs"), model_kwargs, model_kwargs.get("model_kwargs")):
            if isinstance(source, dict) and not _OUTPUT_KEYS.isdisjoint(source):
                limit = limit or _first_count(source, _MAX_TOKENS)
                choices = choices or _first_count(source, _CHOICES)
        return (self._assumed_output_tokens if limit is None else limit) * (choices or 1)


def _exchange(call: PlannedCall) -> Exchange:
    model, served = call.request_model, call.served
    answer = Answer(call.answer_model or model)
    return Exchange(answer, model, call.params, served.model_kwargs, region=served.region)


def _context(call: PlannedCall, exchange: Exchange) -> Context:
    tier = exchange.requested("service_tier")
    return call.served.rules.price_context(exchange, tier if isinstance(tier, str) else None)


def _input_tokens(call: PlannedCall) -> int:
    """Return the input tokens, counted; of a short text without tools its bytes, which are never fewer."""
    if not call.params.get("tools") and not call.params.get("response_format"):
        size = 0
        for sent in call.messages or call.prompts:
            text = sent if isinstance(sent, str) else sent.content
            if not isinstance(text, str) or (isinstance(sent, AIMessage) and sent.tool_calls):
                break
            size += (len(text) if text.isascii() else len(text.encode("utf-8", "replace"))) + _MESSAGE_TOKENS
            if size > _SHORT_BYTES:
                break
        else:
            return size
    sent_usage = estimate_usage(
        call.messages or call.prompts, (), call.params, rules=call.served.rules, model=call.request_model
    )
    return sent_usage.input_tokens


def _first_count(source: Mapping[str, Any], keys: Sequence[str]) -> int | None:
    for key in keys:
        value = source.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value
    return None
