"""Repricing: what the calls of a period would have cost at other prices, and new ratings for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import Decimal

from eco2_callbacks.errors import ConfigError, LedgerError, UnknownModelError, UsageError
from eco2_callbacks.ledger import Backend, Period, Rating, StoredCall, StoredRating, append_ratings, read_calls
from eco2_callbacks.pricing import EXACT, Context, PriceBook, Quote, billed_counts, public_models, sellers_of

__all__ = ["OtherPrices", "RepricedGroup", "Repricing", "reprice"]

_ZERO = Decimal(0)
_STEP = Decimal("1e-12")
_RATINGS_AT_ONCE = 2000
_STANDARD_TIERS = frozenset({None, "", "auto", "default", "standard", "on_demand"})


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


@dataclass(slots=True)
class RepricedGroup:
    """The calls of one tenant and model. Dollars are exact.

    Attributes:
        calls: All calls.
        compared_calls: Those with a price before and now.
        before_usd: What these cost by their present ratings.
        after_usd: What they cost at the other prices.
        newly_priced_calls: Calls that had no price before.
        newly_priced_usd: What these cost at the other prices.
        unpriced_calls: Calls without a price at the other prices, or without usage.
        unpriced_usd: What these cost by their present ratings.
        inexact_calls: Compared calls whose present cost is not their usage times one price list: several models or
            samplings in one call, or a cost that the provider stated.
    """

    tenant_id: str
    provider: str
    model: str
    calls: int = 0
    compared_calls: int = 0
    before_usd: Decimal = _ZERO
    after_usd: Decimal = _ZERO
    newly_priced_calls: int = 0
    newly_priced_usd: Decimal = _ZERO
    unpriced_calls: int = 0
    unpriced_usd: Decimal = _ZERO
    inexact_calls: int = 0

    @property
    def change_usd(self) -> Decimal:
        """After minus before, of the compared calls."""
        return EXACT.subtract(self.after_usd, self.before_usd)

    def add(self, other: RepricedGroup) -> None:
        """Add the figures of another group."""
        for name in RepricedGroup.__slots__[3:]:
            mine, theirs = getattr(self, name), getattr(other, name)
            setattr(self, name, EXACT.add(mine, theirs) if isinstance(mine, Decimal) else mine + theirs)


@dataclass(slots=True)
class Repricing:
    """The result.

    Attributes:
        price_version: Version of the other prices.
        groups: By tenant and model, the greatest change first.
        written_ratings: Ratings that were appended: those of calls whose dollars changed.
        skipped_ratings: Ratings that were left out, as they would not hold: of calls whose present rating is as new,
            or lies in the future, as that of a machine whose clock is fast.
    """

    period: Period
    prices: OtherPrices
    price_version: str
    groups: list[RepricedGroup] = field(default_factory=list)
    total: RepricedGroup = field(default_factory=lambda: RepricedGroup("", "", ""))
    written_ratings: int = 0
    skipped_ratings: int = 0


def reprice(
    backend: Backend,
    period: Period,
    prices: OtherPrices,
    *,
    writes: bool = False,
    on_progress: Callable[[float], None] | None = None,
    now: datetime | None = None,
) -> Repricing:
    """Price the calls of a period again.

    Args:
        backend: The ledger's backend.
        period: The period.
        prices: The other prices.
        writes: Whether to append the ratings that differ; they hold from then on.
        on_progress: Called with the share that is done.
        now: When the ratings are computed; None is now.

    Raises:
        LedgerError: If there is no ledger, or it has no calls in the period.
    """
    computed_at = now or datetime.now(UTC)
    groups: dict[tuple[str, str, str], RepricedGroup] = {}
    result = Repricing(period, prices, prices.book.version)
    for share, calls in read_calls(backend, period.since, period.until):
        ratings: list[Rating] = []
        for call in calls:
            key = call.tenant_id, call.provider, call.model
            group = groups.setdefault(key, RepricedGroup(*key))
            rating = _reprice(call, prices, group)
            if writes and rating is not None and _differs(call.newest, rating):
                ratings.append(rating)
        for start in range(0, len(ratings), _RATINGS_AT_ONCE):
            some = ratings[start : start + _RATINGS_AT_ONCE]
            written = append_ratings(backend, some, at=computed_at, skips_outdated=True)
            result.written_ratings += written
            result.skipped_ratings += len(some) - written
        if on_progress is not None:
            on_progress(share)
    if not groups:
        raise LedgerError(
            f"The ledger {backend.shown_url} has no calls from {period.since.isoformat(timespec='seconds')} to "
            f"{period.until.isoformat(timespec='seconds')}. Choose --since and --until to match."
        )
    result.groups = sorted(
        groups.values(), key=lambda group: (EXACT.minus(group.change_usd.copy_abs()), -group.calls, group.model)
    )
    for group in result.groups:
        result.total.add(group)
    return result


def _reprice(call: StoredCall, prices: OtherPrices, group: RepricedGroup) -> Rating | None:
    """Count a call in its group, and return its new rating; None where there is none."""
    group.calls += 1
    before = call.newest
    before_usd = None if before is None else before.contracted_cost
    if call.labels["from_cache"]:
        # Answered by LangChain's cache: it costs nothing at any price.
        group.compared_calls += 1
        return None
    quote = _quote(call, prices)
    if quote is None:
        group.unpriced_calls += 1
        group.unpriced_usd = EXACT.add(group.unpriced_usd, before_usd or _ZERO)
        return None
    cost = quote.cost
    is_stated = call.labels["cost_source"] == "provider" and before_usd is not None
    after_usd = cost.total_usd
    if is_stated and before_usd is not None and not quote.is_custom and not prices.model and prices.day is None:
        # A price list does not change what the provider said it charged.
        after_usd = before_usd
        group.compared_calls += 1
        group.before_usd = EXACT.add(group.before_usd, before_usd)
        group.after_usd = EXACT.add(group.after_usd, after_usd)
        return None
    if before_usd is None:
        group.newly_priced_calls += 1
        group.newly_priced_usd = EXACT.add(group.newly_priced_usd, after_usd)
    else:
        group.compared_calls += 1
        group.before_usd = EXACT.add(group.before_usd, before_usd)
        group.after_usd = EXACT.add(group.after_usd, after_usd)
        if before is not None and (is_stated or not _is_reproduced(call, before)):
            group.inexact_calls += 1
    return Rating(
        call.started_at,
        call.run_id,
        cost,
        quote.rates,
        None if quote.list_cost is None else quote.list_cost.total_usd,
        quote.cache_savings_usd,
        quote.cache_surcharge_usd,
        _ZERO if quote.margin is None else quote.margin.usd_on(after_usd),
    )


def _quote(call: StoredCall, prices: OtherPrices) -> Quote | None:
    """Return the quote at the other prices, None where they have no price or the usage is unknown."""
    if call.usage is None:
        return None
    at = call.started_at
    if prices.day is not None:
        at = datetime.combine(prices.day, at.timetz())
    context = _context(call)
    if prices.model and prices.provider != call.provider:
        # Another provider's prices know the tiers at most.
        context = tuple(pair for pair in context if pair[0] == "service_tier")
    try:
        return prices.book.quote(
            call.usage,
            provider=prices.provider or call.provider,
            model=prices.model or call.model,
            context=context,
            at=at,
            tenant_id=call.tenant_id,
        )
    except (UnknownModelError, UsageError):
        return None


def _context(call: StoredCall) -> Context:
    known = None if call.newest is None else next((r.context for r in call.ratings if r.context is not None), None)
    if known is not None:
        return tuple(sorted(known.items()))
    tier = call.labels["service_tier"]
    return () if tier in _STANDARD_TIERS else (("service_tier", str(tier)),)


def _is_reproduced(call: StoredCall, rating: StoredRating) -> bool:
    """Return whether the usage at the rating's prices gives its cost."""
    if call.usage is None or rating.contracted_cost is None:
        return False
    total = _ZERO
    for key, (count, per) in billed_counts(call.usage, rating.usd).items():
        total = EXACT.add(total, EXACT.divide(EXACT.multiply(rating.usd[key], Decimal(count)), Decimal(per)))
    return EXACT.subtract(total, rating.contracted_cost).copy_abs() <= _STEP


def _differs(before: StoredRating | None, after: Rating) -> bool:
    if before is None or before.contracted_cost is None:
        return True
    pairs = (
        (before.contracted_cost, after.cost.total_usd),
        (before.margin, after.margin_usd),
        (before.list_cost, after.list_usd),
    )
    return any(
        (old is None) != (new is None)
        or (old is not None and new is not None and EXACT.subtract(old, new).copy_abs() > _STEP)
        for old, new in pairs
    )


def _maker(sellers: tuple[str, ...]) -> str:
    """Return who makes a model, rather than one who resells it."""
    return next((name for name in sellers if name in ("openai", "anthropic", "google", "mistral", "x-ai")), sellers[0])
