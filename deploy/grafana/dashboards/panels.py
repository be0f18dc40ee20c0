"""Builds stats, graphs and bar gauges, each with its unit, legend and description."""

from __future__ import annotations

from collections.abc import Sequence
from string import ascii_uppercase
from typing import Final, NamedTuple, TypeAlias, TypeVar

from grafana_foundation_sdk.builders import common, prometheus
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders.bargauge import Panel as BarGaugePanel
from grafana_foundation_sdk.builders.stat import Panel as StatPanel
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.builders.timeseries import Panel as TimeseriesPanel
from grafana_foundation_sdk.models import common as options
from grafana_foundation_sdk.models import dashboard as models
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

from dashboards.promql import NONE, per_hour, quantile
from dashboards.styles import (
    COLORS,
    COUNT,
    DATASOURCE,
    GREY,
    SOFT_MAX,
    STATUSES,
    Limits,
    Link,
    Since,
    Unit,
    by_name,
    fixed,
    thresholds,
    unknown,
)

__all__ = ["Panel", "Query", "bar_gauge", "base_panel", "dollars_an_hour", "p95", "stat", "timeseries"]

Panel: TypeAlias = StatPanel | TimeseriesPanel | BarGaugePanel | TablePanel
_P = TypeVar("_P", StatPanel, TimeseriesPanel, BarGaugePanel, TablePanel)

_DAY: Final = "1d"


class Query(NamedTuple):
    """PromQL, and the legend of its series. ``{{label}}`` in the legend is replaced by the label's value."""

    expression: str
    legend: str


def p95(name: str, *by: str, **matchers: str) -> Query:
    """Return the query for a histogram's 95th percentile, by label set."""
    named = " ".join(f"{{{{{label}}}}}" for label in by)
    return Query(quantile(0.95, name, *by, **matchers), named or "p95")


def stat(
    title: str,
    description: str,
    query: Query,
    unit: Unit,
    *,
    limits: Limits | None = None,
    since: Since = "",
    shift: str = "",
    no_value: str = "",
    sparkline: bool = False,
    height: int = 4,
    width: int = 4,
) -> StatPanel:
    """Return a stat panel: one large number.

    Args:
        title: Title of the panel.
        description: The question that the panel answers.
        query: A query with one series.
        unit: Unit of the value.
        limits: Thresholds that colour the number.
        since: Time range of the panel instead of the dashboard's.
        shift: How far the range is moved back, such as ``1d/d``.
        no_value: Text where the query has no series.
        sparkline: Whether to draw the values over time behind the number.
        height: Rows of the grid.
        width: Columns of the grid.
    """
    panel = base_panel(
        StatPanel(), title, description, [query], unit, instant=not sparkline, width=width, height=height
    )
    panel.reduce_options(_last()).color_mode(options.BigValueColorMode.VALUE)
    panel.graph_mode(options.BigValueGraphMode.AREA if sparkline else options.BigValueGraphMode.NONE)
    panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS))
    # A number without limits is neither good nor bad.
    panel.thresholds(thresholds(limits, base="green" if limits else "text"))
    if no_value:
        panel.mappings([unknown(no_value)])
    if shift:  # Grafana would write: today so far, shifted
        panel.time_shift(shift).hide_time_override(True)
    return panel.time_from(since) if since else panel


def timeseries(
    title: str,
    description: str,
    queries: Sequence[Query],
    unit: Unit,
    *,
    limits: Limits | None = None,
    stacked: bool = False,
    daily: bool = False,
    since: Since = "",
    exemplars: bool = False,
    link: Link | None = None,
    max_value: float | None = None,
    width: int = 12,
) -> TimeseriesPanel:
    """Return a graph of series over time.

    Args:
        title: Title of the panel.
        description: The question that the panel answers.
        queries: Queries whose series are drawn.
        unit: Unit of the values.
        limits: Dashed lines.
        stacked: Whether the series add up.
        daily: Whether to draw one bar for each day.
        since: Time range of the panel instead of the dashboard's.
        exemplars: Whether to show single requests with their trace.
        link: Where a click on a series leads.
        max_value: Top of the axis.
        width: Columns of the grid.
    """
    panel = base_panel(TimeseriesPanel(), title, description, queries, unit, exemplars=exemplars, width=width, height=8)
    panel.min(0).line_width(1.5).fill_opacity(25 if stacked else 0).show_points(options.VisibilityMode.AUTO)
    panel.color_scheme(by_name()).tooltip(_all_values()).legend(_legend())
    if stacked:
        panel.stacking(common.StackingConfig().mode(options.StackingMode.NORMAL).group("A"))
    if daily:
        panel.draw_style(options.GraphDrawStyle.BARS).fill_opacity(80).line_width(1).interval(_DAY)
        panel.show_points(options.VisibilityMode.NEVER)
    if max_value is None:
        panel.axis_soft_max(limits.alarm * 1.2 if limits else SOFT_MAX[unit])
    else:
        panel.max(max_value)
    if limits is not None:
        panel.thresholds(thresholds(limits, base="transparent"))
        panel.thresholds_style(common.GraphThresholdsStyleConfig().mode(options.GraphThresholdsStyleMode.DASHED))
    if any(query.legend == "{{status}}" for query in queries):
        for status, color in STATUSES.items():
            panel.override_by_name(status, [fixed(color)])
    for query in queries:
        if query.legend in COLORS:
            panel.override_by_name(query.legend, [fixed(COLORS[query.legend])])
    # The series keeps an empty graph's axes. Drawn, it would lie along the top of a stack.
    hidden = models.DynamicConfigValue("custom.hideFrom", {"legend": True, "tooltip": True, "viz": True})
    panel.override_by_regexp(rf"/\b{NONE}\b/", [hidden, fixed(GREY)])
    if link:
        panel.data_links([link.as_builder()])
    return panel.time_from(since) if since else panel


