"""A report on the terminal: a table with bars, the total, and the top movers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from rich.bar import Bar
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.reporters.marks import (
    began_remark,
    change_usd,
    estimate_remark,
    marked_usd,
    mover_note,
    usd,
)
from eco2_callbacks.cli.reporters.whole_table import print_whole, width_of
from eco2_callbacks.ledger import Figures, Report, percentile

__all__ = ["print_report"]

_BAR_CHARACTERS = 16
_MAX_ROWS = 50
_FILE_WIDTH = 180
_BAR = ""
_COLUMNS = (
    *("USD", "calls", "input", "output", "cached", "saved USD", "USD/request"),
    *("USD p50", "USD p95", "s p50", "s p95"),
)
# What a narrow terminal leaves out, one after the other.
_DISPENSABLE = (
    (_BAR,),
    ("s p50", "s p95"),
    ("USD p50", "USD p95"),
    ("saved USD",),
    ("cached",),
    ("USD/request",),
    ("input", "output"),
)


def print_report(report: Report, console: Console) -> None:
    """Print a report; of more than fifty groups the dearest. A terminal leaves out columns rather than cut a figure."""
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    period = report.period
    console.print(
        Text.assemble(
            ("Model calls ", "bold"),
            f"{period.since:%Y-%m-%d %H:%M} to {period.until - period.ahead:%Y-%m-%d %H:%M} {period.timezone}",
        )
    )
    left_out: list[str] = []
    for columns in (*_DISPENSABLE, ()):
        table = _groups(report, left_out)
        if width_of(table, console) <= console.width:
            break
        left_out += columns
    print_whole(table, console)
    if names := ", ".join(filter(None, left_out)):
        console.print(Text(f"A wider terminal also shows {names}; --format csv has all.", style="dim"))
    for line in _remarks(report):
        console.print(line)


def _groups(report: Report, left_out: Sequence[str]) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False, show_footer=True)
    total = report.total
    names = report.by or ("",)
    for number, name in enumerate(names):
        table.add_column(name, footer="total" if number == 0 else "", no_wrap=True, max_width=40, footer_style="bold")
    has_bars = _BAR not in left_out
    if has_bars:
        table.add_column(_BAR, width=_BAR_CHARACTERS)
    kept = [number for number, name in enumerate(_COLUMNS) if name not in left_out]
    footers = _cells(total)
    for number in kept:
        # "p95" stands beside its "p50".
        name = "p95" if _COLUMNS[number].endswith("p95") else _COLUMNS[number]
        table.add_column(name, footer=footers[number], justify="right", no_wrap=True, footer_style="bold")
    greatest = max((group.figures.cost for group in report.groups), default=Decimal(0))
    for group in report.groups[:_MAX_ROWS]:
        key = group.key or ("all",)
        cells = _cells(group.figures)
        table.add_row(
            *(Text(value or "(none)") for value in key),
            *((_bar(group.figures, greatest),) if has_bars else ()),
            *(cells[number] for number in kept),
        )
    return table


def _bar(figures: Figures, greatest: Decimal) -> RenderableType:
    if not greatest or not figures.cost:
        return Text("")
    return Bar(float(greatest), 0.0, float(figures.cost), width=_BAR_CHARACTERS, color="green")


def _cells(figures: Figures) -> tuple[str, ...]:
    share = figures.cached_share
    per_request = figures.cost_per_successful_request
    dollars = [percentile(figures.cost_buckets, share) for share in (0.5, 0.95)]
    seconds = [percentile(figures.seconds_buckets, share) for share in (0.5, 0.95)]
    return (
        marked_usd(figures.cost, unpriced_calls=figures.unpriced_calls, estimated_usd=figures.estimated_cost),
        f"{figures.calls:,}",
        f"{figures.input_tokens:,}",
        f"{figures.output_tokens:,}",
        "" if share is None else f"{share:.0%}",
        usd(figures.cache_savings) if figures.cache_savings else "",
        "" if per_request is None else usd(per_request),
        *("" if value is None else f"{value:.2g}" if value else "0" for value in dollars),
        *("" if value is None else f"{value:.2f}" for value in seconds),
    )


def _remarks(report: Report) -> Iterator[Text]:
    total = report.total
    if (hidden := len(report.groups) - _MAX_ROWS) > 0:
        yield Text(f"{hidden:,} more groups; --format csv shows all.", style="dim")
    if total.unpriced_calls:
        yield Text(
            f"? leaves out {total.unpriced_calls:,} calls without a price; eco2 prices MODEL says why", style="dim"
        )
    if total.estimated_cost:
        yield Text(estimate_remark(total.estimated_cost), style="dim")
    if "tag" in report.by:
        yield Text("A call with several tags stands in several rows; the total counts it once.", style="dim")
    if report.began is not None:
        yield Text(began_remark(report.began), style="dim")
    if report.movers:
        yield Text(f"\nTop movers by {', '.join(report.movers_by)}, against the period before", style="bold")
        for mover in report.movers:
            label = " / ".join(value or "(none)" for value in mover.key)
            note = mover_note(mover)
            yield Text(f"  {change_usd(mover)} USD{f' ({note})' if note else ''}  {label}")
        if any(mover.unpriced_calls for mover in report.movers):
            yield Text("? leaves out calls without a price in one of the two periods", style="dim")
