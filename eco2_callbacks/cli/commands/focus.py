"""``eco2 focus``: the ledger as a FOCUS 1.2 file."""

from __future__ import annotations

import re
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Annotated

import typer

from eco2_callbacks.cli.options import AsJson, LedgerUrl, Since, Until, open_ledger, share_progress
from eco2_callbacks.cli.reporters import plain, print_json
from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.finance import (
    FOCUS_COLUMNS,
    Account,
    focus_rows,
    read_charges,
    read_focus,
    validate_focus,
    write_focus_csv,
    write_focus_parquet,
)
from eco2_callbacks.ledger import Period
from eco2_callbacks.pricing import ExchangeRates

__all__ = ["focus"]

_MAX_SHOWN = 20
_COSTS = ("ListCost", "ContractedCost", "EffectiveCost", "BilledCost")


def focus(
    month: Annotated[
        str | None, typer.Option(metavar="MONTH", help="A billing month such as 2026-11; else --since and --until.")
    ] = None,
    since: Since = None,
    until: Until = None,
    per_call: Annotated[bool, typer.Option("--per-call", help="A row for each part of each call; daily sums.")] = False,
    currency: Annotated[str, typer.Option(metavar="CODE", help="The currency of the bill.")] = "USD",
    exchange_rates: Annotated[
        Path | None, typer.Option(metavar="FILE", help="CSV with date,currency,usd_per_unit.", show_default=False)
    ] = None,
    billing_account: Annotated[str, typer.Option(metavar="ID", help="The account that is billed.")] = "default",
    billing_account_name: Annotated[str, typer.Option(metavar="NAME", help="Its name.", show_default=False)] = "",
    invoice_issuer: Annotated[
        str, typer.Option(metavar="NAME", help="Who issues the invoice; the provider by default.", show_default=False)
    ] = "",
    format_: Annotated[str, typer.Option("--format", metavar="FORMAT", help="csv or parquet.")] = "csv",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="FILE", help="A file; else CSV goes to the terminal."),
    ] = None,
    check: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Check a FOCUS file instead of writing one.", show_default=False)
    ] = None,
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> int:
    """The ledger's calls as charges of FOCUS 1.2, with corrections of earlier months."""
    if check is not None:
        return _check(check, as_json=as_json)
    if format_ not in ("csv", "parquet"):
        raise ConfigError(f"--format is {format_!r}, wanted csv or parquet.")
    rates = None if exchange_rates is None else ExchangeRates.from_csv(exchange_rates)
    account = Account(billing_account, billing_account_name, invoice_issuer, currency, rates)
    period = _month(month) if month is not None else Period.parse(since, until, "UTC")
    backend = open_ledger(ledger)
    try:
        with share_progress("Reading calls") as progress:
            charges = read_charges(backend, period, per_call=per_call, on_progress=progress)
    finally:
        backend.close()
    if not charges.by_key:
        raise LedgerError(
            f"The ledger {backend.shown_url} has no charges from {period.since.isoformat(timespec='seconds')} to "
            f"{period.until.isoformat(timespec='seconds')}. Choose --month, or --since and --until, to match."
        )
    rows = list(focus_rows(charges, account))
    if broken := next(iter(validate_focus(FOCUS_COLUMNS, rows)), None):
        raise LedgerError(f"The rows break a rule of FOCUS ({broken}); please report this.")
    path = output or (Path("eco2-focus.parquet") if format_ == "parquet" else None)
    if path is not None:
        _write(path, rows, format_)
    elif not as_json:
        write_focus_csv(FOCUS_COLUMNS, rows, sys.stdout)
    if as_json:
        totals = {name: plain(sum((Decimal(row[name] or 0) for row in rows), Decimal(0))) for name in _COSTS}
        shown = {"file": str(path)} if path is not None else {"charges": rows}
        print_json(
            {
                "since": period.since.isoformat(),
                "until": period.until.isoformat(),
                "currency": currency,
                "rows": len(rows),
                "calls": charges.calls,
                "unpriced_calls": charges.unpriced_calls,
                "totals": totals,
                **shown,
            }
        )
    if charges.unpriced_calls:
        sys.stderr.write(
            f"{charges.unpriced_calls:,} calls have no price, or lack that of a unit, and are left out as far as it is "
            "missing; see eco2 prices and eco2 reprice.\n"
        )
    return 0


def _check(path: Path, *, as_json: bool) -> int:
    columns, rows = read_focus(path)
    broken = list(validate_focus(columns, rows))
    if as_json:
        print_json({"file": str(path), "rows": len(rows), "violations": [each._asdict() for each in broken]})
        return int(bool(broken))
    for each in islice(broken, _MAX_SHOWN):
        sys.stdout.write(f"{each}\n")
    more = f", {len(broken) - _MAX_SHOWN:,} more than shown" if len(broken) > _MAX_SHOWN else ""
    sys.stdout.write(f"{path}: {len(rows):,} rows, {len(broken):,} broken rules of FOCUS 1.2{more}\n")
    return int(bool(broken))


def _month(text: str) -> Period:
    if re.fullmatch(r"\d{4}-(0[1-9]|1[0-2])", text.strip()) is None:
        raise ConfigError(f"--month is {text!r}, wanted a month such as 2026-11.")
    first = datetime.fromisoformat(f"{text.strip()}-01").replace(tzinfo=UTC)
    return Period(first, (first + timedelta(days=32)).replace(day=1), "UTC")


def _write(path: Path, rows: list[dict[str, str | None]], format_: str) -> None:
    try:
        if format_ == "parquet":
            write_focus_parquet(FOCUS_COLUMNS, rows, path)
        else:
            with path.open("w", encoding="utf-8", newline="") as file:
                write_focus_csv(FOCUS_COLUMNS, rows, file)
    except OSError as error:
        raise LedgerError(f"{str(path)!r} cannot be written: {error.strerror}; pass another --output.") from error
    sys.stderr.write(f"Written to {path}.\n")
