"""Numbers as Grafana writes them, by the unit of a panel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, Self

__all__ = ["Unit"]

_SECONDS = ((86400, "day"), (3600, "hour"), (60, "min"), (1, "s"), (1e-3, "ms"), (1e-6, "µs"))
_THOUSANDS = ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"))


class Unit(NamedTuple):
    """A unit of Grafana, and how many decimals it wants; None is as many as say something."""

    name: str
    decimals: int | None = None

    @classmethod
    def of(cls, panel: Mapping[str, Any]) -> Self:
        """Return a panel's unit."""
        defaults = panel["fieldConfig"]["defaults"]
        return cls(defaults["unit"], defaults.get("decimals"))

    def written(self, value: float) -> str:
        """Return a value with its unit."""
        if self.name == "currencyUSD":
            return f"-${_amount(-value)}" if value < 0 else f"${_amount(value)}"
        if self.name == "percentunit":
            return f"{_digits(value * 100)}%"
        if self.name == "s":
            scale, name = next((pair for pair in _SECONDS if abs(value) >= pair[0]), (1, "s"))
            return f"{_digits(value / scale)} {name}"
        if self.name == "locale":
            return f"{value:,.{self.decimals or 0}f}"
        return (
            f"{_short(value)}{self.name.removeprefix('suffix:')}" if self.name.startswith("suffix:") else _short(value)
        )


def _amount(value: float) -> str:
    return _short(value) if value >= 1000 else f"{value:.2f}" if value >= 1 or value == 0 else _digits(value)


def _short(value: float) -> str:
    scale, name = next((pair for pair in _THOUSANDS if abs(value) >= pair[0]), (1, ""))
    return f"{_digits(value / scale)}{name}"


def _digits(value: float) -> str:
    """Return a number with three digits that say something."""
    if value == 0 or abs(value) >= 1000:
        return f"{value:.0f}"
    text = f"{value:.3g}"
    text = f"{value:.8f}"[:10] if "e" in text else text
    return text.rstrip("0").rstrip(".") if "." in text else text
