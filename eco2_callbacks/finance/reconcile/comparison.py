"""Comparison: where the ledger and another book differ, by day and model, and the likely cause."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal

from eco2_callbacks.finance.reconcile.books import AMOUNTS, Amounts, Book, Key

__all__ = ["CAUSES", "Comparison", "Difference", "compare_books"]

_ZERO = Decimal(0)
CAUSES = {
    "calls_past_the_handler": "calls that no handler saw: another application or key, or a client without the handler",
    "retries_inside_sdks": "requests that an SDK repeated and the provider billed",
    "price_change": "the same tokens at another price: a price change, a discount or a tax",
    "time_zone": "the same amounts on the day beside it: the books cut days in different time zones",
    "unpriced_calls": "calls that have no price in the ledger: add custom rates and run eco2 reprice --write",
    "estimates": "calls whose usage the ledger estimated: cancelled, failed, or without reported usage",
    "missing_there": "calls that the other book lacks",
}
_MISSING_THERE = {
    "prometheus": "counters lost at a crash, between two scrapes, or extrapolated",
    "langsmith": "runs that were sampled out, not sent, or have no cost there",
}
# Of two days, how much of the difference may be left when they are added up.
_SHIFTED_SHARE = Decimal("0.34")


@dataclass(frozen=True, slots=True)
class Difference:
    """One day and model that differ.

    Attributes:
        cause: One of ``CAUSES``: the likeliest.
        explanation: It, in words.
    """

    day: date
    model: str
    ledger: Amounts
    other: Amounts
    cause: str
    explanation: str


@dataclass(slots=True)
class Comparison:
    """The ledger against one other book.

    Attributes:
        compared: Number of days and models.
        differences: Those that differ by more than the tolerance.
        ledger: Sums of the ledger, over what the other book covers: its models, from its first day to its last.
        other: Sums of the other book.
        capture_usd: The share of the other book's dollars that the ledger has; None without dollars there.
        capture_tokens: The share of its tokens; None without tokens there.
    """

    name: str
    compared: int = 0
    differences: list[Difference] = field(default_factory=list)
    ledger: Amounts = field(default_factory=Amounts)
    other: Amounts = field(default_factory=Amounts)
    capture_usd: float | None = None
    capture_tokens: float | None = None


def compare_books(ledger: Book, other: Book, *, tolerance: Decimal = Decimal("0.005")) -> Comparison:
    """Return where two books differ by more than a share of the greater amount."""
    if any(not model for _, model in other.amounts):
        # The other book does not tell models apart, so neither can the comparison.
        ledger, other = ledger.by_day_alone(), other.by_day_alone()
    found = Comparison(other.name)
    keys = sorted({*ledger.amounts, *other.amounts})
    shifted = _shifted_models(ledger, other, keys, tolerance)
    for key in keys:
        mine, theirs = ledger.amounts.get(key, Amounts()), other.amounts.get(key, Amounts())
        found.compared += 1
        if _is_alike(mine, theirs, other, tolerance):
            continue
        cause = _cause(key, mine, theirs, ledger, other, shifted, tolerance)
        words = CAUSES[cause]
        if cause == "missing_there":
            words = _MISSING_THERE.get(
                other.name, "calls of another project or account, or an export that is not complete"
            )
        found.differences.append(Difference(*key, mine, theirs, cause, words))
    found.ledger, found.other = _covered_sums(ledger, other), _sum(other.amounts.values())
    if found.other.usd:
        found.capture_usd = float((found.ledger.usd or _ZERO) / found.other.usd)
    if tokens := _tokens(found.other):
        found.capture_tokens = (_tokens(found.ledger) or 0) / tokens
    return found


def _covered_sums(ledger: Book, other: Book) -> Amounts:
    """Return the sums of the ledger over the days and models for which the other book states the same amount."""
    found = Amounts()
    for name in AMOUNTS:
        stated = [key for key, amounts in other.amounts.items() if getattr(amounts, name) is not None]
        stated = stated or list(other.amounts)
        days, models = [day for day, _ in stated], {model for _, model in stated}
        covered = [
            amounts
            for (day, model), amounts in ledger.amounts.items()
            if model in models and min(days) <= day <= max(days)
        ]
        setattr(found, name, getattr(_sum(covered), name))
    return found


def _sum(amounts: Iterable[Amounts]) -> Amounts:
    found = Amounts()
    for each in amounts:
        found.add_all(each)
    return found


def _tokens(amounts: Amounts) -> int | None:
    if amounts.input_tokens is None and amounts.output_tokens is None:
        return None
    return (amounts.input_tokens or 0) + (amounts.output_tokens or 0)


def _is_near(mine: Decimal | int | None, theirs: Decimal | int | None, tolerance: Decimal) -> bool:
    first, second = Decimal(mine or 0), Decimal(theirs or 0)
    return abs(first - second) <= tolerance * max(abs(first), abs(second))


def _is_alike(mine: Amounts, theirs: Amounts, other: Book, tolerance: Decimal) -> bool:
    """Return whether the amounts that the other book states are the ledger's."""
    states = [name for name in AMOUNTS if any(getattr(amounts, name) is not None for amounts in other.amounts.values())]
    return all(_is_near(getattr(mine, name), getattr(theirs, name), tolerance) for name in states)


