"""How values look: units, thresholds, colours, links. Shared by all kinds of panels."""

from __future__ import annotations

from typing import Any, Final, Literal, NamedTuple, TypeAlias

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.models import dashboard as models

__all__ = [
    "BLUE",
    "COLORS",
    "COUNT",
    "DATASOURCE",
    "GREEN",
    "GREY",
    "SOFT_MAX",
    "STATUSES",
    "Limits",
    "Link",
    "Since",
    "Unit",
    "by_name",
    "fixed",
    "thresholds",
    "unknown",
]

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
Unit: TypeAlias = Literal[
    "currencyUSD", "percentunit", "s", "short", "count", "suffix:/min", "suffix: tok/s", "suffix: tokens"
]
Since: TypeAlias = Literal["", "now/d", "now/M"]

GREEN, BLUE, GREY = "green", "blue", "#6E7077"
_YELLOW, _RED = "#EAB839", "red"
COLORS: Final = {
    "p50": GREEN,
    "p95": _YELLOW,
    "p99": _RED,
    "this week": BLUE,
    "a week before": GREY,
    "saved by reads": GREEN,
    "surcharge for writes": _RED,
}
"""Colours of series that are not named by a label."""
COUNT: Final = ("locale", 0)  # whole numbers, although Prometheus extrapolates
STATUSES: Final = {"success": GREEN, "error": _RED, "cancelled": _YELLOW, "interrupted": BLUE, "recovered": BLUE}
SOFT_MAX: Final[dict[Unit, float]] = {
    "currencyUSD": 0.01,
    "percentunit": 0.1,
    "s": 0.1,
    "short": 1,
    "count": 1,
    "suffix:/min": 1,
    "suffix: tok/s": 1,
    "suffix: tokens": 1,
}
"""The least top of an axis. Without it an axis of zeros ends at 100 dollars, or 10000%."""


class Limits(NamedTuple):
    """Thresholds for a warning and an alarm. With ``alarm`` below ``warning``, low values are bad."""

    warning: float
    alarm: float

    @property
    def steps(self) -> list[models.Threshold]:
        """Grafana's thresholds, lowest value first."""
        if self.alarm < self.warning:
            colors = [(None, _RED), (self.alarm, _YELLOW), (self.warning, GREEN)]
        else:
            colors = [(None, GREEN), (self.warning, _YELLOW), (self.alarm, _RED)]
        return [models.Threshold(value=value, color=color) for value, color in colors]


class Link(NamedTuple):
    """Target of a click on a series, a bar or a cell."""

    title: str
    url: str

    def as_option(self) -> dict[str, Any]:
        """Return the link as a field option."""
        return {"title": self.title, "url": self.url, "targetBlank": True}

    def as_builder(self) -> builders.DashboardLink:
        """Return the link as a panel's option."""
        return builders.DashboardLink(self.title).url(self.url).target_blank(True)


def thresholds(limits: Limits | None, *, base: str = GREEN) -> builders.ThresholdsConfig:
    """Return the thresholds of a panel; ``base`` is the colour of values below all limits."""
    steps = limits.steps if limits else [models.Threshold(value=None, color=base)]
    if limits and limits.alarm > limits.warning:
        steps[0].color = base
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def by_name() -> builders.FieldColor:
    """Return the colours by name: one name has one colour in all panels."""
    return builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC_BY_NAME)


def unknown(text: str) -> models.SpecialValueMap:
    """Return the mapping that shows a text in a neutral colour where a query has no series."""
    result = models.ValueMappingResult(text=text, color="text")
    options = models.DashboardSpecialValueMapOptions(match=models.SpecialValueMatch.NULL_AND_NAN, result=result)
    return models.SpecialValueMap(options=options)


def fixed(color: str) -> models.DynamicConfigValue:
    """Return an override that gives a series this colour."""
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})
