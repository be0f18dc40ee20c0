"""The validator: every rule of FOCUS 1.2's columns, on the rows of any file."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from datetime import datetime
from decimal import Decimal, InvalidOperation
from typing import Any, NamedTuple

from eco2_callbacks.finance.focus.columns import COLUMNS, CURRENCIES, SUBCATEGORIES, FocusColumn

__all__ = ["Violation", "validate_focus"]

_BY_NAME = {column.name: column for column in COLUMNS}
_NUMBER = re.compile(r"-?\d+(?:\.\d+)?(?:[eE][+-]?\d+)?")
_TIME = re.compile(r"\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z")
# "Tokens", "GB-Hours", "GB/Hour", "1000000 Tokens", "10 Requests/2 Days".
_WORD = r"[A-Z][A-Za-z]*(?: [A-Z][A-Za-z]*)*"
_UNIT = re.compile(rf"(?:[1-9]\d* )?{_WORD}(?:-{_WORD}|/(?:[1-9]\d* )?{_WORD})?")
_TOLERANCE = Decimal("1e-9")
# Columns that are empty or filled together: the first needs the second.
_NEEDS = (
    ("ConsumedQuantity", "ConsumedUnit"),
    ("ConsumedUnit", "ConsumedQuantity"),
    ("PricingQuantity", "PricingUnit"),
    ("PricingUnit", "PricingQuantity"),
    ("AvailabilityZone", "RegionId"),
    ("RegionId", "RegionName"),
    ("RegionName", "RegionId"),
    ("CapacityReservationStatus", "CapacityReservationId"),
    ("CommitmentDiscountName", "CommitmentDiscountId"),
    ("CommitmentDiscountStatus", "CommitmentDiscountId"),
    ("CommitmentDiscountCategory", "CommitmentDiscountId"),
    ("CommitmentDiscountId", "CommitmentDiscountCategory"),
    ("CommitmentDiscountType", "CommitmentDiscountId"),
    ("CommitmentDiscountQuantity", "CommitmentDiscountUnit"),
    ("CommitmentDiscountUnit", "CommitmentDiscountQuantity"),
    ("ResourceName", "ResourceId"),
    ("ResourceType", "ResourceId"),
    ("SkuMeter", "SkuId"),
    ("SkuPriceDetails", "SkuPriceId"),
    ("SkuPriceId", "SkuId"),
    ("SubAccountName", "SubAccountId"),
    ("SubAccountType", "SubAccountId"),
    ("PricingCurrencyContractedUnitPrice", "PricingCurrency"),
    ("PricingCurrencyEffectiveCost", "PricingCurrency"),
    ("PricingCurrencyListUnitPrice", "PricingCurrency"),
)
_PRODUCTS = (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice"))


class Violation(NamedTuple):
    """A rule that is broken: of the whole file in row 0."""

    row: int
    column: str
    rule: str

    def __str__(self) -> str:
        """Return it as a line of text."""
        return f"row {self.row}, {self.column}: {self.rule}" if self.row else f"{self.column}: {self.rule}"


def validate_focus(columns: Collection[str], rows: Iterable[Mapping[str, Any]]) -> Iterator[Violation]:
    """Yield the rules that a file breaks.

    Args:
        columns: Names of the columns.
        rows: Values by column; None and ``""`` are nulls, all others texts as in a CSV file.
    """
    for column in COLUMNS:
        if column.level == "mandatory" and column.name not in columns:
            yield Violation(0, column.name, "the column is mandatory and missing")
    for name in columns:
        if name not in _BY_NAME and not name.startswith("x_"):
            yield Violation(0, name, "the column is unknown; the name of a custom one begins with x_")
    for number, row in enumerate(rows, start=1):
        broken = False
        for name in columns:
            if (known := _BY_NAME.get(name)) is not None and (rule := _fault(known, row.get(name))) is not None:
                broken = True
                yield Violation(number, name, rule)
        if not broken:
            # What columns say together has a meaning only where each is sound.
            for name, rule in _faults_between(columns, row):
                yield Violation(number, name, rule)


def _fault(column: FocusColumn, value: Any) -> str | None:
    if value is None or value == "":
        return None if column.allows_nulls else "it must not be null"
    text = str(value)
    if column.data_type == "decimal" and not _NUMBER.fullmatch(text):
        return f"{text!r} is no number in FOCUS' numeric format"
    if column.data_type == "time":
        if not _TIME.fullmatch(text):
            return f"{text!r} is no time like 2026-11-01T00:00:00Z"
        try:
            datetime.fromisoformat(text)
        except ValueError:
            return f"{text!r} is no time that exists"
    if column.data_type == "json" and (rule := _key_values(text)) is not None:
        return rule
    if column.format == "currency" and text not in CURRENCIES:
        return f"{text!r} is no currency of ISO 4217"
    if column.format == "unit" and not _UNIT.fullmatch(text):
        return f"{text!r} is no unit in FOCUS' unit format"
    if column.allowed and text not in column.allowed:
        return f"{text!r} is none of {', '.join(column.allowed)}"
    return None


def _key_values(text: str) -> str | None:
    try:
        found = json.loads(text)
    except ValueError:
        return f"{text!r} is no JSON"
    if not isinstance(found, dict):
        return f"{text!r} is no object of keys and values"
    if any(isinstance(value, dict | list) for value in found.values()):
        return "a value is an object or an array, wanted a text, number, boolean or null"
    return None


def _faults_between(columns: Collection[str], row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    def filled(name: str) -> bool:
        return row.get(name) not in (None, "")

    for name, needed in _NEEDS:
        if filled(name) and not filled(needed):
            yield name, f"it is set while {needed} is null"
    for kind in ("BillingPeriod", "ChargePeriod"):
        if filled(f"{kind}Start") and filled(f"{kind}End") and row[f"{kind}Start"] >= row[f"{kind}End"]:
            yield f"{kind}End", f"it is not after {kind}Start"
    category, subcategory = row.get("ServiceCategory"), row.get("ServiceSubcategory")
    if category and subcategory and subcategory not in SUBCATEGORIES[category]:
        yield "ServiceSubcategory", f"{subcategory!r} is none of {category!r}"
    is_correction = row.get("ChargeClass") == "Correction"
    if row.get("ChargeCategory") in ("Usage", "Purchase") and not is_correction and not filled("PricingQuantity"):
        yield "PricingQuantity", "it must not be null for usage and purchases that are no correction"
    if row.get("ChargeCategory") == "Tax" and filled("PricingQuantity"):
        yield "PricingQuantity", "it must be null for taxes"
    if row.get("ChargeCategory") != "Usage" and filled("CommitmentDiscountStatus"):
        yield "CommitmentDiscountStatus", "it must be null for what is no usage"
    if not is_correction and filled("PricingQuantity"):
        for cost, price in _PRODUCTS:
            if price in columns and filled(price) and not _is_product(row[cost], row[price], row["PricingQuantity"]):
                yield cost, f"it is not {price} times PricingQuantity"


def _is_product(cost: Any, price: Any, quantity: Any) -> bool:
    try:
        wanted = Decimal(str(price)) * Decimal(str(quantity))
        return abs(Decimal(str(cost)) - wanted) <= max(_TOLERANCE, abs(wanted) * _TOLERANCE)
    except InvalidOperation:
        return False
