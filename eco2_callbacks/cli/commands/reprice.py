"""``eco2 reprice``: what the same calls cost at other prices."""

from __future__ import annotations

import sys
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.options import (
    AsJson,
    LedgerUrl,
    Since,
    TimeZone,
    Until,
    open_ledger,
    price_book,
    share_progress,
    wide_console,
)
from eco2_callbacks.cli.reporters import estimate_remark, marked_usd, plain, print_json, usd
from eco2_callbacks.finance import OtherPrices, RepricedGroup, Repricing
from eco2_callbacks.finance import reprice as price_again
from eco2_callbacks.ledger import Period

__all__ = ["reprice"]

_MAX_ROWS = 50


def reprice(
    rates: Annotated[
        Path | None,
        typer.Option("--rates", metavar="FILE", help="Custom rates, discounts and margins; ECO2_PRICES by default."),
    ] = None,
    model: Annotated[str, typer.Option(metavar="NAME", help="A model, or provider/model, for every call.")] = "",
    date: Annotated[
        str | None, typer.Option(metavar="DATE", help="The prices of this day (UTC); each call's own day.")
    ] = None,
    since: Since = None,
    until: Until = None,
    timezone: TimeZone = "UTC",
    write: Annotated[
        bool, typer.Option("--write", help="Append the new ratings: reports use them from now on.")
    ] = False,
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """What the calls of a period would have cost at other prices, by model and tenant."""
    prices = OtherPrices.parse(price_book(rates), model=model, day=date)
    period = Period.parse(since, until, timezone)
    backend = open_ledger(ledger)
    try:
        with share_progress("Pricing calls") as progress:
            found = price_again(backend, period, prices, writes=write, on_progress=progress)
    finally:
        backend.close()
    if write and model:
        sys.stderr.write(
            f"Reports now show these calls at the price of {model}; 'eco2 reprice --write' for the same period takes "
            "that back.\n"
        )
    if as_json:
        print_json(_document(found))
    else:
        _print(found, wide_console())


def _document(found: Repricing) -> dict[str, Any]:
    return {
        "since": found.period.since.isoformat(),
        "until": found.period.until.isoformat(),
        "model": found.prices.model or None,
        "date": None if found.prices.day is None else found.prices.day.isoformat(),
        "price_version": found.price_version,
        "currency": "USD",
        "groups": [
            {"tenant": group.tenant_id, "provider": group.provider, "model": group.model, **_figures(group)}
            for group in found.groups
        ],
        "total": _figures(found.total),
        "written_ratings": found.written_ratings,
        "skipped_ratings": found.skipped_ratings,
    }


def _figures(group: RepricedGroup) -> dict[str, Any]:
    names = [name for name in RepricedGroup.__slots__ if name not in ("tenant_id", "provider", "model")]
    values = {name: getattr(group, name) for name in names}
    values["change_usd"] = group.change_usd
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in values.items()}


def _print(found: Repricing, console: Console) -> None:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, show_footer=True)
    table.add_column("tenant", footer="total", footer_style="bold", max_width=40)
    table.add_column("model", max_width=40)
    total = found.total
    for name, cell in zip(("calls", "USD", "USD then", "change", ""), _cells(total), strict=True):
        table.add_column(name, footer=cell, justify="right", footer_style="bold", no_wrap=True)
    for group in found.groups[:_MAX_ROWS]:
        table.add_row(Text(group.tenant_id or "(none)"), Text(f"{group.provider}/{group.model}"), *_cells(group))
    console.print(table)
    if (hidden := len(found.groups) - _MAX_ROWS) > 0:
        console.print(Text(f"{hidden:,} more groups; --json shows all.", style="dim"))
    for count, text in (
        (total.newly_priced_calls, f"calls had no price before; they cost {usd(total.newly_priced_usd)} USD"),
        (total.partly_priced_calls, "calls have a cost that leaves out a unit without a price there"),
        (
            total.unpriced_calls,
            f"calls have no price there, or lack that of a unit, and are left out, with {usd(total.unpriced_usd)} USD",
        ),
        (total.inexact_calls, "calls have a cost that is not their usage times one price list"),
    ):
        if count:
            console.print(Text(f"{count:,} {text}.", style="dim"))
    if total.estimated_usd:
        console.print(Text(f"{estimate_remark(total.estimated_usd)}.", style="dim"))
    if found.written_ratings:
        console.print(Text(f"{found.written_ratings:,} ratings appended."))
    if found.skipped_ratings:
        console.print(
            Text(
                f"{found.skipped_ratings:,} ratings left out: their calls have a rating that is as new, or of a "
                "machine whose clock is fast. Run it again later."
            )
        )


def _cells(group: RepricedGroup) -> tuple[str, ...]:
    share = f"{group.change_usd / group.before_usd:+.1%}" if group.before_usd else ""
    change = f"{'+' if group.change_usd > 0 else ''}{usd(group.change_usd)}"
    before, after = (
        marked_usd(amount, estimated_usd=group.estimated_usd) for amount in (group.before_usd, group.after_usd)
    )
    return f"{group.compared_calls:,}", before, after, change, share
