"""Builds tables: one row per label set, columns of numbers, and a total where adding up means something."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from string import ascii_uppercase
from typing import Final, NamedTuple

from grafana_foundation_sdk.builders import common
from grafana_foundation_sdk.builders.table import Panel as TablePanel
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import Query, base_panel
from dashboards.styles import COUNT, Limits, Link, Unit

__all__ = ["Column", "table"]

_SUM: Final = "sum"
_LEAST_WIDTH: Final = 90
_MODEL_WIDTH: Final = 260  # pixels: the longest name of a model


class Column(NamedTuple):
    """A column of numbers in a table; ``adds_up`` where its sum stands in the total row."""

    title: str
    expression: str
    unit: Unit
    limits: Limits | None = None
    adds_up: bool = False


def table(
    title: str,
    description: str,
    by: Mapping[str, str],
    columns: Sequence[Column],
    *,
    links: Mapping[str, Link] | None = None,
    height: int = 8,
    width: int = 12,
) -> TablePanel:
    """Return a table with one row per label set.

    Args:
        title: Title of the panel.
        description: The question that the panel answers.
        by: Labels and the titles of their columns. Every column's query keeps these labels.
        columns: Columns of numbers. The table is sorted by the first, largest value first.
        links: Links of the cells, by column title.
        height: Rows of the grid.
        width: Columns of the grid.
    """
    queries = [Query(column.expression, column.title) for column in columns]
    panel = base_panel(
        TablePanel(), title, description, queries, columns[0].unit, tabular=True, width=width, height=height
    )
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
    panel.min_width(_LEAST_WIDTH)
    panel.sort_by([common.TableSortByFieldState().display_name(columns[0].title).desc(True)])
    for column in columns:
        panel.override_by_name(column.title, _cells(column))
    if "model" in by:
        panel.override_by_name(by["model"], [models.DynamicConfigValue("custom.width", _MODEL_WIDTH)])
    for name, link in (links or {}).items():
        panel.override_by_name(name, [models.DynamicConfigValue("links", [link.as_option()])])
    sums = [
        name
        for field, name in values.items()
        if name in {c.title for c in columns if c.adds_up}
        for name in (field, name)
    ]
    if sums:  # Grafana until 12.1; newer ones read each column's own footer
        panel.footer(common.TableFooterOptions().show(True).reducer([_SUM]).fields(sums).count_rows(False))
    return panel


def _cells(column: Column) -> list[models.DynamicConfigValue]:
    """Return a column's overrides. Without decimals of its own it would take over the panel's."""
    if column.unit == "count":
        found = [models.DynamicConfigValue("unit", COUNT[0]), models.DynamicConfigValue("decimals", COUNT[1])]
    else:
        found = [models.DynamicConfigValue("unit", column.unit)]
    if column.adds_up:
        found.append(models.DynamicConfigValue("custom.footer", {"reducers": [_SUM]}))
    if column.limits is None:
        return found
    steps = [step.to_json() for step in column.limits.steps]
    return [
        *found,
        models.DynamicConfigValue("thresholds", {"mode": "absolute", "steps": steps}),
        models.DynamicConfigValue("color", {"mode": "thresholds"}),
        models.DynamicConfigValue("custom.cellOptions", {"type": "color-text"}),
    ]
