"""``eco2 focus``: the ledger as a FOCUS 1.2 file."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import chain, islice
from pathlib import Path
from typing import Annotated, Any

import typer

from eco2_callbacks.cli.options import AsJson, LedgerUrl, Since, Until, open_ledger, share_progress
from eco2_callbacks.cli.reporters import estimate_remark, plain, print_json
from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.finance import (
    FOCUS_COLUMNS,
    Account,
    Charges,
    ClosedMonths,
    focus_rows,
    read_charges,
    read_focus,
    validate_focus,
    write_focus_csv,
    write_focus_parquet,
)
from eco2_callbacks.ledger import Period
from eco2_callbacks.pricing import EXACT, ExchangeRates

__all__ = ["focus"]

_MAX_SHOWN = 20
_Row = dict[str, str | None]
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
    closed: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="The file of an earlier month; what reached the ledger after it becomes a correction. Repeatable.",
            show_default=False,
        ),
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
    if closed and month is None:
        raise ConfigError("--closed needs --month: a correction belongs to one billing month.")
    handed_over = ClosedMonths.read(closed or (), account, per_call=per_call)
    path = output or (Path("eco2-focus.parquet") if format_ == "parquet" else None)
    totals = _Totals()
    backend = open_ledger(ledger)
    try:
        with share_progress("Reading calls") as progress:
            charges = read_charges(backend, period, per_call=per_call, on_progress=progress)
            late = handed_over.late_rows(backend, period, on_progress=progress)
            rows = _checked_rows(charges, late, account, totals)
            if (first := next(rows, None)) is None and not totals.calls:
                raise LedgerError(
                    f"The ledger {backend.shown_url} has no charges from {period.since.isoformat(timespec='seconds')} "
                    f"to {period.until.isoformat(timespec='seconds')}. Choose --month, or --since and --until, to "
                    "match."
                )
            # A month whose calls have no price gets a file without rows, which --closed takes.
            rows = rows if first is None else chain([first], rows)
            shown: dict[str, Any] = {}
            if path is not None:
                _write(path, rows, format_)
                shown["file"] = str(path)
            elif as_json:
                shown["charges"] = list(rows)
            else:
                write_focus_csv(FOCUS_COLUMNS, rows, sys.stdout)
    finally:
        backend.close()
    if as_json:
        print_json(
            {
                "since": period.since.isoformat(),
                "until": period.until.isoformat(),
                "currency": currency,
                "rows": totals.rows,
                "calls": totals.calls,
                "unpriced_calls": totals.unpriced_calls,
                "estimated_cost": plain(totals.estimated),
                "late_rows": totals.late_rows,
                "missing_charges": handed_over.missing_charges,
                "totals": {name: plain(usd) for name, usd in totals.costs.items()},
                **shown,
            }
        )
    if totals.unpriced_calls:
        sys.stderr.write(
            f"{totals.unpriced_calls:,} calls have no price, or lack that of a unit, and are left out as far as it is "
            "missing; see eco2 prices and eco2 reprice.\n"
        )
    if totals.estimated:
        sys.stderr.write(f"{estimate_remark(totals.estimated, currency)}: see x_EstimatedCost.\n")
    if totals.late_rows:
        sys.stderr.write(f"{totals.late_rows:,} rows correct earlier months: calls that came after their files.\n")
    if handed_over.missing_charges:
        sys.stderr.write(
            f"{handed_over.missing_charges:,} charges of the files of earlier months are no longer in the ledger, as "
            "after a prune; they stay as they were handed over.\n"
        )
    return 0


@dataclass(slots=True)
class _Totals:
    """What was written so far."""

    rows: int = 0
    calls: int = 0
    unpriced_calls: int = 0
    late_rows: int = 0
    estimated: Decimal = Decimal(0)
    costs: dict[str, Decimal] = field(default_factory=lambda: dict.fromkeys(_COSTS, Decimal(0)))


def _checked_rows(
    charges: Iterable[Charges], late: Iterable[_Row], account: Account, totals: _Totals
) -> Iterator[_Row]:
    """Yield the rows, part by part, and add them up."""

    def rows() -> Iterator[_Row]:
        for part in charges:
            totals.calls += part.calls
            totals.unpriced_calls += part.unpriced_calls
            yield from focus_rows(part, account)
        for row in late:
            totals.late_rows += 1
            yield row

    for row in rows():
        if broken := next(iter(validate_focus(FOCUS_COLUMNS, [row])), None):
            raise LedgerError(f"A row breaks a rule of FOCUS ({broken}); please report this.")
        totals.rows += 1
        for name in _COSTS:
            totals.costs[name] = EXACT.add(totals.costs[name], Decimal(row[name] or 0))
        totals.estimated = EXACT.add(totals.estimated, Decimal(row["x_EstimatedCost"] or 0))
        yield row


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
    if re.fullmatch(r"(19|20|21)\d\d-(0[1-9]|1[0-2])", text.strip()) is None:
        raise ConfigError(f"--month is {text!r}, wanted a month such as 2026-11.")
    first = datetime.fromisoformat(f"{text.strip()}-01").replace(tzinfo=UTC)
    return Period(first, (first + timedelta(days=32)).replace(day=1), "UTC")


def _write(path: Path, rows: Iterable[_Row], format_: str) -> None:
    # So no half file stands under its name.
    beside = path.with_name(f"{path.name}.part")
    try:
        if format_ == "parquet":
            write_focus_parquet(FOCUS_COLUMNS, rows, beside)
        else:
            with beside.open("w", encoding="utf-8", newline="") as file:
                write_focus_csv(FOCUS_COLUMNS, rows, file)
        beside.replace(path)
    except OSError as error:
        raise LedgerError(f"{str(path)!r} cannot be written: {error.strerror}; pass another --output.") from error
    finally:
        with suppress(OSError):
            beside.unlink(missing_ok=True)
    sys.stderr.write(f"Written to {path}.\n")
