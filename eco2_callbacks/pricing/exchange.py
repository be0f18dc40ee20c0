"""ExchangeRates: what a unit of a currency was worth in US dollars, day by day."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from datetime import date, timedelta
from decimal import Decimal, InvalidOperation
from pathlib import Path

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.pricing.cost import EXACT

__all__ = ["ExchangeRates", "check_currency"]

_COLUMNS = ("date", "currency", "usd_per_unit")
# Markets are closed on weekends and holidays. A longer gap is a hole in the file.
_MAX_AGE = timedelta(days=7)
_ONE = Decimal(1)


class ExchangeRates:
    """Dated exchange rates. There is no rate for all dates: each day takes that of its own, or of up to 7 days before.

    Args:
        usd_per_unit: By currency (ISO 4217), the dollars for one unit by day.

    Raises:
        ConfigError: If a currency is none, or a rate is not above 0.
    """

    def __init__(self, usd_per_unit: Mapping[str, Mapping[date, Decimal]]) -> None:
        self._rates: dict[str, tuple[list[date], list[Decimal]]] = {}
        for currency, by_day in usd_per_unit.items():
            check_currency(currency)
            for day, rate in by_day.items():
                if not isinstance(rate, Decimal) or not rate.is_finite() or rate <= 0:
                    raise ConfigError(
                        f"The exchange rate of {currency} on {day} is {rate!r}, wanted a Decimal above 0."
                    )
            days = sorted(by_day)
            self._rates[currency] = days, [by_day[day] for day in days]

    @classmethod
    def from_csv(cls, path: str | Path) -> ExchangeRates:
        """Read a file with the columns ``date,currency,usd_per_unit``.

        Raises:
            ConfigError: If it cannot be read, has other columns, a bad value, or two rates for one day.
        """
        import csv  # noqa: PLC0415  few applications have prices in another currency

        found: dict[str, dict[date, Decimal]] = {}
        try:
            with open(path, encoding="utf-8-sig", newline="") as file:
                reader = csv.DictReader(file)
                if tuple(reader.fieldnames or ()) != _COLUMNS:
                    raise ConfigError(
                        f"{str(path)!r} has the columns {list(reader.fieldnames or ())!r}, wanted {','.join(_COLUMNS)}."
                    )
                for row in reader:
                    try:
                        day, rate = date.fromisoformat(row["date"].strip()), Decimal(row["usd_per_unit"].strip())
                    except (ValueError, InvalidOperation, AttributeError) as error:
                        raise ConfigError(
                            f"{str(path)!r}, line {reader.line_num}: {row!r}, wanted a day like 2026-11-30, a currency "
                            "like EUR, and the dollars for one unit."
                        ) from error
                    by_day = found.setdefault((row["currency"] or "").strip().upper(), {})
                    if by_day.setdefault(day, rate) != rate:
                        raise ConfigError(f"{str(path)!r}, line {reader.line_num}: a second rate for {day}; keep one.")
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise ConfigError(
                f"The exchange rates {str(path)!r} cannot be read: {error}; name an existing CSV."
            ) from error
        return cls(found)

    def usd_per_unit(self, currency: str, day: date) -> Decimal:
        """Return the dollars for one unit of a currency on a day.

        Raises:
            ConfigError: If no rate is known for that day.
        """
        if currency == "USD":
            return _ONE
        days, rates = self._rates.get(currency, ([], []))
        place = bisect_right(days, day)
        if not place or day - days[place - 1] > _MAX_AGE:
            known = (
                f"known are {days[0]} to {days[-1]}"
                if days
                else f"known are {', '.join(sorted(self._rates)) or 'none'}"
            )
            raise ConfigError(
                f"There is no exchange rate of {currency!r} for {day} or the 7 days before; {known}. Add it to the "
                "file of exchange rates."
            )
        return rates[place - 1]

    def from_usd(self, usd: Decimal, currency: str, day: date) -> Decimal:
        """Return dollars in a currency at the rate of a day.

        Raises:
            ConfigError: If no rate is known for that day.
        """
        return usd if currency == "USD" else EXACT.divide(usd, self.usd_per_unit(currency, day))


def check_currency(currency: str) -> str:
    """Return a currency's code.

    Raises:
        ConfigError: If it is none of ISO 4217's form.
    """
    if not isinstance(currency, str) or len(currency) != 3 or not (currency.isascii() and currency.isupper()):
        raise ConfigError(f"The currency is {currency!r}, wanted a code of ISO 4217 such as 'EUR'.")
    return currency
