"""Builds the panels of the dashboards, each with its unit, legend and description."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common, prometheus
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.bargauge import Panel as BarGaugePanel
from grafana_foundation_sdk.builders.piechart import Panel as PieChartPanel
from grafana_foundation_sdk.builders.piechart import PieChartLegendOptions
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeseriesPanel
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models import piechart as pie
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.promql import NONE, quantile

__all__ = [
    "DATASOURCE",
    "Column",
    "Limits",
    "Link",
    "Panel",
    "Query",
    "bar_gauge",
    "p50_and_p95",
    "pie_chart",
    "stat",
    "table",
    "timeseries",
]

DATASOURCE: Final = models.DataSourceRef(type_val="prometheus", uid="${datasource}")
Panel: TypeAlias = StatPanel | TimeseriesPanel | BarGaugePanel | PieChartPanel | TablePanel
Unit: TypeAlias = Literal[
    "currencyUSD", "percentunit", "s", "short", "count", "suffix:/min", "suffix: tok/s", "suffix: tokens"
]
Since: TypeAlias = Literal["", "now/d", "now/M"]
_P = TypeVar("_P", StatPanel, TimeseriesPanel, BarGaugePanel, PieChartPanel, TablePanel)

_GREEN, _YELLOW, _RED, _BLUE, _GREY = "green", "#EAB839", "red", "blue", "#6E7077"
_COUNT: Final = ("locale", 0)  # whole numbers, although Prometheus extrapolates
_NARROW: Final = 8  # grid columns; up to this width the legend goes below the graph
_STATUSES: Final = {"success": _GREEN, "error": _RED, "cancelled": _YELLOW, "interrupted": _BLUE, "recovered": _BLUE}


class Query(NamedTuple):
    """PromQL, and the legend of its series. ``{{label}}`` in the legend is replaced by the label's value."""

    expression: str
    legend: str


class Limits(NamedTuple):
    """Thresholds for a warning and an alarm. With ``alarm`` below ``warning``, low values are bad."""

    warning: float
    alarm: float

    @property
    def steps(self) -> list[models.Threshold]:
        """Grafana's thresholds, lowest value first."""
        if self.alarm < self.warning:
            colors = [(None, _RED), (self.alarm, _YELLOW), (self.warning, _GREEN)]
        else:
            colors = [(None, _GREEN), (self.warning, _YELLOW), (self.alarm, _RED)]
        return [models.Threshold(value=value, color=color) for value, color in colors]


class Link(NamedTuple):
    """Target of a click on a series, a bar or a cell."""

    title: str
    url: str

    def as_option(self) -> dict[str, Any]:
        """Return the link as a field option."""
        return {"title": self.title, "url": self.url, "targetBlank": True}


class Column(NamedTuple):
    """A column of numbers in a table."""

    title: str
    expression: str
    unit: Unit
    limits: Limits | None = None


def p50_and_p95(name: str, *by: str, **matchers: str) -> list[Query]:
    """Return queries for a histogram's median and 95th percentile, by label set."""
    named = " ".join(f"{{{{{label}}}}}" for label in by)
    return [Query(quantile(q, name, *by, **matchers), f"{named} {p}".strip()) for q, p in ((0.5, "p50"), (0.95, "p95"))]


def stat(
    title: str,
    description: str,
    query: Query,
    unit: Unit,
    *,
    limits: Limits | None = None,
    since: Since = "",
    sparkline: bool = False,
    height: int = 4,
    width: int = 4,
) -> StatPanel:
    """Return a stat panel: one large number.

    Args:
        title: Title of the panel.
        description: What the panel shows.
        query: A query with one series.
        unit: Unit of the value.
        limits: Thresholds that colour the number.
        since: Time range of the panel instead of the dashboard's.
        sparkline: Whether to draw the values over time behind the number.
        height: Rows of the grid.
        width: Columns of the grid.
    """
    panel = _panel(StatPanel(), title, description, [query], unit, instant=not sparkline, width=width, height=height)
    panel.reduce_options(_last()).color_mode(options.BigValueColorMode.VALUE)
    panel.graph_mode(options.BigValueGraphMode.AREA if sparkline else options.BigValueGraphMode.NONE)
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    panel.thresholds(_thresholds(limits))
    return panel.time_from(since) if since else panel


