"""The validator: it finds every broken rule of FOCUS 1.2's columns."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from eco2_callbacks.finance import COLUMNS, FocusColumn, validate_focus

BY_NAME = {column.name: column for column in COLUMNS}
EXAMPLES = {
    "decimal": "1.5",
    "time": "2026-11-01T00:00:00Z",
    "json": '{"a": "b"}',
    "text": "x",
}
SPECIAL = {
    "BillingPeriodEnd": "2026-12-01T00:00:00Z",
    "ChargePeriodEnd": "2026-11-02T00:00:00Z",
    "ChargeCategory": "Usage",
    "ServiceCategory": "AI and Machine Learning",
    "ServiceSubcategory": "Generative AI",
    "ListCost": "2.25",
    "ContractedCost": "2.25",
}


def _value(column: FocusColumn) -> str:
    if column.name in SPECIAL:
        return SPECIAL[column.name]
    if column.allowed:
        return column.allowed[0]
    if column.format in ("currency", "unit"):
        return {"currency": "EUR", "unit": "1000 Tokens"}[column.format]
    return EXAMPLES[column.data_type]


def _row(**changes: Any) -> dict[str, Any]:
    """Return a row with every column set, 1.5 units at 1.5."""
    row: dict[str, Any] = {column.name: _value(column) for column in COLUMNS}
    # A correction is free of the rules of prices; the row is none.
    row["ChargeClass"] = None
    return row | changes


def _rules(row: dict[str, Any], columns: Any = None) -> list[tuple[str, str]]:
    return [(found.column, found.rule) for found in validate_focus(columns or list(row), [row])]


def test_the_table_is_that_of_the_specification() -> None:
    """57 columns with their levels, nulls and types, as the specification of May 2025 has them."""
    assert len(COLUMNS) == len(BY_NAME) == 57
    assert Counter(column.level for column in COLUMNS) == {"mandatory": 21, "recommended": 4, "conditional": 32}
    assert Counter(column.data_type for column in COLUMNS) == {"text": 39, "decimal": 12, "time": 4, "json": 2}
    assert sum(column.allows_nulls for column in COLUMNS) == 38


def test_a_sound_row_breaks_no_rule() -> None:
    """Every column set as it may be is fine, and so is a row with nulls wherever they are allowed."""
    assert _rules(_row()) == []
    sparse = _row(**{column.name: None for column in COLUMNS if column.allows_nulls})
    assert _rules(sparse | {"PricingQuantity": "1.5", "PricingUnit": "Tokens"}) == []


@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_missing_column(column: FocusColumn) -> None:
    """A mandatory column must be there; recommended and conditional ones may be left out."""
    columns = [name for name in BY_NAME if name != column.name]

    found = list(validate_focus(columns, []))

    wanted = [(0, column.name, "the column is mandatory and missing")] if column.level == "mandatory" else []
    assert [tuple(each) for each in found] == wanted


@pytest.mark.parametrize("null", [None, ""], ids=["null", "empty"])
@pytest.mark.parametrize("column", COLUMNS, ids=lambda column: column.name)
def test_a_null(column: FocusColumn, null: str | None) -> None:
    """A null is refused exactly where the specification allows none."""
    found = (column.name, "it must not be null") in _rules(_row(**{column.name: null}))

    assert found is not column.allows_nulls


@pytest.mark.parametrize("value", ["1,000.5", "$5", "1.", ".5", "NaN", "1_000", " 1"])
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.data_type == "decimal"], ids=lambda column: column.name)
def test_a_number_in_a_wrong_format(column: FocusColumn, value: str) -> None:
    """Numbers have no separators, signs of currency or blanks."""
    assert _rules(_row(**{column.name: value})) == [(column.name, f"{value!r} is no number in FOCUS' numeric format")]


@pytest.mark.parametrize("value", ["0", "-1.5", "1E-7", "12345.678e+2"])
def test_a_number_in_a_right_format(value: str) -> None:
    """Whole, negative and scientific numbers are allowed."""
    assert _rules(_row(BilledCost=value)) == []


@pytest.mark.parametrize(
    "value", ["2026-11-01", "2026-11-01 00:00:00", "2026-11-01T00:00:00+00:00", "2026-13-01T00:00:00Z", "soon"]
)
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.data_type == "time"], ids=lambda column: column.name)
def test_a_time_in_a_wrong_format(column: FocusColumn, value: str) -> None:
    """Times are UTC, to the second, with a Z."""
    ((name, rule),) = _rules(_row(**{column.name: value}))

    assert name == column.name
    assert "is no time" in rule


@pytest.mark.parametrize("value", ["eur", "EURO", "€", "XXX"])
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.format == "currency"], ids=lambda column: column.name)
def test_a_currency_that_is_none(column: FocusColumn, value: str) -> None:
    """Currencies are codes of ISO 4217."""
    assert _rules(_row(**{column.name: value})) == [(column.name, f"{value!r} is no currency of ISO 4217")]


@pytest.mark.parametrize("value", ["tokens", "1,000 Tokens", "Tokens per Hour", "0 Tokens", "Tokens/"])
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.format == "unit"], ids=lambda column: column.name)
def test_a_unit_in_a_wrong_format(column: FocusColumn, value: str) -> None:
    """Units are capitalised words, with a quantity before and a divisor behind."""
    assert _rules(_row(**{column.name: value})) == [(column.name, f"{value!r} is no unit in FOCUS' unit format")]


@pytest.mark.parametrize("value", ["Tokens", "1000000 Tokens", "GB-Hours", "GB/Hour", "10 Requests/2 Days"])
def test_a_unit_in_a_right_format(value: str) -> None:
    """A unit, a quantity of units, a product and a rate are allowed."""
    assert _rules(_row(PricingUnit=value)) == []


@pytest.mark.parametrize("value", ["{", "[]", '"a"', '{"a": {"b": 1}}', '{"a": [1]}'])
@pytest.mark.parametrize("column", [c for c in COLUMNS if c.data_type == "json"], ids=lambda column: column.name)
def test_keys_and_values_in_a_wrong_format(column: FocusColumn, value: str) -> None:
    """Tags and price details are one object with plain values."""
    assert [name for name, _ in _rules(_row(**{column.name: value}))] == [column.name]


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.allowed], ids=lambda column: column.name)
def test_a_value_that_is_not_allowed(column: FocusColumn) -> None:
    """A closed set admits no other value, not even in another case."""
    for value in ("Nonsense", column.allowed[0].upper()):
        ((name, rule),) = _rules(_row(**{column.name: value}))
        assert name == column.name
        assert rule.startswith(f"{value!r} is none of {column.allowed[0]}")


@pytest.mark.parametrize("column", [c for c in COLUMNS if c.allowed], ids=lambda column: column.name)
def test_every_value_that_is_allowed(column: FocusColumn) -> None:
    """Each value of a closed set passes its own rule."""
    for value in column.allowed:
        rules = dict(_rules(_row(**{column.name: value})))
        # A service category goes with other subcategories, which is a rule of its own.
        assert not rules.get(column.name, "").startswith(f"{value!r} is none of {column.allowed[0]},")


def test_an_unknown_column_needs_a_prefix() -> None:
    """Custom columns begin with x_."""
    assert _rules(_row(Colour="red")) == [("Colour", "the column is unknown; the name of a custom one begins with x_")]
    assert _rules(_row(x_Colour="red")) == []


@pytest.mark.parametrize(
    ("changes", "column", "rule"),
    [
        ({"ConsumedUnit": None}, "ConsumedQuantity", "it is set while ConsumedUnit is null"),
        ({"ConsumedQuantity": None}, "ConsumedUnit", "it is set while ConsumedQuantity is null"),
        ({"PricingUnit": None}, "PricingQuantity", "it is set while PricingUnit is null"),
        ({"RegionId": None, "AvailabilityZone": None}, "RegionName", "it is set while RegionId is null"),
        ({"RegionId": None, "RegionName": None}, "AvailabilityZone", "it is set while RegionId is null"),
        (
            {"CapacityReservationId": None},
            "CapacityReservationStatus",
            "it is set while CapacityReservationId is null",
        ),
        (
            {"CommitmentDiscountCategory": None},
            "CommitmentDiscountId",
            "it is set while CommitmentDiscountCategory is null",
        ),
        ({"ResourceId": None, "ResourceName": None}, "ResourceType", "it is set while ResourceId is null"),
        ({"SkuPriceId": None}, "SkuPriceDetails", "it is set while SkuPriceId is null"),
        ({"SubAccountId": None, "SubAccountType": None}, "SubAccountName", "it is set while SubAccountId is null"),
        ({"BillingPeriodEnd": "2026-11-01T00:00:00Z"}, "BillingPeriodEnd", "it is not after BillingPeriodStart"),
        ({"ChargePeriodEnd": "2026-10-01T00:00:00Z"}, "ChargePeriodEnd", "it is not after ChargePeriodStart"),
        ({"ServiceSubcategory": "Caching"}, "ServiceSubcategory", "'Caching' is none of 'AI and Machine Learning'"),
        ({"ListCost": "2.26"}, "ListCost", "it is not ListUnitPrice times PricingQuantity"),
        ({"ContractedCost": "9"}, "ContractedCost", "it is not ContractedUnitPrice times PricingQuantity"),
        (
            {"PricingQuantity": None, "PricingUnit": None},
            "PricingQuantity",
            "it must not be null for usage and purchases that are no correction",
        ),
        (
            {"ChargeCategory": "Tax", "CommitmentDiscountStatus": None},
            "PricingQuantity",
            "it must be null for taxes",
        ),
        ({"ChargeCategory": "Credit"}, "CommitmentDiscountStatus", "it must be null for what is no usage"),
    ],
)
def test_columns_contradict_each_other(changes: dict[str, Any], column: str, rule: str) -> None:
    """Units need quantities, names need ids, ends lie after starts, and costs are prices times quantities."""
    assert _rules(_row(**changes)) == [(column, rule)]


def test_a_correction_needs_no_price() -> None:
    """A late change has dollars without a quantity."""
    changes = dict.fromkeys(("PricingQuantity", "PricingUnit", "ConsumedQuantity", "ConsumedUnit"))
    assert _rules(_row(ChargeClass="Correction", ListCost="-1", **changes)) == []
