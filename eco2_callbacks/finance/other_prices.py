"""OtherPrices: the prices that calls are compared at, and what a stored call costs there."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from functools import partial

from eco2_callbacks.errors import ConfigError, UnknownModelError, UsageError
from eco2_callbacks.ledger import StoredCall, StoredRating
from eco2_callbacks.pricing import Adjustment, Context, PriceBook, Quote, RatesUsed, public_models, sellers_of
from eco2_callbacks.usage import Answer, Exchange, rules_for

__all__ = ["OtherPrices"]

_STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "on_demand"})
# Samplings and window of a sum of several short prompts.
_SHORT_PROMPTS = (2, 1)


@dataclass(frozen=True, slots=True)
class OtherPrices:
    """The prices to compare with.

    Attributes:
        book: The price book.
        provider: Provider of ``model``; ``""`` for each call's own.
        model: The model that takes the place of each call's; ``""`` for its own.
        day: The day (UTC) whose prices hold for all calls; None for that of each call.
    """

    book: PriceBook
    provider: str = ""
    model: str = ""
    day: date | None = None

    @classmethod
    def parse(cls, book: PriceBook, *, model: str = "", day: str | None = None) -> OtherPrices:
        """Return the prices that texts name.

        Args:
            book: The price book.
            model: A model, or ``provider/model`` where several providers sell it.
            day: A day like 2026-11-30.

        Raises:
            ConfigError: If the model has no price, several providers sell it, or the day is none.
        """
        on = None
        if day is not None:
            try:
                on = date.fromisoformat(day.strip())
            except ValueError as error:
                raise ConfigError(f"--date is {day!r}, wanted a day like 2026-11-30.") from error
        if not model:
            return cls(book, day=on)
        named, _, name = model.partition("/")
        for provider, wanted in ((named, name), ("", model)):
            sellers = sellers_of(book, wanted) if wanted else ()
            if provider in sellers or (sellers and not provider):
                return cls(book, provider or _maker(sellers), wanted, on)
        # A name without its suffix, such as gemini-3-flash for gemini-3-flash-preview.
        longer = {found for _, found in public_models() if found.startswith(f"{model}-")}
        if len(longer) == 1:
            (only,) = longer
            return cls(book, _maker(sellers_of(book, only)), only, on)
        hint = f"; did you mean one of {', '.join(sorted(longer)[:8])}?" if longer else "; eco2 prices lists them."
        raise ConfigError(f"--model is {model!r}, wanted a model with a known price{hint}")

    def quote(self, call: StoredCall) -> Quote | None:
        """Return what a call costs at these prices.

        Model, tier and number of samplings are those by which the handler looked its price up. None where there is no
        price, where the usage is unknown, or where an older version did not keep whether it is that of one long prompt.
        """
        samplings = self._samplings(call)
        if samplings is None:
            return None
        if not self.model:
            return self._first(call, _names(call), *samplings, day=self.day)
        return self._first(call, (self.model,), *samplings, provider=self.provider, day=self.day)

    def margin(self, call: StoredCall) -> Adjustment | None:
        """Return the margin on a call, which needs no price."""
        found = (
            self.book.margin(provider=call.provider, model=name, at=call.started_at, tenant_id=call.tenant_id)
            for name in _names(call)
        )
        return next((margin for margin in found if margin is not None), None)

    def has_prices_of(self, call: StoredCall, own: StoredRating) -> bool:
        """Return whether the prices of a rating hold here too, for a call of several models, whose usage is their sum.

        A rating has the prices of the main model. The sum can hold units that this model did not bill, and be longer
        than each of the prompts.
        """
        names = tuple(_names(call))
        quotes = (self._first(call, names, *each) for each in ((own.samplings, own.window), _SHORT_PROMPTS))
        return any(
            quote is not None
            and quote.rates is not None
            and all(quote.rates.usd.get(key) == usd for key, usd in own.usd.items())
            for quote in quotes
        )

    def _samplings(self, call: StoredCall) -> tuple[int, int | None] | None:
        """Return the number of samplings of a call and its window, None where they are unknown and change the price."""
        own = call.own
        if own is None or own.model:
            return (1, None) if own is None else (own.samplings, own.window)
        # An older version kept its prices alone: they tell a long prompt from several short ones.
        one, several = (1, None), _SHORT_PROMPTS
        long, short = (self._first(call, _names(call), *each) for each in (one, several))
        if long is None or short is None or _public(long.rates) == _public(short.rates):
            return one
        return {_public(long.rates): one, _public(short.rates): several}.get(_public(own))

    def _first(
        self,
        call: StoredCall,
        names: Iterable[str],
        samplings: int,
        window: int | None,
        *,
        provider: str = "",
        day: date | None = None,
    ) -> Quote | None:
        """Return the quote by a custom rate for one of the names, else by the first name with a price."""
        quote_of = partial(self._quote, call, provider or call.provider, samplings=samplings, window=window, day=day)
        context, found = _context(call), None
        is_foreign = provider not in ("", call.provider)
        if is_foreign:
            # Another provider's prices know the tiers at most.
            context = tuple(pair for pair in context if pair[0] == "service_tier")
        for name in names:
            quote = quote_of(name, context)
            if quote is not None and quote.unpriced and is_foreign and context:
                # Where the tier is not sold, the standard price is the one that would be paid.
                plain = quote_of(name, ())
                if plain is not None and len(plain.unpriced) < len(quote.unpriced):
                    quote = plain
            if quote is not None and quote.has_custom_rate:
                return quote
            found = found or quote
        return found

    def _quote(
        self,
        call: StoredCall,
        provider: str,
        name: str,
        context: Context,
        *,
        samplings: int,
        window: int | None,
        day: date | None,
    ) -> Quote | None:
        if call.usage is None:
            return None
        try:
            return self.book.quote(
                call.usage,
                provider=provider,
                model=name,
                context=context,
                at=call.started_at if day is None else datetime.combine(day, call.started_at.timetz()),
                samplings=samplings,
                window=window,
                tenant_id=call.tenant_id,
            )
        except (UnknownModelError, UsageError):
            return None


def _names(call: StoredCall) -> Iterable[str]:
    """Return the names that a call's own price can stand under: the one that the handler found it by comes first."""
    answered = Exchange(Answer(call.model), call.labels["request_model"] or "", {}, {})
    known = None if call.own is None else call.own.model
    names = (known, *rules_for(call.provider).price_models(answered), call.model)
    return [name for name in dict.fromkeys(names) if name]


def _public(prices: RatesUsed | StoredRating | None) -> frozenset[tuple[str, Decimal]]:
    """Return the public prices of a quote or a rating."""
    return frozenset() if prices is None else frozenset({**prices.usd, **prices.list_usd}.items())


def _context(call: StoredCall) -> Context:
    known = next((rating.context for rating in call.ratings if rating.context is not None), None)
    if known is not None:
        return tuple(sorted(known.items()))
    tier = call.labels["service_tier"]
    return () if tier in _STANDARD_TIERS else (("service_tier", str(tier)),)


def _maker(sellers: tuple[str, ...]) -> str:
    """Return who makes a model, rather than one who resells it."""
    return next((name for name in sellers if name in ("openai", "anthropic", "google", "mistral", "x-ai")), sellers[0])