def timeseries(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: Unit,
    *,
    limits: Limits | None = None,
    stacked: bool = False,
    exemplars: bool = False,
    link: Link | None = None,
    max_value: float | None = None,
    width: int = 12,
) -> TimeseriesPanel:
    """Return a graph of series over time. Limits are dashed lines; exemplars are single requests with their trace."""
    panel = _panel(TimeseriesPanel(), title, description, queries, unit, exemplars=exemplars, width=width, height=8)
    panel.min(0).line_width(1.5).fill_opacity(25 if stacked else 8).show_points(options.VisibilityMode.AUTO)
    panel.color_scheme(_palette()).tooltip(_all_values()).legend(_legend(beside=width > _NARROW))
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if max_value is not None:
        panel.max(max_value)
    if limits is not None:
        panel.thresholds(_thresholds(limits, base="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    _color_statuses(panel, queries)
    # Without data the line at 0 stays visible, but its name would be noise.
    hidden = models.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": True, "viz": False})
    panel.override_by_regexp(rf"/\b{NONE}\b/", [hidden, _fixed(_GREY)])
    return panel.data_links([_link(link)]) if link else panel


def bar_gauge(
    title: str,
    description: str,
    query: Query,
    unit: Unit,
    *,
    limits: Limits | None = None,
    since: Since = "",
    link: Link | None = None,
    height: int = 8,
    width: int = 6,
) -> BarGaugePanel:
    """Return a bar gauge: one bar per series."""
    panel = _panel(BarGaugePanel(), title, description, [query], unit, instant=True, width=width, height=height)
    panel.reduce_options(_last()).orientation(options.VizOrientation.HORIZONTAL).min(0)
    panel.display_mode(options.BarGaugeDisplayMode.BASIC).value_mode(options.BarGaugeValueMode.TEXT)
    panel.thresholds(_thresholds(limits))
    if limits is None:
        panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.FIXED).fixed_color(_BLUE))
    else:
        panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)).max(limits.alarm)
    if since:
        panel.time_from(since)
    return panel.data_links([_link(link)]) if link else panel


def pie_chart(title: str, description: str, query: Query, unit: Unit, *, width: int = 8) -> PieChartPanel:
    """Return a pie chart with its values and percentages."""
    panel = _panel(PieChartPanel(), title, description, [query], unit, instant=True, width=width, height=8)
    panel.reduce_options(_last()).pie_type(pie.PieChartType.DONUT).color_scheme(_palette()).tooltip(_all_values())
    return panel.legend(
        PieChartLegendOptions()
        .display_mode(options.LegendDisplayMode.TABLE)
        .placement(options.LegendPlacement.RIGHT)
        .show_legend(True)
        .values([pie.PieChartLegendValues.VALUE, pie.PieChartLegendValues.PERCENT])
    )


