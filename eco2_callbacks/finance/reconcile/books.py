"""Books: what one source says was consumed and paid, by day and model."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime
from decimal import Decimal
from typing import Literal
from zoneinfo import ZoneInfo

from eco2_callbacks.finance.focus.parts import parts_of
from eco2_callbacks.ledger import Backend, Period, read_calls
from eco2_callbacks.pricing import EXACT

__all__ = ["AMOUNTS", "Amounts", "Book", "Key", "base_model", "ledger_book", "local_day"]

AMOUNTS = ("calls", "input_tokens", "output_tokens", "usd")
_ZERO = Decimal(0)
# Dates, versions and stages at the end of a model's name, and paths before it.
_SUFFIX = re.compile(
    r"(?:[-@](?:20\d{2}-?\d{2}-?\d{2}|latest|preview(?:-\d{2}-20\d{2}|-\d{2}-\d{2})?|exp|\d{3}))+$", re.IGNORECASE
)
# The fees of tools by price key, and the line that a bill has for each.
_FEES = {
    "web_searches_kcount": "(web search)",
    "web_fetches_kcount": "(web fetch)",
    "storage_searches_kcount": "(file search)",
    "code_interpreter_each": "(code interpreter)",
    "code_executions_kcount": "(code execution)",
}
# A day, and a model without its date; "" for all models of a source that does not tell them apart.
Key = tuple[date, str]


@dataclass(slots=True)
class Amounts:
    """Sums of one day and model; None where the source does not say.

    Attributes:
        usd: Dollars, exact as the source states them.
    """

    calls: int | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    usd: Decimal | None = None

    def add(
        self,
        *,
        calls: int | None = None,
        input_tokens: int | None = None,
        output_tokens: int | None = None,
        usd: Decimal | None = None,
    ) -> None:
        """Add amounts that are known."""
        if calls is not None:
            self.calls = (self.calls or 0) + calls
        if input_tokens is not None:
            self.input_tokens = (self.input_tokens or 0) + input_tokens
        if output_tokens is not None:
            self.output_tokens = (self.output_tokens or 0) + output_tokens
        if usd is not None:
            self.usd = EXACT.add(self.usd or _ZERO, usd)

    def add_all(self, other: Amounts) -> None:
        """Add the amounts of another day or model."""
        self.add(calls=other.calls, input_tokens=other.input_tokens, output_tokens=other.output_tokens, usd=other.usd)


@dataclass(slots=True)
class Book:
    """One source.

    Attributes:
        name: ``ledger``, ``prometheus``, ``langsmith``, ``openai``, ``anthropic`` or ``google``.
        amounts: By day and model.
        providers: The names of the ledger's providers that this source bills; empty for all.
        is_bill: Whether the source is the provider's own.
        counts_cached: What of an answer from LangChain's cache is in it: the ``call``, its ``tokens`` too, or nothing.
        sdk_retries: Retries inside SDKs by key, where they are counted.
        estimated_usd: Dollars that rest on an estimate.
        unpriced_calls: Calls without a price.
    """

    name: str
    amounts: dict[Key, Amounts] = field(default_factory=dict)
    providers: tuple[str, ...] = ()
    is_bill: bool = False
    counts_cached: Literal["", "call", "tokens"] = ""
    sdk_retries: dict[Key, int] = field(default_factory=dict)
    estimated_usd: dict[Key, Decimal] = field(default_factory=dict)
    unpriced_calls: dict[Key, int] = field(default_factory=dict)

    def at(self, day: date, model: str) -> Amounts:
        """Return the amounts of a day and model, to add to."""
        return self.amounts.setdefault((day, base_model(model)), Amounts())

    def by_day_alone(self) -> Book:
        """Return the same book without models."""
        merged = Book(self.name, providers=self.providers, is_bill=self.is_bill, counts_cached=self.counts_cached)
        for (day, _), amounts in self.amounts.items():
            merged.at(day, "").add_all(amounts)
        for mine, theirs in (
            (merged.sdk_retries, self.sdk_retries),
            (merged.unpriced_calls, self.unpriced_calls),
        ):
            for (day, _), count in theirs.items():
                mine[day, ""] = mine.get((day, ""), 0) + count
        for (day, _), usd in self.estimated_usd.items():
            merged.estimated_usd[day, ""] = merged.estimated_usd.get((day, ""), _ZERO) + usd
        return merged


def base_model(model: str) -> str:
    """Return a model's name without path, date and stage, in lower case, as books write it differently."""
    name = model.strip().lower().rpartition("/")[2]
    return _SUFFIX.sub("", name) or name


def ledger_book(
    backend: Backend,
    period: Period,
    other: Book,
    *,
    on_progress: Callable[[float], None] | None = None,
) -> Book:
    """Return the ledger's book of a period, as another book counts: of its providers, with the lines that it has.

    Raises:
        LedgerError: If there is no ledger.
    """
    book, zone = Book("ledger", providers=other.providers), ZoneInfo(period.timezone)
    fees = {key: line for key, line in _FEES.items() if any(model == line for _, model in other.amounts)}
    for share, calls in read_calls(backend, period.since, period.until):
        for call in calls:
            is_cached = bool(call.labels["from_cache"])
            if (is_cached and not other.counts_cached) or (
                other.providers and call.provider.lower() not in other.providers
            ):
                continue
            key = local_day(call.started_at, zone), base_model(call.model)
            rating, usage = call.newest, None if is_cached and other.counts_cached == "call" else call.usage
            usd = None if rating is None else rating.contracted_cost
            book.amounts.setdefault(key, Amounts()).add(
                calls=1,
                input_tokens=0 if usage is None else usage.input_tokens,
                output_tokens=0 if usage is None else usage.output_tokens,
                usd=usd or _ZERO,
            )
            if fees:
                _move_fees(book, key, [(fees.get(part.key), part.usd) for part in parts_of(call, rating)])
            if retries := int(call.labels["sdk_retries"] or 0) + int(call.labels["retry"] == "sdk"):
                book.sdk_retries[key] = book.sdk_retries.get(key, 0) + retries
            if call.labels["estimated"] and usd:
                book.estimated_usd[key] = book.estimated_usd.get(key, _ZERO) + usd
            if call.labels["unpriced_reason"] is not None and usd is None:
                book.unpriced_calls[key] = book.unpriced_calls.get(key, 0) + 1
        if on_progress is not None:
            on_progress(share)
    return book


def _move_fees(book: Book, key: Key, parts: list[tuple[str | None, Decimal]]) -> None:
    """Take what a call's tools cost from its model to the lines that the other book has for them."""
    for line, usd in parts:
        if line is not None:
            book.amounts[key].add(usd=EXACT.minus(usd))
            book.at(key[0], line).add(usd=usd)


def local_day(at: datetime, zone: ZoneInfo) -> date:
    """Return the day of a time in a zone."""
    return at.astimezone(zone).date()
