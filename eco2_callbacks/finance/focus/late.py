"""Late usage: what a ledger has in months whose files were handed over, beyond those files.

A call can reach the ledger after its month was exported: from a spool that waited for its server, or by an import. The
file of a closed month stays as it was; the difference is a correction in a later month.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.finance.focus.charges import read_charges
from eco2_callbacks.finance.focus.files import read_focus
from eco2_callbacks.finance.focus.rows import Account, focus_rows
from eco2_callbacks.ledger import Backend, Period, read_calls
from eco2_callbacks.pricing import EXACT

__all__ = ["ClosedMonths"]

_STEP = Decimal("1e-12")
_ZERO = Decimal(0)
_LATE = "Late usage: "
# Rows that agree in these are the same charge.
_IDENTITY = (
    *("ChargePeriodStart", "ChargePeriodEnd", "SubAccountId", "ProviderName", "ServiceName", "ResourceId"),
    *("SkuId", "SkuMeter", "SkuPriceId", "SkuPriceDetails", "RegionId", "Tags"),
)
_QUANTITIES = ("ConsumedQuantity", "PricingQuantity")
_COSTS = ("ListCost", "ContractedCost", "EffectiveCost", "BilledCost", "PricingCurrencyEffectiveCost")

# The last one only tells what the others are made of; a file of an older version lacks it.
_AMOUNTS = (*_QUANTITIES, *_COSTS, "x_EstimatedCost")

_Row = Mapping[str, Any]
_Key = tuple[str, ...]


@dataclass(slots=True)
class ClosedMonths:
    """The months whose files were handed over. Their rows are kept in memory.

    Attributes:
        missing_charges: Charges of the files that the ledger has no longer, as after a prune; set by ``late_rows``.
    """

    account: Account
    per_call: bool
    missing_charges: int = 0
    # First moment of a month -> charge -> its amounts.
    _handed_over: dict[datetime, dict[_Key, list[Decimal]]] = field(default_factory=dict)
    # Files without rows: each stands for a month that it does not name.
    _empty_files: int = 0

    @classmethod
    def read(cls, files: Sequence[Path], account: Account, *, per_call: bool) -> ClosedMonths:
        """Return the months of some files; rows of late usage in them count for the month that they correct.

        Raises:
            ConfigError: If a file cannot be read, or was written with another currency or another kind of rows.
        """
        found = cls(account, per_call)
        for path in files:
            columns, rows = read_focus(path)
            if not rows and "BillingPeriodStart" not in columns:
                raise ConfigError(f"--closed {path} has no row and no column of FOCUS; name a file of eco2 focus.")
            found._empty_files += not rows
            for row in rows:
                found._add(path, row)
        return found

    def _add(self, path: Path, row: _Row) -> None:
        try:
            billed = _first_of_month(datetime.fromisoformat(row["BillingPeriodStart"]))
            self._handed_over.setdefault(billed, {})
            if row["ChargeClass"] and not _is_late(row):
                return  # a later price, which the ledger's ratings give again
            month = _first_of_month(datetime.fromisoformat(row["ChargePeriodStart"])) if _is_late(row) else billed
            currency, is_per_call = row["BillingCurrency"], bool(row["ResourceId"])
            _add_amounts(self._handed_over.setdefault(month, {}), row)
        except (KeyError, TypeError, ValueError, ArithmeticError) as error:
            raise ConfigError(
                f"--closed {path} has a row that is none of eco2 focus ({error!r}); see --check."
            ) from error
        if currency != self.account.currency:
            raise ConfigError(
                f"--closed {path} is in {currency!r}, this file would be in {self.account.currency!r}; pass the same "
                "--currency."
            )
        if is_per_call != self.per_call:
            written = "with --per-call" if is_per_call else "without --per-call"
            raise ConfigError(f"--closed {path} was written {written}; write this file likewise.")

    def late_rows(
        self, backend: Backend, period: Period, *, on_progress: Callable[[float], None] | None = None
    ) -> Iterator[dict[str, str | None]]:
        """Yield corrections for the billing month that a period is: what the ledger has beyond the files.

        Raises:
            ConfigError: If a file is missing between the first one and the period.
        """
        months = self._months(backend, period)
        for month in months:
            yield from self._late_rows(backend, month, period, on_progress)

    def _months(self, backend: Backend, period: Period) -> list[datetime]:
        """Return the months whose files were handed over, those of files without rows included."""
        first = min(self._handed_over, default=period.since)
        months = _months(first, period.since)
        others = [
            month
            for month in months
            if month not in self._handed_over and any(calls for _, calls in read_calls(backend, month, _next(month)))
        ]
        if len(others) > self._empty_files:
            for month in others:
                if self._has_charges(backend, month):
                    raise ConfigError(
                        f"--closed has no file of {month:%Y-%m}; name those of all months from the first one on."
                    )
        for _ in range(self._empty_files - len(others)):
            first = _first_of_month(first - timedelta(days=1))
            months.insert(0, first)
        return months

    def _has_charges(self, backend: Backend, month: datetime) -> bool:
        """Return whether a file of this month has rows; one of calls without a price has none."""
        charges = read_charges(backend, Period(month, _next(month), "UTC"), per_call=self.per_call)
        return any(not key.is_correction for part in charges for key in part.by_key)

    def _late_rows(
        self, backend: Backend, month: datetime, period: Period, on_progress: Callable[[float], None] | None
    ) -> Iterator[dict[str, str | None]]:
        handed_over = self._handed_over.get(month, {})
        present: dict[_Key, list[Decimal]] = {}
        rows: dict[_Key, dict[str, str | None]] = {}
        charges = read_charges(
            backend, Period(month, _next(month), "UTC"), per_call=self.per_call, on_progress=on_progress
        )
        for part in charges:
            for row in focus_rows(part, self.account):
                if not row["ChargeClass"]:
                    rows.setdefault(_add_amounts(present, row), row)
        for key in handed_over.keys() - present.keys():
            self.missing_charges += any(handed_over[key])
        for key, amounts in present.items():
            before = handed_over.get(key, [_ZERO] * len(amounts))
            change = [EXACT.subtract(amount, old) for amount, old in zip(amounts, before, strict=True)]
            if change[0] < 0:
                self.missing_charges += 1
            elif any(abs(amount) > _STEP for amount in change[:-1]):
                yield _late_row(rows[key], change, period)


def _is_late(row: _Row) -> bool:
    return str(row["ChargeDescription"] or "").startswith(_LATE)


def _add_amounts(sums: dict[_Key, list[Decimal]], row: _Row) -> _Key:
    key = tuple(str(row[name] or "") for name in _IDENTITY)
    present = sums.setdefault(key, [_ZERO] * len(_AMOUNTS))
    for place, name in enumerate(_AMOUNTS):
        stated = row.get(name) if name == _AMOUNTS[-1] else row[name]
        present[place] = EXACT.add(present[place], Decimal(str(stated or 0)))
    return key


def _late_row(row: Mapping[str, str | None], change: Sequence[Decimal], period: Period) -> dict[str, str | None]:
    """Return a row with the amounts that were not handed over; without quantities where only dollars changed."""
    late = {**row, **dict(zip(_AMOUNTS, map(_text, change), strict=True))}
    late["BillingPeriodStart"], late["BillingPeriodEnd"] = _time(period.since), _time(_next(period.since))
    late["ChargeClass"] = "Correction"
    late["ChargeDescription"] = f"{_LATE}{row['ChargeDescription']}"
    quantity = change[1]
    if not quantity:
        for name in (*_QUANTITIES, "ConsumedUnit", "PricingUnit"):
            late[name] = None
    for cost, price in (("ListCost", "ListUnitPrice"), ("ContractedCost", "ContractedUnitPrice")):
        amount = change[len(_QUANTITIES) + _COSTS.index(cost)]
        late[price] = _text(EXACT.divide(amount, quantity)) if quantity else None
        if late["BillingCurrency"] == late["PricingCurrency"] or not quantity:
            late[f"PricingCurrency{price}"] = late[price]
    return late


def _months(first: datetime, until: datetime) -> list[datetime]:
    found = []
    while first < until:
        found.append(first)
        first = _next(first)
    return found


def _first_of_month(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(day=1, hour=0, minute=0, second=0)


def _next(month: datetime) -> datetime:
    return (month + timedelta(days=32)).replace(day=1)


def _text(number: Decimal) -> str:
    text = f"{number.quantize(_STEP, context=EXACT):f}"
    return text.rstrip("0").rstrip(".") or "0"


def _time(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%SZ")
