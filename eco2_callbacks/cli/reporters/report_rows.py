"""The columns of a report, the same in every format."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from eco2_callbacks.ledger import Figures, Report, percentile

__all__ = ["document", "group_rows", "plain", "row_of"]


def row_of(figures: Figures) -> dict[str, Any]:
    """Return the figures by column; None where a figure is unknown. Dollars are exact decimals."""
    return {
        "calls": figures.calls,
        "errors": figures.errors,
        "input_tokens": figures.input_tokens,
        "output_tokens": figures.output_tokens,
        "reasoning_tokens": figures.reasoning_tokens,
        "cache_read_tokens": figures.cache_read_tokens,
        "cached_share": _rounded(figures.cached_share),
        "cost_usd": plain(figures.cost),
        "estimated_cost_usd": plain(figures.estimated_cost),
        "unpriced_calls": figures.unpriced_calls,
        "cache_savings_usd": plain(figures.cache_savings),
        "cache_surcharge_usd": plain(figures.cache_surcharge),
        "requests": figures.requests,
        "successful_requests": figures.successful_requests,
        "cost_per_successful_request_usd": _quantized(figures.cost_per_successful_request),
        "cost_p50_usd": _rounded(percentile(figures.cost_buckets, 0.5)),
        "cost_p95_usd": _rounded(percentile(figures.cost_buckets, 0.95)),
        "seconds": round(figures.seconds, 6),
        "seconds_p50": _rounded(percentile(figures.seconds_buckets, 0.5)),
        "seconds_p95": _rounded(percentile(figures.seconds_buckets, 0.95)),
    }


def group_rows(report: Report) -> list[dict[str, Any]]:
    """Return one row per group: its dimensions first."""
    return [{**dict(zip(report.by, group.key, strict=True)), **row_of(group.figures)} for group in report.groups]


def document(report: Report) -> dict[str, Any]:
    """Return the whole report for JSON."""
    return {
        "by": list(report.by),
        "since": report.period.since.isoformat(),
        "until": report.period.until.isoformat(),
        "timezone": report.period.timezone,
        "currency": "USD",
        "ledger_began": None if report.began is None else report.began.isoformat(),
        "groups": group_rows(report),
        "total": row_of(report.total),
        "movers": [
            {
                **dict(zip(report.movers_by, mover.key, strict=True)),
                "cost_usd": plain(mover.now.cost),
                "cost_before_usd": plain(mover.before.cost),
                "change_usd": plain(mover.change_usd),
                "unpriced_calls": mover.now.unpriced_calls,
                "unpriced_calls_before": mover.before.unpriced_calls,
            }
            for mover in report.movers
        ],
    }


def plain(usd: Decimal) -> Decimal:
    """Return dollars without trailing zeros; zero is 0."""
    short = usd.normalize()
    return short if int(short.as_tuple().exponent) <= 0 else short.quantize(Decimal(1))


def _rounded(value: float | None) -> float | None:
    """Return a figure with six digits: more are not known."""
    return None if value is None else float(f"{value:.6g}")


def _quantized(usd: Decimal | None) -> Decimal | None:
    return None if usd is None else plain(usd.quantize(Decimal("1e-12")))
