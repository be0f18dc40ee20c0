"""A report as a page: figures, charts, the table and the movers."""

from __future__ import annotations

import html
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import Any

from eco2_callbacks.cli.reporters.html_page import chart_text, page, table_html
from eco2_callbacks.cli.reporters.marks import change_usd, marked_usd, mover_note, usd
from eco2_callbacks.ledger import Figures, Report, percentile

__all__ = ["report_page"]

_DATES = ("day", "week", "month")
_MAX_BARS = 25
_MAX_SERIES = 9
_LAYOUT = {
    "margin": {"l": 60, "r": 20, "t": 10, "b": 40},
    "font": {"family": "system-ui, sans-serif", "size": 13},
    "plot_bgcolor": "#fff",
    "legend": {"orientation": "h", "y": -0.2},
}


def report_page(report: Report) -> str:
    """Return the page of a report.

    Raises:
        LedgerError: If the extra ``html`` is not installed.
    """
    period, total = report.period, report.total
    head = f"{period.since:%Y-%m-%d %H:%M} to {period.until - period.ahead:%Y-%m-%d %H:%M} {period.timezone}"
    by = ", ".join(report.by) or "all calls"
    body = [
        f"<h1>Model cost by {html.escape(by)}</h1><p class=dim>{html.escape(head)}</p>",
        _tiles(total),
        f"<h2>Cost</h2><div id=cost style='height:{_height(report)}px'></div>",
    ]
    charts = [("cost", _cost_traces(report), _cost_layout(report))]
    if any(group.figures.input_tokens + group.figures.output_tokens for group in report.groups):
        body.append(f"<h2>Tokens</h2><div id=tokens style='height:{_height(report)}px'></div>")
        charts.append(("tokens", _token_traces(report), {**_cost_layout(report), "barmode": "stack"}))
    body.append("<h2>Figures</h2>")
    body.append(_table(report))
    if report.movers:
        body.append(f"<h2>Top movers by {html.escape(', '.join(report.movers_by))}, against the period before</h2>")
        body.append(_movers(report))
    return page(f"Model cost by {by}", "\n".join(body), charts)


def _tiles(total: Figures) -> str:
    share, per_request = total.cached_share, total.cost_per_successful_request
    tiles = [
        ("cost", f"{_marked(total)} USD"),
        ("model calls", f"{total.calls:,}"),
        ("tokens", f"{total.input_tokens + total.output_tokens:,}"),
        ("input from cache", "-" if share is None else f"{share:.0%}"),
        ("saved by caching", f"{usd(total.cache_savings)} USD"),
        ("per successful request", "-" if per_request is None else f"{usd(per_request)} USD"),
        ("calls without a price", f"{total.unpriced_calls:,}"),
    ]
    return (
        "<div class=tiles>" + "".join(f"<div class=tile><b>{v}</b><span>{n}</span></div>" for n, v in tiles) + "</div>"
    )


def _is_dated(report: Report) -> bool:
    return bool(report.by) and report.by[0] in _DATES


def _height(report: Report) -> int:
    if _is_dated(report):
        return 380
    return 120 + 26 * min(_MAX_BARS, max(1, len(report.groups)))


def _label(key: Sequence[str]) -> str:
    return chart_text(" / ".join(value or "(none)" for value in key) or "all")


def _cost_traces(report: Report) -> list[dict[str, Any]]:
    if not _is_dated(report):
        shown = report.groups[:_MAX_BARS]
        return [_bars("USD", [_label(group.key) for group in shown], [float(group.figures.cost) for group in shown])]
    series: dict[str, dict[str, Decimal]] = {}
    for group in report.groups:
        name = _label(group.key[1:]) if len(group.key) > 1 else "cost"
        day = series.setdefault(name, {})
        day[group.key[0]] = day.get(group.key[0], Decimal(0)) + group.figures.cost
    dearest = sorted(series, key=lambda name: -sum(series[name].values()))
    others: dict[str, Decimal] = {}
    for name in dearest[_MAX_SERIES:]:
        for date, cost in series[name].items():
            others[date] = others.get(date, Decimal(0)) + cost
    traces = [(name, series[name]) for name in dearest[:_MAX_SERIES]] + ([("others", others)] if others else [])
    return [
        {"type": "bar", "name": name, "x": sorted(costs), "y": [float(costs[date]) for date in sorted(costs)]}
        for name, costs in traces
    ]


