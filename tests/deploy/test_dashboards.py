"""The dashboards' JSON: up to date, valid for Grafana, and consistent with the exported metrics."""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Callable, Iterator
from itertools import combinations
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from dashboards import build_dashboards
from eco2_mixin import load_config
from panel_queries import View, annotation_queries, panels, variables
from tests.support.metric_families import family_of, job_metrics
from tests.support.rule_files import alerts, labels, selectors, series_labels
from tests.support.rule_files import faults as query_faults

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
UIDS = ("eco2-cost", "eco2-nodes", "eco2-overview", "eco2-streaming")
FILTERED_BY = {
    "node": "node",
    "subagent": "node",
    "agent_name": "agent",
    "intent": "intent",
    "model": "model",
    "tenant_id": "tenant",
    "job": "job",
    "namespace": "namespace",
}
CONFIGS = [ROOT / "deploy" / "mixin" / f"chat-{server}.toml" for server in ("worker", "api")]
# Texts about prices, budgets, jobs and the ledger stand on pages of their own.
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
DOCUMENTED = {name for page in PAGES for name in re.findall(r"`(\w+)[`{]", page.read_text())}
TARGETS = {"job", "namespace"}
LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")
LINK_LABEL = re.compile(r"\$\{__field\.labels\.(\w+)\}")


def load(uid: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GRAFANA / f"{uid}.json").read_text(encoding="utf-8"))
    return loaded


