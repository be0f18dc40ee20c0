"""``eco2 reconcile``: the ledger against other books."""

from __future__ import annotations

from decimal import Decimal, InvalidOperation
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
    share_progress,
    wide_console,
)
from eco2_callbacks.cli.reporters import plain, print_json, usd
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.finance import Amounts, Comparison, Sources, compare_books, ledger_book, read_books
from eco2_callbacks.ledger import Period

__all__ = ["reconcile"]

_MAX_ROWS = 50


def _file(help_: str) -> Any:
    return typer.Option(metavar="FILE", help=help_, show_default=False)


def reconcile(
    prometheus: Annotated[str, typer.Option(metavar="URL", help="A Prometheus server.", show_default=False)] = "",
    langsmith: Annotated[list[Path] | None, _file("LangSmith's runs: JSON, JSON lines, CSV or Parquet.")] = None,
    openai: Annotated[list[Path] | None, _file("OpenAI's costs or usage: JSON of the API, or CSV.")] = None,
    anthropic: Annotated[list[Path] | None, _file("Anthropic's usage or cost report: JSON of the API.")] = None,
    google: Annotated[list[Path] | None, _file("Google's billing export: JSON lines or CSV.")] = None,
    since: Since = None,
    until: Until = None,
    timezone: TimeZone = "UTC",
    tolerance: Annotated[str, typer.Option(metavar="SHARE", help="What may differ, such as 0.005.")] = "0.005",
    ignore_columns: Annotated[
        list[str] | None, typer.Option(metavar="NAMES", help="Columns of the files that change no amount.")
    ] = None,
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """Where the ledger and other books differ, by day and model, with the likely cause and the capture rate."""
    files = {"langsmith": langsmith, "openai": openai, "anthropic": anthropic, "google": google}
    sources = Sources(
        prometheus,
        {name: tuple(paths) for name, paths in files.items() if paths},
        tuple(name.strip() for each in ignore_columns or () for name in each.split(",")),
    )
    # Books are compared day by day: a part of a day would be compared with a whole one.
    period, share = Period.parse(since, until, timezone).whole_days(), _share(tolerance)
    backend = open_ledger(ledger)
    found = []
    try:
        for book in read_books(sources, period):
            with share_progress(f"Reading calls for {book.name}") as progress:
                mine = ledger_book(backend, period, book, on_progress=progress)
            found.append(compare_books(mine, book, tolerance=share))
    finally:
        backend.close()
    if as_json:
        print_json(
            {
                "since": period.since.isoformat(),
                "until": period.until.isoformat(),
                "timezone": timezone,
                "tolerance": share,
                "books": [_document(each) for each in found],
            }
        )
        return
    console = wide_console()
    for each in found:
        _print(each, console)


def _share(text: str) -> Decimal:
    try:
        found = Decimal(text)
    except InvalidOperation:
        found = Decimal(-1)
    if not found.is_finite() or not 0 <= found < 1:
        raise ConfigError(f"--tolerance is {text!r}, wanted a share from 0 to 1 such as 0.005.")
    return found


def _document(found: Comparison) -> dict[str, Any]:
    return {
        "book": found.name,
        "compared": found.compared,
        "capture_rate_usd": found.capture_usd,
        "capture_rate_tokens": found.capture_tokens,
        "ledger": _amounts(found.ledger),
        "other": _amounts(found.other),
        "differences": [
            {
                "day": each.day.isoformat(),
                "model": each.model or None,
                "ledger": _amounts(each.ledger),
                "other": _amounts(each.other),
                "cause": each.cause,
                "explanation": each.explanation,
            }
            for each in found.differences
        ],
    }


def _amounts(amounts: Amounts) -> dict[str, Any]:
    return {
        "calls": amounts.calls,
        "input_tokens": amounts.input_tokens,
        "output_tokens": amounts.output_tokens,
        "usd": None if amounts.usd is None else plain(amounts.usd),
    }


def _print(found: Comparison, console: Console) -> None:
    rates = [
        f"{share:.2%} of its {what}"
        for share, what in ((found.capture_usd, "dollars"), (found.capture_tokens, "tokens"))
        if share is not None
    ]
    console.print(Text.assemble((f"{found.name} ", "bold"), f"the ledger has {' and '.join(rates) or 'nothing of it'}"))
    if not found.differences:
        console.print(Text(f"  no difference in {found.compared} days and models\n", style="green"))
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    for name in ("day", "model", "ledger USD", f"{found.name} USD", "ledger tokens", "tokens", "likely cause"):
        is_figure = "USD" in name or "tokens" in name
        table.add_column(name, justify="right" if is_figure else "left", no_wrap=is_figure or name == "day")
    for each in found.differences[:_MAX_ROWS]:
        table.add_row(
            str(each.day),
            Text(each.model or "all"),
            *("" if amounts.usd is None else usd(amounts.usd) for amounts in (each.ledger, each.other)),
            *(_tokens(amounts) for amounts in (each.ledger, each.other)),
            Text(each.explanation),
        )
    console.print(table)
    if (hidden := len(found.differences) - _MAX_ROWS) > 0:
        console.print(Text(f"{hidden:,} more differences; --json shows all.", style="dim"))
    console.print()


def _tokens(amounts: Amounts) -> str:
    if amounts.input_tokens is None and amounts.output_tokens is None:
        return ""
    return f"{(amounts.input_tokens or 0) + (amounts.output_tokens or 0):,}"