def _token_traces(report: Report) -> list[dict[str, Any]]:
    kinds: tuple[tuple[str, Callable[[Figures], int]], ...] = (
        ("input, from cache", lambda figures: figures.cache_read_tokens),
        ("input", lambda figures: figures.input_tokens - figures.cache_read_tokens),
        ("output", lambda figures: figures.output_tokens),
    )
    if not _is_dated(report):
        shown = report.groups[:_MAX_BARS]
        labels = [_label(group.key) for group in shown]
        return [_bars(name, labels, [count(group.figures) for group in shown]) for name, count in kinds]
    traces = []
    for name, count in kinds:
        by_date: dict[str, int] = {}
        for group in report.groups:
            by_date[group.key[0]] = by_date.get(group.key[0], 0) + count(group.figures)
        traces.append({"type": "bar", "name": name, "x": sorted(by_date), "y": [by_date[d] for d in sorted(by_date)]})
    return traces


def _bars(name: str, labels: Sequence[str], amounts: Sequence[float]) -> dict[str, Any]:
    return {"type": "bar", "orientation": "h", "name": name, "y": list(labels), "x": list(amounts)}


def _cost_layout(report: Report) -> dict[str, Any]:
    if _is_dated(report):
        return {
            **_LAYOUT,
            "barmode": "stack",
            "xaxis": {"type": "category", "automargin": True},
            "yaxis": {"rangemode": "tozero"},
        }
    # The first group stands at the top.
    axis = {"autorange": "reversed", "automargin": True, "type": "category"}
    return {**_LAYOUT, "yaxis": axis, "xaxis": {"rangemode": "tozero"}}


_HEAD = (
    "USD",
    "calls",
    "errors",
    "input",
    "output",
    "cached",
    "saved USD",
    "USD/request",
    "USD p50",
    "USD p95",
    "s p50",
    "s p95",
)


def _marked(figures: Figures) -> str:
    return marked_usd(figures.cost, unpriced_calls=figures.unpriced_calls, estimated_usd=figures.estimated_cost)


def _cells(figures: Figures) -> list[str]:
    share, per_request = figures.cached_share, figures.cost_per_successful_request
    buckets = ((figures.cost_buckets, ".2g"), (figures.seconds_buckets, ".2f"))
    percentiles = [
        "" if (value := percentile(counts, part)) is None else f"{value:{form}}"
        for counts, form in buckets
        for part in (0.5, 0.95)
    ]
    return [
        _marked(figures),
        f"{figures.calls:,}",
        f"{figures.errors:,}",
        f"{figures.input_tokens:,}",
        f"{figures.output_tokens:,}",
        "" if share is None else f"{share:.0%}",
        usd(figures.cache_savings),
        "" if per_request is None else usd(per_request),
        *percentiles,
    ]


def _table(report: Report) -> str:
    texts = len(report.by) or 1
    rows = [
        [*(value or "(none)" for value in group.key or ("all",)), *_cells(group.figures)] for group in report.groups
    ]
    foot = ["total", *[""] * (texts - 1), *_cells(report.total)]
    notes = (
        "<p class=dim>? leaves out calls without a price; ~ contains an estimate. Percentiles are right to 2.5 %.</p>"
    )
    return table_html([*(report.by or ("",)), *_HEAD], rows, foot, texts=texts) + notes


def _movers(report: Report) -> str:
    rows = [
        [
            *(value or "(none)" for value in mover.key),
            marked_usd(mover.before.cost, unpriced_calls=mover.before.unpriced_calls),
            marked_usd(mover.now.cost, unpriced_calls=mover.now.unpriced_calls),
            change_usd(mover),
            mover_note(mover),
        ]
        for mover in report.movers
    ]
    head = [*report.movers_by, "USD before", "USD now", "change", ""]
    return table_html(head, rows, texts=len(report.movers_by))
