"""Reads the arguments of the handler, and opens what they name."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypedDict
from uuid import UUID

from prometheus_client import CollectorRegistry

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import LedgerSink
from eco2_callbacks.log_once import is_first
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.prometheus import LedgerMetrics, PriceMetrics, PrometheusExporter
from eco2_callbacks.runs import UnreadableError, identifier
from eco2_callbacks.settings import prices_of

if TYPE_CHECKING:
    from eco2_callbacks.budgets import Budgets, BudgetSource
    from eco2_callbacks.ledger import LedgerObserver

__all__ = [
    "Budget",
    "check_now",
    "count_failure",
    "count_unreadable",
    "open_ledger",
    "open_prices",
    "price_metrics",
    "read_budget_settings",
    "read_tenants",
]

_logger = logging.getLogger(__name__)


class Budget(TypedDict, total=False):
    """What a tenant may spend, in US dollars."""

    monthly_usd: float
    daily_usd: float


def count_unreadable(exporter: PrometheusExporter, key: str, came: str) -> None:
    """Warn once of an attribution key whose value cannot be read, and count it."""
    if is_first("attribution", key, came):
        _logger.warning(
            "%s is %s, wanted a text, an integer or a UUID; it is left out. Each is counted in "
            'eco2_callbacks_errors_total{callback="attribution"}.',
            key,
            came,
        )
    exporter.count_error("attribution")


def count_failure(exporter: PrometheusExporter, callback: str, run_id: UUID | None) -> None:
    """Log the exception that is handled, and count it."""
    _logger.exception("%s failed for run %s; the application is not affected.", callback, run_id)
    exporter.count_error(callback)


def read_tenants(tenants: Sequence[str | int | UUID]) -> list[str]:
    """Return tenants as texts.

    Raises:
        ConfigError: If one cannot be read as a text.
    """
    if isinstance(tenants, str):
        raise ConfigError(f"tenants is {tenants!r}, wanted a list of tenants; pass [{tenants!r}].")
    try:
        return [text for tenant in tenants if (text := identifier(tenant)) is not None]
    except UnreadableError as error:
        raise ConfigError(f"tenants holds {error}, wanted texts, integers or UUIDs.") from None
    except TypeError:
        raise ConfigError(f"tenants is {tenants!r}, wanted a list of tenants.") from None


def open_prices(prices: PriceBook | str | Path | None) -> PriceBook:
    """Return the price book; None reads the file that ``ECO2_PRICES`` names, if any.

    Raises:
        RatesFileError: If the file cannot be read.
    """
    if isinstance(prices, PriceBook):
        return prices
    if prices is None:
        path = prices_of(os.environ)
        return PriceBook() if path is None else PriceBook.from_toml(path)
    return PriceBook.from_toml(prices)


def price_metrics(exporter: PrometheusExporter, book: PriceBook, now: Callable[[], datetime]) -> PriceMetrics:
    """Return the metrics of a price book."""
    return PriceMetrics(
        exporter.instruments,
        version=version("eco2-callbacks"),
        prices_version=lambda: book.version,
        age_seconds=partial(_age_seconds, book, now),
        is_loaded=book.is_loaded,
    )


def check_now(now: Callable[[], Any]) -> None:
    """Check that a clock returns a time with a zone.

    Raises:
        ConfigError: If it does not.
    """
    moment = now()
    if not isinstance(moment, datetime) or moment.utcoffset() is None:
        raise ConfigError(f"now= returns {moment!r}, wanted a datetime with a time zone; pass datetime.now(UTC).")


def read_budget_settings(source: Mapping[str, Budget] | BudgetSource | None) -> Budgets | None:
    """Return the settings of budgets, None for None.

    Raises:
        ConfigError: If they cannot be used.
    """
    if source is None:
        return None
    from eco2_callbacks.budgets import read_budgets  # noqa: PLC0415

    return read_budgets(source)


def open_ledger(
    ledger: str | Path | LedgerSink | None, registry: CollectorRegistry, exporter: PrometheusExporter
) -> LedgerObserver | None:
    """Open the ledger, and count on the registry what becomes of its records; None and ``""`` are no ledger."""
    if ledger is None or ledger == "":
        return None
    from eco2_callbacks.ledger import LedgerObserver  # noqa: PLC0415

    observer = LedgerObserver(ledger)
    sink = observer.sink
    observer.watch(LedgerMetrics(registry, sink.backend, lag_seconds=sink.lag_seconds, on_failure=exporter.count_error))
    return observer


def _age_seconds(book: PriceBook, now: Callable[[], datetime]) -> float:
    return (now() - book.updated_at).total_seconds()
