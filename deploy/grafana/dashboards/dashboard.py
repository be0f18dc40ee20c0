"""Builds one dashboard: its variables, annotations, links to the other dashboards, and rows of panels."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import count
from typing import Any, Final, Literal, NamedTuple, TypeAlias
from urllib.parse import quote

from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import dashboard as models

from dashboards.annotations import build_annotations
from dashboards.panels import Panel
from dashboards.promql import JOBS, VARIABLES
from dashboards.styles import DATASOURCE, Link

__all__ = ["LANGSMITH", "LEDGER", "Filter", "Row", "dashboard", "langsmith"]

LANGSMITH: Final = "https://smith.langchain.com"
"""Default of the variable for the project's address, ``https://smith.langchain.com/o/<id>/projects/p/<id>``."""

LEDGER: Final = "grafana-postgresql-datasource"
"""Type of the data source that reads the ledger."""

Filter: TypeAlias = Literal["tenant", "agent", "node", "intent", "model", "target"]

_TAG: Final = "eco2"
_ALL: Final = models.VariableOption(text="All", value="$__all")
_TARGETS: Final[Mapping[str, tuple[str, str]]] = {
    "job": ("Job", "label_values(eco2_callbacks_info, job)"),
    "namespace": ("Namespace", "label_values(eco2_callbacks_info, namespace)"),
}
_FILTERS: Final[Mapping[Filter, tuple[str, str]]] = {
    "tenant": ("Tenant", "label_values(llm_cost_dollars_total, tenant_id)"),
    "agent": ("Agent", "label_values(graph_node_runs_total, agent_name)"),
    "node": ("Node", "label_values(graph_node_runs_total, node)"),
    "intent": ("Intent", "label_values(chat_intent_total, intent)"),
    "model": ("Model", "label_values(llm_cost_dollars_total, model)"),
}
# Bounds of both histograms of whole answers: the share within one is exact.
_BOUNDS: Final = (1, 2, 3, 5, 8, 10, 15, 20, 30, 60)
_DEFAULT_BOUND: Final = 5
_LABELS_OF: Final = {
    name: tuple(label for label, variable in VARIABLES.items() if variable == name) for name in {*VARIABLES.values()}
}


class Row(NamedTuple):
    """Panels under a heading. They fill the 24 columns of the grid from the left, line by line.

    The panels of a collapsed row run their queries only once it is opened.
    """

    title: str
    panels: Sequence[Panel]
    is_collapsed: bool = False


def langsmith(title: str, query: str) -> Link:
    """Return a link to the runs in LangSmith that match a filter.

    Args:
        title: Text of the link.
        query: Filter in LangSmith's query language, such as ``has(tags, "beta")``. It may contain variables of
            Grafana's data links, such as ``${__field.labels.node}``.
    """
    escaped = quote(query.replace('"', r"\""), safe="${}")  # Grafana replaces its variables before decoding
    return Link(title, f"${{langsmith:raw}}?searchModel=%7B%22filter%22%3A%22{escaped}%22%7D")


def dashboard(
    uid: str, title: str, description: str, rows: Sequence[Row], *, filters: Sequence[Filter], since: str, refresh: str
) -> str:
    """Return a dashboard's JSON.

    Args:
        uid: Uid of the dashboard, which other pages link to.
        title: Title of the dashboard.
        description: What it is for.
        rows: The rows.
        filters: The variables, beside data source, job and namespace. A panel follows those whose label its metrics
            have, and its description names them.
        since: Start of the time range.
        refresh: How often Grafana repeats the queries.
    """
    builder = builders.Dashboard(title).uid(uid).description(description).tags([_TAG]).timezone("browser")
    builder.time(since, "now").refresh(refresh).tooltip(models.DashboardCursorSync.CROSSHAIR)
    builder.link(
        builders.DashboardLink("Eco2").type(models.DashboardLinkType.DASHBOARDS).tags([_TAG]).icon("external link")
        .include_vars(True).keep_time(True)
    )  # fmt: skip
    number = count(1)
    for row in rows:
        heading = builders.Row(row.title).id(next(number)).collapsed(row.is_collapsed)
        for panel in row.panels if row.is_collapsed else ():
            heading.with_panel(panel.id(next(number)))
        builder.with_row(heading)
        for panel in () if row.is_collapsed else row.panels:
            builder.with_panel(panel.id(next(number)))
    text = json.dumps(builder.build(), cls=JSONEncoder)
    builder.with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
    for name, (label, query) in _TARGETS.items():
        builder.with_variable(_choice(name, label, query))
    for filtered in filters:
        builder.with_variable(_target() if filtered == "target" else _choice(filtered, *_FILTERS[filtered]))
    if f"${JOBS}" in text:
        builder.with_variable(_jobs())
    if "${ledger}" in text:
        builder.with_variable(builders.DatasourceVariable("ledger").label("Ledger").type(LEDGER))
    if "${langsmith:raw}" in text:
        builder.with_variable(_langsmith())
    content = json.loads(json.dumps(builder.build(), cls=JSONEncoder))
    content["annotations"] = {"list": build_annotations()}
    for built in _with_queries(content):
        _keep_filters(built, filters)
    return json.dumps(content, ensure_ascii=False, indent=2) + "\n"


def _with_queries(content: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in content["panels"]:
        yield from panel.get("panels", ()) if panel["type"] == "row" else (panel,)


def _keep_filters(panel: dict[str, Any], filters: Sequence[Filter]) -> None:
    """Drop the filters by variables that the dashboard lacks, and name the others in the panel's description."""
    for target in panel["targets"]:
        for variable, labels in _LABELS_OF.items():
            if variable not in filters and "expr" in target:
                target["expr"] = re.sub(rf'\b({"|".join(labels)})=~"\${variable}",', "", target["expr"])
    queries = json.dumps(panel["targets"])
    followed = [name for name in filters if re.search(rf"\$\{{?{name}\b", queries)]
    if followed:
        panel["description"] += f" Follows {', '.join(followed)}."


def _choice(name: str, label: str, query: str) -> builders.QueryVariable:
    return _listed(name, label, query).all_value(".*")


def _listed(name: str, label: str, query: str) -> builders.QueryVariable:
    choice = builders.QueryVariable(name).label(label).query(query).datasource(DATASOURCE)
    choice.multi(True).include_all(True).current(_ALL)
    return choice.refresh(models.VariableRefresh.ON_TIME_RANGE_CHANGED).sort(models.VariableSort.ALPHABETICAL_ASC)


def _jobs() -> builders.QueryVariable:
    """Return the variable whose All is the list of jobs: a value ``.*`` would select every process of a cluster."""
    return _listed(JOBS, "Jobs with a handler", _TARGETS["job"][1]).hide(models.VariableHide.HIDE_VARIABLE)


def _target() -> builders.CustomVariable:
    chosen = models.VariableOption(text=f"{_DEFAULT_BOUND} s", value=f"{_DEFAULT_BOUND}.0")
    variable = builders.CustomVariable("target").label("Target").current(chosen)
    return variable.values(", ".join(f"{bound} s : {bound}.0" for bound in _BOUNDS)).description(
        "How long an answer may take. The panels of shares within the target follow it."
    )


def _langsmith() -> builders.TextBoxVariable:
    text = builders.TextBoxVariable("langsmith").label("LangSmith project").default_value(LANGSMITH)
    text.current(models.VariableOption(text=LANGSMITH, value=LANGSMITH))
    return text.description("The project's address in LangSmith. Links of nodes, intents and requests open it.")
