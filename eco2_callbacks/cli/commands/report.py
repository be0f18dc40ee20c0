"""``eco2 report``: what calls cost in a period, by any of their dimensions."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from eco2_callbacks.cli.options import AsJson, LedgerUrl, hour_progress, open_ledger, wide_console
from eco2_callbacks.cli.reporters import (
    business_document,
    print_business,
    print_json,
    print_report,
    report_document,
    report_page,
    write_business_csv,
    write_csv,
    write_parquet,
)
from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.ledger import DIMENSIONS, BusinessReport, Period, Report, make_report, read_business

__all__ = ["report"]

_FORMATS = ("table", "csv", "json", "parquet", "html")
_BUSINESS_FORMATS = ("table", "csv", "json")


def report(
    by: Annotated[
        list[str],
        typer.Option("--by", metavar="DIMENSION", help=f"Some of {', '.join(DIMENSIONS)}; repeat it, or use commas."),
    ] = ["day"],  # noqa: B006  typer's way to state a default; it is never changed
    since: Annotated[
        str | None, typer.Option(help="A day, a time, or a duration back from now (7d); 30 days by default.")
    ] = None,
    until: Annotated[str | None, typer.Option(help="A day, which is included, or a time; now by default.")] = None,
    timezone: Annotated[str, typer.Option(help="The zone of days, weeks and months.")] = "UTC",
    ledger: LedgerUrl = "",
    format_: Annotated[str, typer.Option("--format", metavar="|".join(_FORMATS), help="How to show it.")] = "table",
    output: Annotated[
        Path | None, typer.Option("--output", "-o", metavar="FILE", help="Write to this file instead of the terminal.")
    ] = None,
    business: Annotated[
        bool, typer.Option("--business", help="Active users, questions by intent, cost per active user.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """What model calls consumed and cost in a period."""
    format_ = "json" if as_json else format_
    if format_ not in _FORMATS:
        raise ConfigError(f"--format is {format_!r}, wanted one of {', '.join(_FORMATS)}.")
    dimensions = [name.strip().replace("-", "_") for each in by for name in each.split(",") if name.strip()]
    period = Period.parse(since, until, timezone)
    if business and format_ not in _BUSINESS_FORMATS:
        raise ConfigError(f"--format is {format_!r}, wanted one of {', '.join(_BUSINESS_FORMATS)} with --business.")
    backend = open_ledger(ledger)
    try:
        if business:
            numbers = read_business(backend, period)
            _print_or_write(lambda: _print_business(numbers, format_), output)
            return
        with hour_progress("Summing up changed hours") as progress:
            made = make_report(backend, dimensions, period, progress=progress)
    finally:
        backend.close()
    _show(made, format_, output)


def _show(made: Report, format_: str, output: Path | None) -> None:
    if format_ in ("parquet", "html"):
        path = output or Path(f"eco2-report.{format_}")
        try:
            if format_ == "parquet":
                write_parquet(made, path)
            else:
                path.write_text(report_page(made), encoding="utf-8")
        except OSError as error:
            raise LedgerError(f"{str(path)!r} cannot be written: {error.strerror}; pass another --output.") from error
        sys.stderr.write(f"Written to {path}.\n")
        return
    _print_or_write(lambda: _print(made, format_), output)


def _print_or_write(show: Callable[[], None], output: Path | None) -> None:
    """Show on the terminal, or in a file."""
    if output is None:
        show()
        return
    try:
        with output.open("w", encoding="utf-8", newline="") as file:
            stdout, sys.stdout = sys.stdout, file
            try:
                show()
            finally:
                sys.stdout = stdout
    except OSError as error:
        raise LedgerError(f"{str(output)!r} cannot be written: {error.strerror}; pass another --output.") from error


def _print_business(numbers: BusinessReport, format_: str) -> None:
    if format_ == "json":
        print_json(business_document(numbers))
    elif format_ == "csv":
        write_business_csv(numbers, sys.stdout)
    else:
        print_business(numbers, wide_console())


def _print(made: Report, format_: str) -> None:
    if format_ == "json":
        print_json(report_document(made))
    elif format_ == "csv":
        write_csv(made, sys.stdout)
    else:
        print_report(made, Console(highlight=False))