def faults(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of a dashboard."""
    names = variables(dashboard)
    chosen = {name: [f"the {name}"] for name in names if name != "target"} | {"target": ["5.0"]}
    view = View(start=0, end=3600, selected=chosen)
    everything = [*dashboard["panels"], *(panel for row in dashboard["panels"] for panel in row.get("panels", ()))]
    ids = [panel["id"] for panel in everything]
    if len(set(ids)) != len(ids):
        yield f"two panels have one id: {ids}"
    for name in names:
        if not re.search(rf"\$\{{?{name}\b", json.dumps([dashboard["panels"], dashboard["templating"]])):
            yield f"nothing uses the variable {name}"
    for mark in annotation_queries(dashboard):
        for fault in _target_faults(mark, view.interpolate(mark["expr"], names), mark["legendFormat"], names):
            yield f"{mark['name']!r}: {fault}"
    for one, other in combinations(everything, 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']!r} and {other['title']!r} overlap"
    for panel in panels(dashboard):
        for fault in _panel_faults(panel):
            yield f"{panel['title']!r}: {fault}"
        for target in panel["targets"]:
            try:
                query = view.interpolate(target["expr"], names)
                found = list(_target_faults(panel, query, target.get("legendFormat", ""), names))
            except (LookupError, ValueError) as error:
                found = [str(error)]
            for fault in found:
                yield f"{panel['title']!r}: {fault}"


def _overlap(one: dict[str, int], other: dict[str, int]) -> bool:
    return (
        one["x"] < other["x"] + other["w"]
        and other["x"] < one["x"] + one["w"]
        and one["y"] < other["y"] + other["h"]
        and other["y"] < one["y"] + one["h"]
    )


def _panel_faults(panel: dict[str, Any]) -> Iterator[str]:
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if len(panel.get("description", "")) < 10:
        yield "no description"
    if panel["gridPos"]["x"] + panel["gridPos"]["w"] > 24:
        yield "wider than the grid"
    if not panel["description"].partition("?")[1]:
        yield "the description asks no question"
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "another data source"
    if not panel.get("targets"):
        yield "no query"


def _target_faults(panel: dict[str, Any], query: str, legend: str, names: list[str]) -> Iterator[str]:
    yield from query_faults(query)
    if not legend:
        yield "no legend"
    shown = {*LEGEND_LABEL.findall(legend), *LINK_LABEL.findall(json.dumps(panel.get("fieldConfig", {})))}
    if missing := shown - labels(query):
        yield f"the legend or a link shows {sorted(missing)}, which the query drops"
    found = selectors(query)
    if not found:
        yield "no metric"
    for selector in found:
        if selector.name == "ALERTS":  # exported by Prometheus itself
            continue
        if selector.name in ("process_start_time_seconds", "up"):
            # Every process of a cluster has these: with the job's ".*" a month of them is too much for Prometheus.
            matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
            if matched != {"job": "the jobs", "namespace": "the namespace"}:
                yield "processes without a handler are read"
            continue
        family = family_of(selector.name)
        name = family.name if family is not None else job_metrics().get(selector.name)
        if name is None:
            yield f"{selector.name} is exported by nobody"
            continue
        if name not in DOCUMENTED:
            yield f"{name} is in no document"
        matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        for label in FILTERED_BY.keys() & series_labels(selector.name):
            variable = FILTERED_BY[label]
            if matched.get(label) != f"the {variable}" and variable in names:
                yield f"{selector.name} does not follow ${variable}"
            elif variable in names and variable not in TARGETS and variable not in panel.get("description", variable):
                yield f"the description does not say that it follows {variable}"


def built() -> dict[str, str]:
    return dict(build_dashboards(*map(load_config, CONFIGS)))


def test_there_are_four() -> None:
    """There are four dashboards with at most 60 panels. Their uids do not change, because other pages link to them."""
    shown = [
        panel
        for uid in UIDS
        for panel in load(uid)["panels"]
        for panel in (panel.get("panels", ()) if panel["type"] == "row" else (panel,))
    ]

    assert tuple(sorted(built())) == UIDS
    assert tuple(sorted(path.stem for path in GRAFANA.glob("*.json"))) == UIDS
    assert len(shown) <= 60


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_is_as_built(uid: str) -> None:
    """The JSON is the current output of ``python deploy/grafana/build_dashboards.py``."""
    assert (GRAFANA / f"{uid}.json").read_text(encoding="utf-8") == built()[uid]
    assert load(uid)["uid"] == uid


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_is_without_fault(uid: str) -> None:
    """Every query parses and uses existing metrics and labels. Every panel has a description and a unit."""
    assert list(faults(load(uid))) == []


def query(change: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes the query of the panel under test."""

    def broken(dashboard: dict[str, Any]) -> None:
        target = dashboard["panels"][2]["targets"][0]
        target["expr"] = change(target["expr"])

    return broken


def field(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda dashboard: dashboard["panels"][2].update({name: value})


def setting(name: str, value: Any) -> Callable[[dict[str, Any]], None]:
    return lambda dashboard: dashboard["panels"][2]["fieldConfig"]["defaults"].update({name: value})


BROKEN = {
    "does_not_parse": (query(lambda text: text + ")"), "unexpected right parenthesis|parse"),
    "recorded_series": (query(lambda text: "node:chat_streams:increase15m"), "exported by nobody"),
    "bound_of_no_bucket": (
        query(lambda text: 'chat_feedback_score_bucket{le="0.65",node=~"$node"}'),
        "no bound 0.65",
    ),
    "metric_renamed": (query(lambda text: text.replace("_total", "_all")), "no metric graph_node"),
    "histogram_without_suffix": (query(lambda text: "graph_node_duration_seconds"), "no metric graph_node"),
    "label_of_no_series": (query(lambda text: text.replace("by (", "by (colour, ")), "no label colour"),
    "selects_no_series": (query(lambda text: text.replace("{", '{colour="red",')), "no label colour"),
    "legend_of_a_dropped_label": (query(lambda text: re.sub(r"by \([^)]*\)", "", text)), "which the query drops"),
    "ignores_a_variable": (query(lambda text: text.replace('node=~"$node"', 'node=~".*"')), r"does not follow \$node"),
    "undefined_variable": (query(lambda text: text.replace("$node", "$nodes")), "'nodes' of .* is not defined"),
    "no_metric": (query(lambda text: "vector(0)"), "no metric"),
    "no_unit": (setting("unit", ""), "no unit"),
    "no_description": (field("description", ""), "no description"),
    "no_question": (field("description", "The errors. Follows node."), "asks no question"),
    "every_process_of_a_cluster": (
        query(lambda text: 'process_start_time_seconds{job=~"$job",namespace=~"$namespace"}'),
        "processes without a handler are read",
    ),
    "ignores_the_job": (query(lambda text: text.replace('job=~"$job"', 'job=~".*"')), r"does not follow \$job"),
    "says_nothing_of_a_variable": (field("description", "Which fails? Follows agent."), "that it follows node"),
    "no_query": (field("targets", []), "no query"),
    "own_data_source": (field("datasource", {"type": "prometheus", "uid": "mine"}), "another data source"),
    "too_wide": (field("gridPos", {"x": 18, "y": 900, "w": 12, "h": 8}), "wider than the grid"),
    "overlaps": (field("gridPos", {"x": 0, "y": 2, "w": 12, "h": 8}), "overlap"),
    "id_used_twice": (field("id", 1), "two panels have one id"),
    "no_legend": (lambda dashboard: dashboard["panels"][2]["targets"][0].pop("legendFormat"), "no legend"),
    "link_to_a_dropped_label": (
        setting("links", [{"url": "x?${__field.labels.colour}"}]),
        r"shows \['colour'.*\], which the query drops",
    ),
    "unused_variable": (
        lambda dashboard: dashboard["templating"]["list"].append({"name": "colour"}),
        "nothing uses the variable colour",
    ),
}


@pytest.mark.parametrize(("broken", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_fault_is_found(broken: Callable[[dict[str, Any]], None], fault: str) -> None:
    """Every broken dashboard is reported with its fault."""
    dashboard = load("eco2-nodes")
    # A graph by node with a data link.
    dashboard["panels"][2] = copy.deepcopy(next(panel for panel in panels(dashboard) if panel["title"] == "Error rate"))
    dashboard["panels"][2] |= {"id": 900, "gridPos": {"x": 0, "y": 900, "w": 12, "h": 8}}
    assert list(faults(dashboard)) == []

    broken(dashboard)

    assert re.search(fault, "\n".join(faults(dashboard)))


@pytest.mark.parametrize("uid", UIDS)
def test_a_variable_offers_what_is_there(uid: str) -> None:
    """A variable offers one, several or all values of a label that its metric has. All includes empty values."""
    dashboard = load(uid)
    queried = [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]

    assert queried
    (jobs,) = [variable for variable in queried if variable["name"] == "jobs"]
    assert (jobs["hide"], jobs["multi"], jobs["includeAll"], jobs.get("allValue")) == (2, True, True, None)
    assert jobs["query"] == "label_values(eco2_callbacks_info, job)"
    for variable in queried:
        if variable is jobs:  # its All is the list of jobs
            continue
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        assert label in series_labels(name)
        assert FILTERED_BY[label] == variable["name"]
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".*")
        assert variable["current"]["value"] == "$__all"


def test_a_variable_stands_where_it_applies() -> None:
    """Job and namespace filter everything; a dashboard offers only further variables that its panels follow."""
    offered = {uid: [*variables(load(uid))] for uid in UIDS}

    assert all(names[:3] == ["datasource", "job", "namespace"] for names in offered.values())
    assert offered["eco2-cost"][3:] == ["tenant", "model", "jobs"]
    assert offered["eco2-nodes"][3:] == ["agent", "node", "jobs", "langsmith"]


def test_the_target_is_a_bound_of_both_histograms() -> None:
    """Each value of the target is a bucket's bound, so that the share within it is exact."""
    for uid in ("eco2-overview", "eco2-streaming"):
        (target,) = [one for one in load(uid)["templating"]["list"] if one["name"] == "target"]
        values = re.findall(r": ([\d.]+)", target["query"])
        assert target["current"]["value"] in values
        for value in values:
            for name in ("chat_request_duration_seconds_bucket", "chat_turnaround_seconds_bucket"):
                assert query_faults(f'{name}{{le="{value}"}}') == []


def test_no_column_takes_over_decimals() -> None:
    """In a table each column rounds for itself: the panel sets no decimals."""
    tables = [panel for uid in UIDS for panel in panels(load(uid)) if panel["type"] == "table"]

    assert tables
    assert [panel["title"] for panel in tables if "decimals" in panel["fieldConfig"]["defaults"]] == []


def test_an_empty_series_is_hidden_from_a_stack() -> None:
    """The series that keeps an empty graph's axes is not drawn, and an axis of zeros does not end at 10000%."""
    graphs = [panel for uid in UIDS for panel in panels(load(uid)) if panel["type"] == "timeseries"]

    for panel in graphs:
        (hidden,) = [
            prop["value"]
            for override in panel["fieldConfig"]["overrides"]
            for prop in override["properties"]
            if prop["id"] == "custom.hideFrom"
        ]
        defaults = panel["fieldConfig"]["defaults"]
        assert hidden == {"legend": True, "tooltip": True, "viz": True}, panel["title"]
        assert "max" in defaults or defaults["custom"]["axisSoftMax"] > 0, panel["title"]


def test_releases_and_price_changes_are_marked() -> None:
    """Every dashboard marks the first process of a release, and of new price data."""
    for uid in UIDS:
        assert [mark["name"] for mark in annotation_queries(load(uid))] == ["Releases", "Price data"]


def test_single_requests_come_from_the_ledger() -> None:
    """The row of traces is collapsed, and its requests link to LangSmith by their job id."""
    (row,) = [panel for panel in load("eco2-overview")["panels"] if panel.get("collapsed")]
    titles = [panel["title"] for panel in row["panels"]]
    urls = [link["url"] for panel in row["panels"] for link in property_of(panel, "Request", "links")]

    assert titles == ["Recent requests", "Slow requests", "Failed requests", "Dearest requests"]
    assert len(urls) == 4
    for url in urls:
        (model,) = parse_qs(urlsplit(url.replace("${langsmith:raw}", "https://x")).query)["searchModel"]
        assert 'eq(metadata_key, "job_id"), eq(metadata_value, "${__value.raw}")' in json.loads(model)["filter"]


def property_of(panel: dict[str, Any], column: str, name: str) -> Any:
    (found,) = [
        prop["value"]
        for override in panel["fieldConfig"]["overrides"]
        for prop in override["properties"]
        if override["matcher"]["options"] == column and prop["id"] == name
    ]
    return found


def test_alerts_lead_to_variables_that_exist() -> None:
    """An alert's link to a dashboard sets only variables of that dashboard."""
    for alert in alerts():
        uid, _, query = alert.annotations["dashboard_url"].rpartition("/")[2].partition("?")
        set_here = {part.partition("=")[0].removeprefix("var-") for part in query.split("&") if part}
        assert set_here <= {*variables(load(uid))}, alert.name


def test_an_alert_leads_to_its_runbook() -> None:
    """The alerts table links to the runbook address of the alert."""
    ((_, url),) = [link for link in links(load("eco2-overview")) if link[0] == "Alerts"]

    assert url == "https://github.com/eco2-team/eco2-callbacks/blob/main/deploy/runbooks/${__value.raw}.md"


def links(dashboard: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Yield the title and address of every data link."""
    for panel in panels(dashboard):
        config = panel["fieldConfig"]
        for link in config["defaults"].get("links", []):
            yield panel["title"], link["url"]
        for override in config.get("overrides", []):
            for prop in override["properties"]:
                if prop["id"] == "links":
                    yield from ((panel["title"], link["url"]) for link in prop["value"])


@pytest.mark.parametrize("uid", ["eco2-nodes", "eco2-overview"])
def test_a_click_leads_to_the_same_runs_in_langsmith(uid: str) -> None:
    """Data links hold a filter in LangSmith's query language, by the node's metadata or the documented tags."""
    found = list(links(load(uid)))
    documented = re.findall(r"`(\w+):<\w+>`", (ROOT / "docs" / "langsmith.md").read_text(encoding="utf-8"))

    assert found
    for title, url in found:
        if title == "Alerts":
            continue
        assert url.startswith("${langsmith:raw}?"), title
        (model,) = parse_qs(urlsplit(url.replace("${langsmith:raw}", "https://x")).query)["searchModel"]
        query = json.loads(model)["filter"]
        tag = re.findall(r'has\(tags, "(\w+):\$\{__[\w.]+\}"\)', query)
        node = re.findall(r'eq\(metadata_key, "langgraph_node"\), eq\(metadata_value, "\$\{__[\w.]+\}"\)', query)
        assert tag or node, query
        assert {*tag} <= {*documented}, query
        assert query.count("(") == query.count(")")


def provisioned(name: str) -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((GRAFANA / "provisioning" / name).read_text(encoding="utf-8"))
    return loaded


def test_the_data_sources_are_provisioned() -> None:
    """Prometheus is the default, has the scrape interval, and links exemplars to Jaeger by the handler's label."""
    sources = {source["type"]: source for source in provisioned("datasources/eco2.yaml")["datasources"]}

    prometheus, jaeger = sources["prometheus"], sources["jaeger"]
    assert (prometheus["url"], prometheus["isDefault"]) == ("http://prometheus:9090", True)
    assert jaeger["url"] == "http://jaeger:16686"
    (destination,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": jaeger["uid"]}
    assert re.fullmatch(r"\d+s", prometheus["jsonData"]["timeInterval"])


def test_the_dashboards_are_provisioned() -> None:
    """Grafana reads the dashboards from a folder, and its UI cannot change them."""
    (provider,) = provisioned("dashboards/eco2.yaml")["providers"]

    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
