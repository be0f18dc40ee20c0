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
from panel_queries import View, panels, variables
from tests.support.metric_families import family_of
from tests.support.rule_files import faults as query_faults
from tests.support.rule_files import labels, selectors

ROOT = Path(__file__).parents[2]
GRAFANA = ROOT / "deploy" / "grafana"
UIDS = ("eco2-cost", "eco2-nodes", "eco2-overview", "eco2-streaming")
FILTERED_BY = {"node": "node", "subagent": "node", "intent": "intent", "model": "model", "tenant_id": "tenant"}
DOCUMENTED = set(
    re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", (ROOT / "docs" / "metrics.md").read_text(), re.MULTILINE)
)
LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")
LINK_LABEL = re.compile(r"\$\{__field\.labels\.(\w+)\}")


def load(uid: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GRAFANA / f"{uid}.json").read_text(encoding="utf-8"))
    return loaded


def faults(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the faults of a dashboard."""
    names = variables(dashboard)
    view = View(start=0, end=3600, selected={name: [f"the {name}"] for name in names})
    ids = [panel["id"] for panel in dashboard["panels"]]
    if len(set(ids)) != len(ids):
        yield f"two panels have one id: {ids}"
    for name in names:
        if not re.search(rf"\$\{{?{name}\b", json.dumps([dashboard["panels"], dashboard["templating"]])):
            yield f"nothing uses the variable {name}"
    for one, other in combinations(dashboard["panels"], 2):
        if _overlap(one["gridPos"], other["gridPos"]):
            yield f"{one['title']!r} and {other['title']!r} overlap"
    for panel in panels(dashboard):
        for fault in _panel_faults(panel):
            yield f"{panel['title']!r}: {fault}"
        for target in panel["targets"]:
            try:
                found = list(_target_faults(panel, target, view.interpolate(target["expr"], names)))
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
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "another data source"
    if not panel.get("targets"):
        yield "no query"


def _target_faults(panel: dict[str, Any], target: dict[str, Any], query: str) -> Iterator[str]:
    yield from query_faults(query)
    name = target.get("legendFormat", "")
    if not name:
        yield "no legend"
    shown = {*LEGEND_LABEL.findall(name), *LINK_LABEL.findall(json.dumps(panel["fieldConfig"]))}
    if missing := shown - labels(query):
        yield f"the legend or a link shows {sorted(missing)}, which the query drops"
    found = selectors(query)
    if not found:
        yield "no metric"
    for selector in found:
        if selector.name == "ALERTS":  # exported by Prometheus itself
            continue
        family = family_of(selector.name)
        if family is None:
            yield f"{selector.name} is none of the handler's"
            continue
        if family.name not in DOCUMENTED:
            yield f"{family.name} is not in docs/metrics.md"
        matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        for label in FILTERED_BY.keys() & set(family.labels):
            if matched.get(label) != f"the {FILTERED_BY[label]}":
                yield f"{selector.name} does not follow ${FILTERED_BY[label]}"


def test_there_are_four() -> None:
    """There are four dashboards, and their uids do not change, because other pages link to them."""
    assert tuple(sorted(build_dashboards())) == UIDS
    assert tuple(sorted(path.stem for path in GRAFANA.glob("*.json"))) == UIDS


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_is_as_built(uid: str) -> None:
    """The JSON is the current output of ``python deploy/grafana/build.py``."""
    assert (GRAFANA / f"{uid}.json").read_text(encoding="utf-8") == build_dashboards()[uid]
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
    "recorded_series": (query(lambda text: "node:chat_streams:increase15m"), "none of the handler's"),
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
    "no_query": (field("targets", []), "no query"),
    "own_data_source": (field("datasource", {"type": "prometheus", "uid": "mine"}), "another data source"),
    "too_wide": (field("gridPos", {"x": 18, "y": 900, "w": 12, "h": 8}), "wider than the grid"),
    "overlaps": (field("gridPos", {"x": 0, "y": 11, "w": 12, "h": 8}), "overlap"),
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
    for variable in queried:
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        assert label in family_of(name).labels  # type: ignore[union-attr]
        assert FILTERED_BY[label] == variable["name"]
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".*")
        assert variable["current"]["value"] == "$__all"


def test_overview_and_cost_have_every_variable() -> None:
    """Node, intent, model, tenant and data source can be selected."""
    for uid in ("eco2-overview", "eco2-cost"):
        assert {"datasource", "intent", "model", "node", "tenant"} <= {*variables(load(uid))}


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


@pytest.mark.parametrize("uid", ["eco2-cost", "eco2-nodes", "eco2-overview"])
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
