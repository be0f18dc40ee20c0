"""Prometheus' book: increases of the counters, hour by hour, by a range query."""

from __future__ import annotations

import json
import math
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.finance.reconcile.books import Book, local_day
from eco2_callbacks.ledger import Period

__all__ = ["read_prometheus"]

_TIMEOUT_SECONDS = 60.0
# Prometheus answers with 11,000 points a series at most.
_MAX_POINTS = 5000


def read_prometheus(url: str, period: Period) -> Book:
    """Return the book of a Prometheus server over a period.

    Raises:
        ConfigError: If the URL is none.
        LedgerError: If the server cannot be reached or refuses a query.
    """
    if not url.startswith(("http://", "https://")):
        raise ConfigError(f"--prometheus is {url!r}, wanted a URL such as http://prometheus:9090.")
    zone, book = ZoneInfo(period.timezone), Book("prometheus", counts_cached="call")
    # Days of zones with half hours begin inside an hour.
    step = timedelta(hours=1) if period.has_whole_hours() else timedelta(minutes=15)
    window = f"{int(step.total_seconds() // 60)}m"
    queries = {
        "usd": f"sum by (provider, model) (increase(llm_cost_dollars_total[{window}]))",
        "tokens": f"sum by (provider, model, token_type) (increase(llm_tokens_total[{window}]))",
        "calls": f"sum by (provider, model) (increase(llm_calls_total[{window}]))",
    }
    sums: dict[tuple[Any, str, str], float] = {}
    for what, query in queries.items():
        for labels, at, value in _samples(url, query, period, step):
            side = f"{labels.get('token_type', '')}_tokens" if what == "tokens" else what
            # The value at a time is the increase of the step before it.
            key = local_day(at - step, zone), labels.get("model", ""), side
            sums[key] = sums.get(key, 0.0) + value
    for (day, model, side), value in sums.items():
        if value <= 0:
            continue
        amount: Any = Decimal(f"{value:.12f}") if side == "usd" else round(value)
        if side in ("usd", "calls", "input_tokens", "output_tokens"):
            book.at(day, model).add(**{side: amount})
    return book


def _samples(
    url: str, query: str, period: Period, step: timedelta
) -> Iterator[tuple[Mapping[str, str], datetime, float]]:
    first = period.since.astimezone(UTC) + step
    last = max(first, period.until.astimezone(UTC))
    while first <= last:
        end = min(last, first + step * _MAX_POINTS)
        parameters = {
            "query": query,
            "start": f"{first.timestamp():.3f}",
            "end": f"{end.timestamp():.3f}",
            "step": f"{int(step.total_seconds())}",
        }
        for series in _ask(f"{url.rstrip('/')}/api/v1/query_range?{urllib.parse.urlencode(parameters)}", url):
            for at, value in series["values"]:
                number = float(value)
                if math.isfinite(number):
                    yield series["metric"], datetime.fromtimestamp(float(at), UTC), number
        first = end + step


def _ask(address: str, shown: str) -> list[Any]:
    try:
        with urllib.request.urlopen(address, timeout=_TIMEOUT_SECONDS) as answer:  # noqa: S310  its scheme was checked
            found = json.load(answer)
    except urllib.error.HTTPError as error:
        raise LedgerError(f"Prometheus at {shown} answered {error.code} to a range query; check the URL.") from error
    except (OSError, ValueError) as error:
        raise LedgerError(f"Prometheus at {shown} cannot be read ({error}). Start it, or correct the URL.") from error
    result: list[Any] = found.get("data", {}).get("result", [])
    return result