def _weight(amounts: Amounts, other: Book) -> Decimal:
    """Return one number that tells how much was consumed: dollars where the other book has them, else tokens."""
    if any(entry.usd is not None for entry in other.amounts.values()):
        return amounts.usd or _ZERO
    return Decimal(_tokens(amounts) or amounts.calls or 0)


def _shifted_models(ledger: Book, other: Book, keys: list[Key], tolerance: Decimal) -> set[str]:
    """Return the models whose days differ to and fro while their sum does not."""
    by_model: dict[str, list[Decimal]] = defaultdict(list)
    for key in keys:
        mine, theirs = (_weight(book.amounts.get(key, Amounts()), other) for book in (ledger, other))
        if not _is_near(mine, theirs, tolerance):
            by_model[key[1]].append(mine - theirs)
    shifted = set()
    for model, differences in by_model.items():
        left, moved = abs(sum(differences, _ZERO)), sum((abs(each) for each in differences), _ZERO)
        if min(differences) < 0 < max(differences) and left <= _SHIFTED_SHARE * moved:
            shifted.add(model)
    return shifted


def _cause(
    key: Key,
    mine: Amounts,
    theirs: Amounts,
    ledger: Book,
    other: Book,
    shifted: set[str],
    tolerance: Decimal,
) -> str:
    if key[1] in shifted:
        return "time_zone"
    my_tokens, their_tokens = _tokens(mine), _tokens(theirs)
    has_same_tokens = their_tokens is not None and _is_near(my_tokens, their_tokens, tolerance)
    missing_usd = Decimal(theirs.usd or 0) - Decimal(mine.usd or 0)
    if ledger.unpriced_calls.get(key) and missing_usd > 0 and (has_same_tokens or their_tokens is None):
        return "unpriced_calls"
    if has_same_tokens and mine.calls:
        return "price_change"
    if their_tokens is None and mine.usd and theirs.usd and _has_one_ratio(key[1], ledger, other):
        return "price_change"
    is_more_there = missing_usd > 0 if theirs.usd is not None else (their_tokens or 0) > (my_tokens or 0)
    if not is_more_there:
        estimated: Decimal = ledger.estimated_usd.get(key, _ZERO)
        return "estimates" if missing_usd < 0 <= estimated + missing_usd else "missing_there"
    if (retries := ledger.sdk_retries.get(key, 0)) and mine.calls:
        # Each repeated request costs about as much as a call.
        for here, there in ((mine.calls, theirs.calls), (my_tokens, their_tokens), (mine.usd, theirs.usd)):
            if here and there is not None:
                excess = Decimal(there) - Decimal(here)
                if excess <= Decimal(here) / mine.calls * retries * 2:
                    return "retries_inside_sdks"
                break
    return "calls_past_the_handler"


def _has_one_ratio(model: str, ledger: Book, other: Book) -> bool:
    """Return whether the other book's dollars are the same multiple of the ledger's on at least three days."""
    ratios = [
        theirs.usd / mine.usd
        for (day, name), theirs in other.amounts.items()
        if name == model and theirs.usd and (mine := ledger.amounts.get((day, name), Amounts())).usd
    ]
    return len(ratios) > 2 and max(ratios) <= min(ratios) * Decimal("1.02")
