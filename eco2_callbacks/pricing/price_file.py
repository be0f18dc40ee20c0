"""Reads a file of custom prices: rates, discounts, margins, and the exchange rates of prices in other currencies."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

from eco2_callbacks.errors import ConfigError, RatesFileError
from eco2_callbacks.pricing.adjustments import Adjustment, AdjustmentKind
from eco2_callbacks.pricing.exchange import ExchangeRates
from eco2_callbacks.pricing.rates import Rate, rates_of, read_document

__all__ = ["PriceFile", "read_prices"]

_TABLES: Mapping[str, AdjustmentKind] = {"discounts": "discount", "margins": "margin"}
_FIELDS = frozenset({"start", "source", "percent", "fixed_usd", "provider", "model", "tenant"})


class PriceFile(NamedTuple):
    """What a file of custom prices holds."""

    rates: tuple[Rate, ...]
    adjustments: tuple[Adjustment, ...]
    exchange_rates: ExchangeRates | None


def read_prices(path: str | Path) -> PriceFile:
    """Read a TOML file of ``[[rates]]``, ``[[discounts]]`` and ``[[margins]]``, with the path of ``exchange_rates``.

    Raises:
        ConfigError: If it is no path, or the exchange rates cannot be read.
        RatesFileError: If the file is missing or not TOML, or an entry lacks a field or has an unknown one.
    """
    document = read_document(path)
    wanted = {"rates", *_TABLES, "exchange_rates"}
    if not document.keys() & {"rates", *_TABLES} or document.keys() - wanted:
        raise RatesFileError(
            path, f"found the keys {sorted(document)!r}, wanted [[rates]], [[discounts]] and [[margins]] tables only."
        )
    exchange_rates = None
    if (named := document.get("exchange_rates")) is not None:
        if not isinstance(named, str) or not named:
            raise RatesFileError(path, f"exchange_rates is {named!r}, wanted the path of a CSV file.")
        exchange_rates = ExchangeRates.from_csv(Path(path).parent / named)
    rates = rates_of(path, document["rates"]) if "rates" in document else ()
    if exchange_rates is None and (foreign := [rate.currency for rate in rates if rate.currency != "USD"]):
        raise RatesFileError(path, f"a rate is in {foreign[0]}; add exchange_rates = 'file.csv' for its dollars.")
    adjustments: list[Adjustment] = []
    for table, kind in _TABLES.items():
        entries = document.get(table, [])
        if not isinstance(entries, list):
            raise RatesFileError(path, f"{table} is {entries!r}, wanted [[{table}]] tables.")
        adjustments += [_adjustment(path, kind, number, entry) for number, entry in enumerate(entries, start=1)]
    return PriceFile(rates, tuple(adjustments), exchange_rates)


def _adjustment(path: str | Path, kind: AdjustmentKind, number: int, entry: Any) -> Adjustment:
    if not isinstance(entry, dict):
        raise RatesFileError(path, f"{kind} {number} is {entry!r}, wanted a table; write it as [[{kind}s]].")
    if missing := {"start", "source"} - entry.keys():
        raise RatesFileError(path, f"{kind} {number} lacks {sorted(missing)!r}; give it its start and source.")
    if unknown := entry.keys() - _FIELDS:
        raise RatesFileError(
            path, f"{kind} {number} has unknown keys {sorted(unknown)!r}; known are {sorted(_FIELDS)!r}."
        )
    fields = dict(entry)
    for name in ("percent", "fixed_usd"):
        if name in fields:
            value = fields[name]
            if isinstance(value, bool) or not isinstance(value, int | str | Decimal):
                raise RatesFileError(path, f"{kind} {number} has {name} = {value!r}, wanted a number.")
            try:
                fields[name] = Decimal(value)
            except ArithmeticError as error:
                raise RatesFileError(path, f"{kind} {number} has {name} = {value!r}, wanted a number.") from error
    if type(fields["start"]) is not date:
        raise RatesFileError(path, f"{kind} {number} has start = {fields['start']!r}, wanted a date.")
    try:
        return Adjustment(kind=kind, **fields)
    except ConfigError as error:
        raise RatesFileError(path, f"{kind} {number}: {error}") from error
