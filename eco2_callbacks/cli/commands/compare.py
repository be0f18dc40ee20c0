"""``eco2 compare``: variants of a prompt, a model or another key, with confidence intervals."""

from __future__ import annotations

from dataclasses import asdict
from decimal import Decimal
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from eco2_callbacks.cli.options import AsJson, LedgerUrl, Since, TimeZone, Until, open_ledger, wide_console
from eco2_callbacks.cli.reporters import estimate_remark, plain, print_json
from eco2_callbacks.finance import MIN_SAMPLE, ComparedVariant, Estimate, VariantComparison, compare_variants
from eco2_callbacks.ledger import Period

__all__ = ["compare"]

_STYLES = {"higher": "yellow", "lower": "green", "too thin to say": "dim", "no difference shown": "dim"}
_MAX_ROWS = 20


def compare(
    key: Annotated[str, typer.Argument(help="prompt_version, model, provider, feature, intent, agent, node, ...")],
    baseline: Annotated[
        str | None, typer.Option(metavar="VALUE", help="What the others are compared with; the most frequent one.")
    ] = None,
    confidence: Annotated[float, typer.Option(metavar="SHARE", help="Confidence of each interval.")] = 0.95,
    since: Since = None,
    until: Until = None,
    timezone: TimeZone = "UTC",
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """Tokens, dollars, seconds, errors and feedback of a call by variant, with what the sample allows to say."""
    period = Period.parse(since, until, timezone)
    backend = open_ledger(ledger)
    try:
        found = compare_variants(backend, key, period, baseline=baseline, confidence=confidence)
    finally:
        backend.close()
    if as_json:
        print_json(_document(found))
    else:
        _print(found, wide_console())


def _document(found: VariantComparison) -> dict[str, Any]:
    return {
        "key": found.key,
        "since": found.period.since.isoformat(),
        "until": found.period.until.isoformat(),
        "confidence": found.confidence,
        "min_sample": MIN_SAMPLE,
        "baseline": found.variants[0].value,
        "variants": [
            {
                "value": variant.value,
                "is_baseline": variant.is_baseline,
                "calls": variant.calls,
                "unpriced_calls": variant.unpriced_calls,
                "estimated_usd": plain(variant.estimated_usd),
                "figures": {name: asdict(estimate) for name, estimate in variant.estimates.items()},
            }
            for variant in found.variants
        ],
    }


def _print(found: VariantComparison, console: Console) -> None:
    for name in dict.fromkeys(name for variant in found.variants for name in variant.estimates):
        table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
        table.add_column(name, style="bold", min_width=20, max_width=40)
        for column in ("n", "value", f"{found.confidence:.0%} interval", "difference", "interval"):
            table.add_column(column, justify="right", no_wrap=True)
        table.add_column("")
        for variant in found.variants[:_MAX_ROWS]:
            if (estimate := variant.estimates.get(name)) is not None:
                verdict = "baseline" if variant.is_baseline else estimate.verdict
                table.add_row(
                    Text(variant.value or "(none)"),
                    *_cells(estimate, mark=_mark(variant) if name == "dollars" else ""),
                    Text(verdict, style=_STYLES.get(verdict, "dim")),
                )
        console.print(table)
        console.print()
    if unpriced := sum(variant.unpriced_calls for variant in found.variants):
        console.print(Text(f"? leaves out {unpriced:,} calls without a price.", style="dim"))
    if estimated := sum((variant.estimated_usd for variant in found.variants), Decimal(0)):
        console.print(Text(f"{estimate_remark(estimated)}.", style="dim"))
    console.print(
        Text(
            f"tokens, dollars, seconds: mean of a call; errors: share of the calls. Below {MIN_SAMPLE} calls the "
            "sample is too thin to say. Of many comparisons some differ by chance.",
            style="dim",
        )
    )


def _mark(variant: ComparedVariant) -> str:
    return ("?" if variant.unpriced_calls else "") + ("~" if variant.estimated_usd else "")


def _cells(estimate: Estimate, *, mark: str = "") -> tuple[str, ...]:
    return (
        f"{estimate.number:,}",
        f"{mark if estimate.value is not None else ''}{_number(estimate.value)}",
        _interval(estimate.low, estimate.high),
        _number(estimate.difference, sign=True),
        _interval(estimate.difference_low, estimate.difference_high),
    )


def _number(value: float | None, *, sign: bool = False) -> str:
    return "" if value is None else f"{value:{'+' if sign else ''}.4g}"


def _interval(low: float | None, high: float | None) -> str:
    return "" if low is None or high is None else f"{low:.4g} to {high:.4g}"
