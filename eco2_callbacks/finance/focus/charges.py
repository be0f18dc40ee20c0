"""The charges of a period: usage rows, and corrections of earlier billing periods."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from eco2_callbacks.finance.focus.parts import CallPart, parts_of
from eco2_callbacks.ledger import Backend, Period, StoredCall, StoredRating, read_calls, rerated_days
from eco2_callbacks.pricing import EXACT

__all__ = ["Charge", "ChargeKey", "Charges", "read_charges"]

_DAY = timedelta(days=1)
_OWN_SECONDS = 1.0
_ZERO = Decimal(0)


class ChargeKey(NamedTuple):
    """What the calls of one charge have in common.

    Attributes:
        billing_month: First moment of the billing period, in UTC.
        start: First moment of the charge period.
        end: The moment after it.
        is_correction: Whether it corrects an earlier billing period.
        meter: The price key.
        list_price: Public price; None for the correction of a price.
        price: Contracted price; likewise.
        context: Tier, region and what else chose the price, as sorted pairs.
        run_id: The call's run id, where each call is a charge of its own.
    """

    billing_month: datetime
    start: datetime
    end: datetime
    is_correction: bool
    tenant_id: str
    provider: str
    model: str
    meter: str
    list_price: Decimal | None
    price: Decimal | None
    context: tuple[tuple[str, str], ...]
    agent_name: str
    feature: str
    prompt_version: str
    run_id: str


@dataclass(slots=True)
class Charge:
    """Sums of one charge; ``count`` is None for the correction of a price."""

    count: int | None = 0
    list_usd: Decimal = _ZERO
    usd: Decimal = _ZERO
    margin_usd: Decimal = _ZERO
    estimated_usd: Decimal = _ZERO

    def add(self, part: CallPart, *, sign: int = 1, counts: bool = True) -> None:
        """Add a part of a call, or take it away."""
        if not counts:
            self.count = None
        elif self.count is not None:
            self.count += sign * part.units
        self.list_usd = EXACT.add(self.list_usd, sign * part.list_usd)
        self.usd = EXACT.add(self.usd, sign * part.usd)
        self.margin_usd = EXACT.add(self.margin_usd, sign * part.margin_usd)
        self.estimated_usd = EXACT.add(self.estimated_usd, sign * part.estimated_usd)


@dataclass(slots=True)
class Charges:
    """Charges of a period, or of a part of it.

    Attributes:
        by_key: The charges.
        calls: Number of calls.
        unpriced_calls: Those that have no price, or lack that of a unit: their dollars are unknown, and not zero.
    """

    by_key: dict[ChargeKey, Charge] = field(default_factory=dict)
    calls: int = 0
    unpriced_calls: int = 0


def read_charges(
    backend: Backend, period: Period, *, per_call: bool = False, on_progress: Callable[[float], None] | None = None
) -> Iterator[Charges]:
    """Yield the charges of a period: daily sums at the end, all at once; those of each call part by part.

    A call is charged in the month (UTC) it started in, by the newest rating of that month. A rating of a later month
    is a correction, charged in that month for the call's day.

    Raises:
        LedgerError: If there is no ledger.
    """
    since, until = period.since.astimezone(UTC), period.until.astimezone(UTC)
    found = Charges()
    for share, calls in read_calls(backend, since, until):
        for call in calls:
            if call.labels["from_cache"]:
                continue
            found.calls += 1
            rating = _effective(call, _next_month(call.started_at))
            found.unpriced_calls += call.is_unpriced(rating)
            for part in parts_of(call, rating):
                key = _key(call, part, rating, _month(call.started_at), per_call=per_call)
                found.by_key.setdefault(key, Charge()).add(part)
        if on_progress is not None:
            on_progress(share)
        if per_call:
            yield found
            found = Charges()
    for calls in _rerated_calls(backend, since, until):
        for call in calls:
            for low, high in _months(max(since, _next_month(call.started_at)), until):
                _add_correction(found, call, _effective(call, low), _effective(call, high), low, per_call=per_call)
        if per_call:
            yield found
            found = Charges()
    yield found


def _rerated_calls(backend: Backend, since: datetime, until: datetime) -> Iterator[list[StoredCall]]:
    """Yield the calls of earlier months that were rated in a period, some at once."""
    for day in rerated_days(backend, since, until, before=_month(until - timedelta(microseconds=1))):
        for _, calls in read_calls(backend, day, day + _DAY):
            yield [
                call
                for call in calls
                if not call.labels["from_cache"] and any(since <= rating.computed_at < until for rating in call.ratings)
            ]


def _add_correction(
    found: Charges,
    call: StoredCall,
    before: StoredRating | None,
    after: StoredRating | None,
    at: datetime,
    *,
    per_call: bool,
) -> None:
    if before is after:
        return
    month = _month(at)
    old, new = ({part.key: part for part in parts_of(call, rating)} for rating in (before, after))
    if not old:
        # The call had no price: all of it is charged late.
        for part in new.values():
            key = _key(call, part, after, month, per_call=per_call, is_correction=True)
            found.by_key.setdefault(key, Charge()).add(part)
        return
    for meter in dict.fromkeys((*old, *new)):
        signed = [(part, sign) for part, sign in ((new.get(meter), 1), (old.get(meter), -1)) if part is not None]
        key = _key(call, signed[0][0], before, month, per_call=per_call, is_correction=True, has_price=False)
        charge = found.by_key.setdefault(key, Charge())
        for part, sign in signed:
            charge.add(part, sign=sign, counts=False)
        if not (charge.usd or charge.list_usd or charge.margin_usd):
            del found.by_key[key]


def _effective(call: StoredCall, before: datetime) -> StoredRating | None:
    """Return the rating that holds before a moment; the call's own one holds from its start."""
    found = None
    for number, rating in enumerate(call.ratings):
        seconds = (rating.computed_at - call.started_at).total_seconds()
        is_own = number == 0 and seconds <= call.labels["duration_seconds"] + _OWN_SECONDS
        if is_own or rating.computed_at < before:
            found = rating
    return found


def _key(
    call: StoredCall,
    part: CallPart,
    rating: StoredRating | None,
    month: datetime,
    *,
    per_call: bool,
    is_correction: bool = False,
    has_price: bool = True,
) -> ChargeKey:
    labels = call.labels
    # Of the rating that is charged, or corrected: a later one names no charge of an earlier month anew.
    context = None if rating is None else rating.context
    start, end = _day(call.started_at), _day(call.started_at) + _DAY
    if per_call:
        start = call.started_at.replace(microsecond=0)
        end = start + timedelta(seconds=max(1, round(labels["duration_seconds"])))
    return ChargeKey(
        month,
        start,
        end,
        is_correction,
        call.tenant_id,
        call.provider,
        call.model,
        part.key,
        part.list_price if has_price and part.key else None,
        part.price if has_price and part.key else None,
        tuple(sorted((context or {}).items())),
        labels["agent_name"] or "",
        labels["feature"] or "",
        labels["prompt_version"] or "",
        call.run_id if per_call else "",
    )


def _day(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(hour=0, minute=0, second=0, microsecond=0)


def _month(at: datetime) -> datetime:
    return _day(at).replace(day=1)


def _next_month(at: datetime) -> datetime:
    return _month(_month(at) + timedelta(days=32))


def _months(since: datetime, until: datetime) -> Iterable[tuple[datetime, datetime]]:
    """Yield the parts of a period by month."""
    while since < until:
        end = min(_next_month(since), until)
        yield since, end
        since = end