def table(
    title: str,
    description: str,
    by: Mapping[str, str],
    columns: Sequence[Column],
    *,
    sort: str = "",
    links: Mapping[str, Link] | None = None,
    since: Since = "",
    height: int = 8,
    width: int = 12,
) -> TablePanel:
    """Return a table with one row per label set.

    Args:
        title: Title of the panel.
        description: What the panel shows.
        by: Labels and the titles of their columns. Every column's query keeps these labels.
        columns: Columns of numbers.
        sort: Title of the column to sort by, largest value first; by default the first of ``columns``.
        links: Links of the cells, by column title.
        since: Time range of the panel instead of the dashboard's.
        height: Rows of the grid.
        width: Columns of the grid.
    """
    queries = [Query(column.expression, column.title) for column in columns]
    panel = _panel(TablePanel(), title, description, queries, columns[0].unit, tabular=True, width=width, height=height)
    values = {f"Value #{letter}": column.title for letter, column in zip(ascii_uppercase, columns, strict=False)}
    if len(columns) == 1:
        values = {"Value": columns[0].title}
    names = {**by, **values}
    panel.with_transformation(models.DataTransformerConfig(id_val="merge", options={}))
    panel.with_transformation(
        models.DataTransformerConfig(
            id_val="organize",
            options={
                "excludeByName": {"Time": True},
                "indexByName": {name: index for index, name in enumerate(names)},
                "renameByName": names,
            },
        )
    )
    panel.sort_by([common.TableSortByFieldState().display_name(sort or columns[0].title).desc(True)])
    for column in columns:
        panel.override_by_name(column.title, list(_cells(column)))
    for name, link in (links or {}).items():
        panel.override_by_name(name, [models.DynamicConfigValue("links", [link.as_option()])])
    return panel.time_from(since) if since else panel


def _panel(
    panel: _P,
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: Unit,
    *,
    instant: bool = False,
    tabular: bool = False,
    exemplars: bool = False,
    width: int,
    height: int,
) -> _P:
    followed = sorted({name for query in queries for name in re.findall(r'=~"\$(\w+)"', query.expression)})
    panel.title(title).datasource(DATASOURCE).span(width).height(height)
    if unit == "count":
        panel.unit(_COUNT[0]).decimals(_COUNT[1])
    else:
        panel.unit(unit)
    panel.description(f"{description} Follows {', '.join(followed)}." if followed else description)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).datasource(DATASOURCE)
        target.expr(query.expression).legend_format(query.legend)
        if tabular:
            target.format(PromQueryFormat.TABLE)
        if instant or tabular:
            target.instant()
        else:
            target.range().exemplar(exemplars)
        panel.with_target(target)
    return panel


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _palette() -> builders.FieldColor:
    return builders.FieldColor().mode(models.FieldColorModeId.PALETTE_CLASSIC)


def _legend(*, beside: bool) -> common.VizLegendOptions:
    legend = common.VizLegendOptions().show_legend(True).calcs(["lastNotNull", "max"] if beside else ["lastNotNull"])
    if not beside:
        return legend.display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM)
    legend.display_mode(options.LegendDisplayMode.TABLE).placement(options.LegendPlacement.RIGHT)
    return legend.sort_by("Max").sort_desc(True)


def _all_values() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)


def _thresholds(limits: Limits | None, *, base: str = _GREEN) -> builders.ThresholdsConfig:
    steps = limits.steps if limits else [models.Threshold(value=None, color=base)]
    if limits and limits.alarm > limits.warning:
        steps[0].color = base
    return builders.ThresholdsConfig().mode(models.ThresholdsMode.ABSOLUTE).steps(steps)


def _color_statuses(panel: TimeseriesPanel, queries: Sequence[Query]) -> None:
    if any(query.legend == "{{status}}" for query in queries):
        for status, color in _STATUSES.items():
            panel.override_by_name(status, [_fixed(color)])


def _fixed(color: str) -> models.DynamicConfigValue:
    return models.DynamicConfigValue("color", {"mode": "fixed", "fixedColor": color})


def _cells(column: Column) -> Sequence[models.DynamicConfigValue]:
    if column.unit == "count":
        unit = [models.DynamicConfigValue("unit", _COUNT[0]), models.DynamicConfigValue("decimals", _COUNT[1])]
    else:
        unit = [models.DynamicConfigValue("unit", column.unit)]
    if column.limits is None:
        return unit
    steps = [step.to_json() for step in column.limits.steps]
    return [
        *unit,
        models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}),
        models.DynamicConfigValue("color", {"mode": "thresholds"}),
        models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
    ]


def _link(link: Link) -> builders.DashboardLink:
    return builders.DashboardLink(link.title).url(link.url).target_blank(True)
