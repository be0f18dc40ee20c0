"""Business numbers on the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from decimal import Decimal
from typing import Any, TextIO

from rich.bar import Bar
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.reporters.marks import began_remark, estimate_remark, marked_usd, usd
from eco2_callbacks.cli.reporters.report_rows import plain
from eco2_callbacks.cli.reporters.whole_table import print_whole
from eco2_callbacks.ledger import BusinessFigures, BusinessReport, IntentFigures

__all__ = ["business_document", "print_business", "write_business_csv"]

_BLOCKS = " ▁▂▃▄▅▆▇█"
_STEP = Decimal("1e-12")


def business_document(found: BusinessReport) -> dict[str, Any]:
    """Return the business numbers for JSON."""
    return {
        "since": found.period.since.isoformat(),
        "until": found.period.until.isoformat(),
        "timezone": found.period.timezone,
        "currency": "USD",
        "days": [{"day": day, **_row(figures)} for day, figures in found.days.items()],
        "total": {**_row(found.total), "mean_daily_users": round(found.mean_daily_users, 6)},
        "ledger_began": None if found.began is None else found.began.isoformat(),
        "before": None if found.before is None else _row(found.before),
        "intents": [
            {
                "intent": intent.intent,
                "requests": intent.requests,
                "successful_requests": intent.successful_requests,
                "users": intent.users,
                "cost_usd": plain(intent.usd),
                "estimated_cost_usd": plain(intent.estimated_usd),
                "unpriced_calls": intent.unpriced_calls,
                "requests_before": intent.before,
                "change": None if intent.change is None else round(intent.change, 6),
                "by_day": intent.by_day,
            }
            for intent in found.intents
        ],
    }


def write_business_csv(found: BusinessReport, file: TextIO) -> None:
    """Write one line per day; an unknown figure is an empty cell."""
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["day", *_row(found.total)])
    for day, figures in found.days.items():
        cells = [f"{value:f}" if isinstance(value, Decimal) else value for value in _row(figures).values()]
        writer.writerow([day, *("" if value is None else value for value in cells)])


def print_business(found: BusinessReport, console: Console) -> None:
    """Print the days and the intents, with bars and trends."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, show_footer=True)
    total = found.total
    table.add_column("day", footer="all days", footer_style="bold", no_wrap=True)
    table.add_column("", width=16)
    cells = (f"{total.active_users:,}", *_cells(total))
    for name, footer in zip(("active users", "requests", "successful", "USD", "USD/user"), cells, strict=True):
        table.add_column(name, footer=footer, justify="right", footer_style="bold", no_wrap=True)
    most = max(figures.active_users for figures in found.days.values()) or 1
    for day, figures in found.days.items():
        bar = Bar(float(most), 0.0, float(figures.active_users), width=16, color="green")
        table.add_row(day, bar, f"{figures.active_users:,}", *_cells(figures))
    print_whole(table, console)
    console.print(Text(f"{found.mean_daily_users:,.1f} active users on a day.", style="dim"))
    if total.unpriced_calls:
        console.print(Text(f"? leaves out {total.unpriced_calls:,} calls without a price.", style="dim"))
    if total.estimated_usd:
        console.print(Text(f"{estimate_remark(total.estimated_usd)}.", style="dim"))
    if found.began is not None:
        console.print(Text(began_remark(found.began), style="dim"))
    print_whole(_intents(found.intents, list(found.days)), console)


def _intents(intents: Sequence[IntentFigures], days: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, title_justify="left")
    table.add_column("intent", max_width=40)
    for name in ("questions", "share", "users", "USD", "change"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("by day")
    whole = sum(intent.requests for intent in intents) or 1
    for intent in intents:
        change = "" if intent.before is None else "new" if intent.change is None else f"{intent.change:+.0%}"
        table.add_row(
            Text(intent.intent or "(none)"),
            f"{intent.requests:,}",
            f"{intent.requests / whole:.0%}",
            f"{intent.users:,}",
            _marked(intent),
            change,
            _sparkline([intent.by_day.get(day, 0) for day in days]),
        )
    return table


def _row(figures: BusinessFigures) -> dict[str, Any]:
    per_user = figures.usd_per_active_user
    return {
        "active_users": figures.active_users,
        "requests": figures.requests,
        "successful_requests": figures.successful_requests,
        "calls": figures.calls,
        "cost_usd": plain(figures.usd),
        "estimated_cost_usd": plain(figures.estimated_usd),
        "unpriced_calls": figures.unpriced_calls,
        "cost_per_active_user_usd": None if per_user is None else plain(per_user.quantize(_STEP)),
    }


def _cells(figures: BusinessFigures) -> tuple[str, ...]:
    per_user = figures.usd_per_active_user
    return (
        f"{figures.requests:,}",
        f"{figures.successful_requests:,}",
        _marked(figures),
        "" if per_user is None else usd(per_user),
    )


def _marked(figures: BusinessFigures | IntentFigures) -> str:
    return marked_usd(figures.usd, unpriced_calls=figures.unpriced_calls, estimated_usd=figures.estimated_usd)


def _sparkline(counts: Sequence[int]) -> str:
    most = max(counts, default=0) or 1
    return "".join(_BLOCKS[-(-count * (len(_BLOCKS) - 1) // most)] for count in counts)
