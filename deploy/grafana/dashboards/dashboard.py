"""A dashboard: its variables, its links to the others, and its panels in rows."""

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
"""The variable's default; it wants a project's address, ``https://smith.langchain.com/o/<id>/projects/p/<id>``."""

RUNBOOKS: Final = "https://github.com/eco2-team/eco2-callbacks/blob/main/deploy/runbooks"
"""Where the alerts' runbooks are; a placeholder until there is a public repository."""

_TAG: Final = "eco2"
_ALL: Final = models.VariableOption(text="All", value="$__all")
_CHOICES: Final[Mapping[str, tuple[str, str]]] = {
    "node": ("Node", "label_values(graph_node_runs_total, node)"),
    "intent": ("Intent", "label_values(chat_intent_total, intent)"),
    "model": ("Model", "label_values(llm_cost_dollars_total, model)"),
    "tenant": ("Tenant", "label_values(llm_cost_dollars_total, tenant_id)"),
}


class Row(NamedTuple):
    """Panels under a heading; they fill the grid's 24 columns from the left, line by line."""

    title: str
    panels: Sequence[Panel]


def langsmith(title: str, query: str) -> Link:
    """Return a link to the runs that a filter in LangSmith's query language finds, such as ``has(tags, "beta")``.

    Variables of Grafana's data links may stand in it, as ``${__field.labels.node}``.
    """
    escaped = quote(query.replace('"', r"\""), safe="${}")  # Grafana finds its variables before anything is decoded
    return Link(title, f"${{langsmith:raw}}?searchModel=%7B%22filter%22%3A%22{escaped}%22%7D")


def dashboard(uid: str, title: str, description: str, rows: Sequence[Row], *, since: str, refresh: str) -> str:
    """Return a dashboard's JSON, with the variables that its panels use; it asks anew every ``refresh``."""
    building = builders.Dashboard(title).uid(uid).description(description).tags([_TAG]).timezone("browser")
    building.time(since, "now").refresh(refresh).tooltip(models.DashboardCursorSync.CROSSHAIR)
    building.link(
        builders.DashboardLink("Eco2").type(models.DashboardLinkType.DASHBOARDS).tags([_TAG]).icon("external link")
        .include_vars(True).keep_time(True)
    )  # fmt: skip
    number = count(1)
    for row in rows:
        building.with_row(builders.Row(row.title).id(next(number)))
        for panel in row.panels:
            building.with_panel(panel.id(next(number)))
    text = json.dumps(building.build(), cls=JSONEncoder)
    building.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for name, (label, query) in _CHOICES.items():
        if f'=~\\"${name}\\"' in text:
            building.with_variable(_choice(name, label, query))
    if "${langsmith:raw}" in text:
        building.with_variable(_langsmith())
    return json.dumps(building.build(), cls=JSONEncoder, ensure_ascii=False, indent=2) + "\n"


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    choice = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    choice.multi(True).include_all(True).all_value(".*").current(_ALL)
    return choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def _langsmith() -> builders.TextBoxVariable:
    text = builders.TextBoxVariable("langsmith").label("LangSmith project").default_value(LANGSMITH)
    text.current(models.VariableOption(text=LANGSMITH, value=LANGSMITH))
    return text.description("The project's address in LangSmith, to which the links of nodes and intents lead.")
