"""``eco2 prices``: which rates hold for a model, where they come from, and how old they are."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console, JustifyMethod
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.errors import ConfigError, UnknownModelError
from eco2_callbacks.ledger import models_of
from eco2_callbacks.pricing import (
    Adjustment,
    Listing,
    PriceBook,
    UnusedRate,
    list_prices,
    public_models,
    sellers_of,
    unused_rates,
)
from eco2_callbacks.settings import ledger_of

__all__ = ["prices"]


def prices(
    model: Annotated[str, typer.Argument(help="A model, or provider/model; every model by default.")] = "",
    at: Annotated[str | None, typer.Option(metavar="DATE", help="The day (UTC) on which they hold; today.")] = None,
    rates: Annotated[
        Path | None, typer.Option("--prices", metavar="FILE", help="Custom rates; ECO2_PRICES by default.")
    ] = None,
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """The rates of a model, their source, the day they were checked and their age."""
    day = _day(at)
    moment = datetime(day.year, day.month, day.day, 12, tzinfo=UTC)
    named = rates or (Path(path) if (path := os.environ.get("ECO2_PRICES", "").strip()) else None)
    book = PriceBook() if named is None else PriceBook.from_toml(named)
    used: Iterable[tuple[str, str]] = ()
    if ledger or ledger_of(os.environ):
        backend = open_ledger(ledger)
        try:
            used = models_of(backend)
        finally:
            backend.close()
    found = _listings(book, model, moment, used)
    unused = unused_rates(book, at=moment, used=used)
    age_days = max(0, (datetime.now(UTC) - book.updated_at).days)
    if as_json:
        print_json(
            {
                "day": day.isoformat(),
                "version": book.version,
                "updated_at": book.updated_at.isoformat(),
                "age_days": age_days,
                "prices": [_document(listing) for listing in found],
                "unused_rates": [_unused(each) for each in unused],
            }
        )
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 180
    console.print(f"Price data {book.version}, current on {book.updated_at:%Y-%m-%d}, {age_days} days old", style="dim")
    console.print(_details(found, day) if model else _overview(found))
    for each in unused:
        shown = _unused(each)
        why = (
            f"starts on {each.rate.start}"
            if each.reason == "starts later"
            else "matches no public model and no call of the ledger; correct its provider and model"
        )
        console.print(
            Text(f"! Custom {shown['kind']} {shown['provider']}/{shown['model']} ({each.rate.source}): {why}", "yellow")
        )


def _listings(book: PriceBook, model: str, at: datetime, used: Iterable[tuple[str, str]]) -> list[Listing]:
    if not model:
        own = [(rate.provider, rate.model) for rate in book.custom_rates if "*" not in rate.provider + rate.model]
        names: Iterable[tuple[str, str]] = sorted({*public_models(), *own, *used})
        return [found for p, m in names if (found := list_prices(book, provider=p, model=m, at=at)) is not None]
    provider, _, name = model.partition("/")
    # A name can hold a slash itself, as in meta/llama-4.
    wanted = [(seller, model) for seller in sellers_of(book, model)]
    wanted += [(p, m) for p, m in used if m == model and (p, m) not in wanted]
    if name and not wanted:
        wanted = [(provider, name)]
    listed = [each for p, m in wanted if (each := list_prices(book, provider=p, model=m, at=at)) is not None]
    if not listed:
        raise UnknownModelError(provider if name else "", name or model, at.date().isoformat())
    return listed


def _day(text: str | None) -> date:
    if text is None:
        return datetime.now(UTC).date()
    try:
        return date.fromisoformat(text.strip())
    except ValueError as error:
        raise ConfigError(f"--at is {text!r}, wanted a day such as 2026-11-30.") from error


def _document(listing: Listing) -> dict[str, Any]:
    today = datetime.now(UTC).date()
    return {
        "provider": listing.provider,
        "model": listing.model,
        "is_custom": listing.is_custom,
        "rates": [
            {
                "key": key,
                "usd": _base(price),
                "tiers": [{"above_input_tokens": tier.start, "usd": tier.price} for tier in _tiers(price)],
                "source": "; ".join(listing.sources.get(key, ())),
                "checked_on": listing.checked_on[key].isoformat(),
                "age_days": (today - listing.checked_on[key]).days,
            }
            for key, price in listing.usd.items()
        ],
    }


def _unused(each: UnusedRate) -> dict[str, str]:
    rate = each.rate
    start = rate.start.isoformat()
    return {
        "kind": rate.kind if isinstance(rate, Adjustment) else "rate",
        "provider": rate.provider,
        "model": rate.model,
        "start": start,
        "source": rate.source,
        "reason": each.reason,
    }


def _base(price: Any) -> Decimal:
    found: Decimal = getattr(price, "base", price)
    return found


def _tiers(price: Any) -> Sequence[Any]:
    return getattr(price, "tiers", ())


def _details(found: Sequence[Listing], day: date) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("provider", "model", "rate", "USD", "source", "checked", "days ago"):
        # Only the source is broken into lines, anywhere: a part of a rate or of an address would be wrong.
        justify: JustifyMethod = "right" if name in ("USD", "days ago") else "left"
        table.add_column(name, justify=justify, no_wrap=name != "source", overflow="fold")
    for listing in found:
        for key, price in listing.usd.items():
            tiers = "".join(f", {tier.price:f} above {tier.start:,}" for tier in _tiers(price))
            table.add_row(
                Text(listing.provider),
                Text(listing.model),
                key,
                f"{_base(price):f}{tiers}",
                Text("; ".join(listing.sources.get(key, ()))),
                listing.checked_on[key].isoformat(),
                str((day - listing.checked_on[key]).days),
            )
    return table


def _overview(found: Sequence[Listing]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("provider")
    table.add_column("model")
    for name in ("input USD/M", "cached", "output"):
        table.add_column(name, justify="right")
    table.add_column("")
    for listing in found:
        cells = [listing.usd.get(key) for key in ("input_mtok", "cache_read_mtok", "output_mtok")]
        table.add_row(
            Text(listing.provider),
            Text(listing.model),
            *("" if price is None else f"{_base(price):f}" for price in cells),
            "custom" if listing.is_custom else "",
        )
    return table
