"""Builds one dashboard: its variables, its links to the other dashboards, and its rows of panels."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from itertools import count
from typing import Final, NamedTuple
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.panels import DATASOURCE, Link, Panel

__all__ = ["LANGSMITH", "RUNBOOKS", "Row", "dashboard", "langsmith"]

LANGSMITH: Final = "https://smith.langchain.com"
"""Default of the variable for the project's address, ``https://smith.langchain.com/o/<id>/projects/p/<id>``."""

RUNBOOKS: Final = "https://github.com/eco2-team/eco2-callbacks/blob/main/deploy/runbooks"
"""Address of the alerts' runbooks. A placeholder until the repository is public."""

_TAG: Final = "eco2"
_ALL: Final = models.VariableOption(text="All", value="$__all")
_CHOICES: Final[Mapping[str, tuple[str, str]]] = {
    "node": ("Node", "label_values(graph_node_runs_total, node)"),
    "intent": ("Intent", "label_values(chat_intent_total, intent)"),
    "model": ("Model", "label_values(llm_cost_dollars_total, model)"),
    "tenant": ("Tenant", "label_values(llm_cost_dollars_total, tenant_id)"),
}


class Row(NamedTuple):
    """Panels under a heading. They fill the 24 columns of the grid from the left, line by line."""

    title: str
    panels: Sequence[Panel]


def langsmith(title: str, query: str) -> Link:
    """Return a link to the runs in LangSmith that match a filter.

    Args:
        title: Text of the link.
        query: Filter in LangSmith's query language, such as ``has(tags, "beta")``. It may contain variables of
            Grafana's data links, such as ``${__field.labels.node}``.
    """
    escaped = quote(query.replace('"', r"\""), safe="${}")  # Grafana replaces its variables before decoding
    return Link(title, f"${{langsmith:raw}}?searchModel=%7B%22filter%22%3A%22{escaped}%22%7D")


def dashboard(uid: str, title: str, description: str, rows: Sequence[Row], *, since: str, refresh: str) -> str:
    """Return a dashboard's JSON with the variables its panels use. Grafana repeats the queries every ``refresh``."""
    builder = builders.Dashboard(title).uid(uid).description(description).tags([_TAG]).timezone("browser")
    builder.time(since, "now").refresh(refresh).tooltip(models.DashboardCursorSync.CROSSHAIR)
    builder.link(
        builders.DashboardLink("Eco2").type(models.DashboardLinkType.DASHBOARDS).tags([_TAG]).icon("external link")
        .include_vars(True).keep_time(True)
    )  # fmt: skip
    number = count(1)
    for row in rows:
        builder.with_row(builders.Row(row.title).id(next(number)))
        for panel in row.panels:
            builder.with_panel(panel.id(next(number)))
    text = json.dumps(builder.build(), cls=JSONEncoder)
    builder.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for name, (label, query) in _CHOICES.items():
        if f'=~\\"${name}\\"' in text:
            builder.with_variable(_choice(name, label, query))
    if "${langsmith:raw}" in text:
        builder.with_variable(_langsmith())
    return json.dumps(builder.build(), cls=JSONEncoder, ensure_ascii=False, indent=2) + "\n"


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    choice = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    choice.multi(True).include_all(True).all_value(".*").current(_ALL)
    return choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def _langsmith() -> builders.TextBoxVariable:
    text = builders.TextBoxVariable("langsmith").label("LangSmith project").default_value(LANGSMITH)
    text.current(models.VariableOption(text=LANGSMITH, value=LANGSMITH))
    return text.description("The project's address in LangSmith. The links of nodes and intents open it.")