def dollars_an_hour(
    name: str, label: str, *, of: str, who: str, link: Link | None = None, width: int = 12
) -> TimeseriesPanel:
    """Return the graph of what is spent an hour, stacked by a label.

    Args:
        name: A counter of dollars.
        label: The label whose values are the series.
        of: What the label names, for the title.
        who: The subject of the panel's question.
        link: Where a click on a series leads.
        width: Columns of the grid.
    """
    return timeseries(
        f"Dollars an hour by {of}",
        f"{who} spends, and since when? The area under the graph is the amount spent.",
        [Query(per_hour(name, label), f"{{{{{label}}}}}")],
        "currencyUSD",
        stacked=True,
        link=link,
        width=width,
    )


def bar_gauge(
    title: str,
    description: str,
    query: Query,
    unit: Unit,
    *,
    limits: Limits | None = None,
    link: Link | None = None,
    height: int = 8,
    width: int = 8,
) -> BarGaugePanel:
    """Return a bar gauge: one bar per series, in the colour of its name, or of the limits."""
    panel = base_panel(BarGaugePanel(), title, description, [query], unit, instant=True, width=width, height=height)
    panel.reduce_options(_last()).orientation(options.VizOrientation.HORIZONTAL).min(0)
    panel.display_mode(options.BarGaugeDisplayMode.BASIC).value_mode(options.BarGaugeValueMode.TEXT)
    panel.name_placement(options.BarGaugeNamePlacement.TOP).thresholds(thresholds(limits))
    # Otherwise two bars fill the panel, with names too large to fit.
    panel.sizing(options.BarGaugeSizing.MANUAL).min_viz_height(16).max_viz_height(40)
    panel.text(common.VizTextDisplayOptions().title_size(13).value_size(14))
    if limits is None:
        panel.color_scheme(by_name())
    else:
        panel.color_scheme(builders.FieldColor().mode(models.FieldColorModeId.THRESHOLDS)).max(limits.alarm)
    return panel.data_links([link.as_builder()]) if link else panel


def base_panel(
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
    """Return the panel with what all kinds have: texts, unit, size and queries."""
    panel.title(title).description(description).datasource(DATASOURCE).span(width).height(height)
    if unit == "count":
        panel.unit(COUNT[0])
        if not tabular:  # a table's columns would inherit it
            panel.decimals(COUNT[1])
    else:
        panel.unit(unit)
    for letter, query in zip(ascii_uppercase, queries, strict=False):
        target = prometheus.Dataquery().ref_id(letter).datasource(DATASOURCE)
        target.expr(query.expression).legend_format(query.legend)
        if tabular:
            target.format(PromQueryFormat.TABLE)
        if instant or tabular:
            target.instant()
        else:
            target.range().exemplar(exemplars and query.legend != NONE)
        panel.with_target(target)
    return panel


def _last() -> common.ReduceDataOptions:
    return common.ReduceDataOptions().calcs(["lastNotNull"]).values(False)


def _legend() -> common.VizLegendOptions:
    """Return a legend below the graph: beside it long names are cut."""
    legend = common.VizLegendOptions().show_legend(True).calcs([])
    return legend.display_mode(options.LegendDisplayMode.LIST).placement(options.LegendPlacement.BOTTOM)


def _all_values() -> common.VizTooltipOptions:
    return common.VizTooltipOptions().mode(options.TooltipDisplayMode.MULTI).sort(options.SortOrder.DESCENDING)
