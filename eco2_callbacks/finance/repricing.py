"""Repricing: what the calls of a period would have cost at other prices, and new ratings for them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal

from msgspec.structs import replace

from eco2_callbacks.errors import LedgerError
from eco2_callbacks.finance.other_prices import OtherPrices
from eco2_callbacks.ledger import Backend, Period, Rating, StoredCall, StoredRating, append_ratings, read_calls
from eco2_callbacks.pricing import EXACT, Adjustment, Cost, Quote, billed_counts

__all__ = ["RepricedGroup", "Repricing", "reprice"]

_ZERO = Decimal(0)
_STEP = Decimal("1e-12")
_RATINGS_AT_ONCE = 2000


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
        partly_priced_calls: Of both, those whose cost leaves out a unit or a tier that has no rate there.
        unpriced_calls: Calls without a price at the other prices, or without usage, and calls that are wholly priced
            now and would only partly be there.
        unpriced_usd: What these cost by their present ratings.
        inexact_calls: Compared calls whose present cost is not their usage times one price list: several models or
            samplings in one call, or a cost that the provider stated.
        estimated_usd: What of ``after_usd`` and ``newly_priced_usd`` rests on an estimate of the usage.
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
    partly_priced_calls: int = 0
    unpriced_calls: int = 0
    unpriced_usd: Decimal = _ZERO
    inexact_calls: int = 0
    estimated_usd: Decimal = _ZERO

    @property
    def change_usd(self) -> Decimal:
        """After minus before, of the compared calls."""
        return EXACT.subtract(self.after_usd, self.before_usd)

    @property
    def priced_usd(self) -> Decimal:
        """What all calls with a price cost at the other prices."""
        return EXACT.add(self.after_usd, self.newly_priced_usd)

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
            priced_before = group.priced_usd
            rating = _reprice(call, prices, group)
            if call.labels["estimated"]:
                added_usd = EXACT.subtract(group.priced_usd, priced_before)
                group.estimated_usd = EXACT.add(group.estimated_usd, added_usd)
            if writes and rating is not None and _differs(call, rating):
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
    quote = prices.quote(call)
    kept = _kept_rating(call, quote, prices)
    is_whole = before_usd is not None and not call.is_unpriced(before)
    if kept is not None:
        margin = prices.margin(call) if quote is None else quote.margin
        rating = _rating_again(call, kept, margin, quote)
    elif quote is not None and not (quote.unpriced and is_whole):
        rating = _rating_of(call, quote)
    else:
        # A part of the usage would look like all of it.
        group.unpriced_calls += 1
        group.unpriced_usd = EXACT.add(group.unpriced_usd, before_usd or _ZERO)
        return None
    after_usd = rating.cost.total_usd
    group.partly_priced_calls += rating.is_unpriced
    if before_usd is None:
        group.newly_priced_calls += 1
        group.newly_priced_usd = EXACT.add(group.newly_priced_usd, after_usd)
    else:
        group.compared_calls += 1
        group.before_usd = EXACT.add(group.before_usd, before_usd)
        group.after_usd = EXACT.add(group.after_usd, after_usd)
        is_stated = call.labels["cost_source"] == "provider"
        if before is not None and kept is None and (is_stated or not _is_reproduced(call, before)):
            group.inexact_calls += 1
    return rating


def _kept_rating(call: StoredCall, quote: Quote | None, prices: OtherPrices) -> StoredRating | None:
    """Return the call's own rating where its cost holds at the other prices too; None where the quote does.

    Neither a price list nor a discount changes what the provider said it charged. The usage of a call of several models
    is their sum: at the prices that were used it costs what it did.
    """
    own = call.own
    if own is None or own.contracted_cost is None or prices.model or prices.day is not None:
        return None
    if call.labels["cost_source"] == "provider":
        return None if quote is not None and quote.has_custom_rate else own
    return own if own.other_models and prices.has_prices_of(call, own) else None


def _rating_of(call: StoredCall, quote: Quote) -> Rating:
    return Rating(
        call.started_at,
        call.run_id,
        quote.cost,
        quote.rates,
        None if quote.list_cost is None else quote.list_cost.total_usd,
        quote.cache_savings_usd,
        quote.cache_surcharge_usd,
        _ZERO if quote.margin is None else quote.margin.usd_on(quote.cost.total_usd),
        bool(quote.unpriced),
    )


def _rating_again(call: StoredCall, kept: StoredRating, margin: Adjustment | None, quote: Quote | None) -> Rating:
    """Return a rating with the same prices and cost, and another margin on it."""
    usd, rates = kept.contracted_cost or _ZERO, None if quote is None else quote.rates
    return Rating(
        call.started_at,
        call.run_id,
        Cost(output_usd=usd, parts={"unsplit": usd} if usd else {}),
        None if rates is None else replace(rates, usd=kept.usd, list_usd=kept.list_usd),
        kept.list_cost,
        kept.cache_savings,
        kept.cache_surcharge,
        _ZERO if margin is None else margin.usd_on(usd),
        call.is_unpriced(kept),
    )


def _is_reproduced(call: StoredCall, rating: StoredRating) -> bool:
    """Return whether the usage at the rating's prices gives its cost."""
    if call.usage is None or rating.contracted_cost is None:
        return False
    total = _ZERO
    for key, (count, per) in billed_counts(call.usage, rating.usd).items():
        total = EXACT.add(total, EXACT.divide(EXACT.multiply(rating.usd[key], Decimal(count)), Decimal(per)))
    return EXACT.subtract(total, rating.contracted_cost).copy_abs() <= _STEP


def _differs(call: StoredCall, after: Rating) -> bool:
    before = call.newest
    if before is None or before.contracted_cost is None or call.is_unpriced(before) != after.is_unpriced:
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
