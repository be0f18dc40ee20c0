"""The dashboards' JSON: as built, readable by Grafana, and true to the metrics that exist."""

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
NARROWED = {"node": "node", "subagent": "node", "intent": "intent", "model": "model", "tenant_id": "tenant"}
DOCUMENTED = set(
    re.findall(r"^\| `(\w+)` \| (?:counter|gauge|histogram)", (ROOT / "README.md").read_text(), re.MULTILINE)
)
LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")
LINK_LABEL = re.compile(r"\$\{__field\.labels\.(\w+)\}")


def load(uid: str) -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads((GRAFANA / f"{uid}.json").read_text(encoding="utf-8"))
    return loaded


def faults(dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield what is wrong with a dashboard."""
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
        if selector.name == "ALERTS":  # Prometheus' own
            continue
        family = family_of(selector.name)
        if family is None:
            yield f"{selector.name} is none of the handler's"
            continue
        if family.name not in DOCUMENTED:
            yield f"{family.name} is not in the README"
        matched = {matcher.name: matcher.value for matcher in selector.matchers.matchers}
        for label in NARROWED.keys() & set(family.labels):
            if matched.get(label) != f"the {NARROWED[label]}":
                yield f"{selector.name} does not follow ${NARROWED[label]}"


def test_there_are_four() -> None:
    """Their uids, by which other pages link to them, stand."""
    assert tuple(sorted(build_dashboards())) == UIDS
    assert tuple(sorted(path.stem for path in GRAFANA.glob("*.json"))) == UIDS


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_is_as_built(uid: str) -> None:
    """``python deploy/grafana/build.py`` would change nothing."""
    assert (GRAFANA / f"{uid}.json").read_text(encoding="utf-8") == build_dashboards()[uid]
    assert load(uid)["uid"] == uid


@pytest.mark.parametrize("uid", UIDS)
def test_a_dashboard_is_without_fault(uid: str) -> None:
    """Every query parses and rests on metrics and labels that exist; every panel says what it shows, in which unit."""
    assert list(faults(load(uid))) == []


def query(change: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    """Return what changes the first query of the second panel."""

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


@pytest.mark.parametrize(("broken", "said"), BROKEN.values(), ids=BROKEN)
def test_a_fault_is_found(broken: Callable[[dict[str, Any]], None], said: str) -> None:
    """Each way to break a dashboard is noticed, and said."""
    dashboard = load("eco2-nodes")
    # A graph by node that a click leads on from.
    dashboard["panels"][2] = copy.deepcopy(next(panel for panel in panels(dashboard) if panel["title"] == "Error rate"))
    dashboard["panels"][2] |= {"id": 900, "gridPos": {"x": 0, "y": 900, "w": 12, "h": 8}}
    assert list(faults(dashboard)) == []

    broken(dashboard)

    assert re.search(said, "\n".join(faults(dashboard)))


@pytest.mark.parametrize("uid", UIDS)
def test_a_variable_offers_what_is_there(uid: str) -> None:
    """Several values or all of them, from a label that its metric has; all is everything, also what has no value."""
    dashboard = load(uid)
    queried = [variable for variable in dashboard["templating"]["list"] if variable["type"] == "query"]

    assert queried
    for variable in queried:
        name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
        assert label in family_of(name).labels  # type: ignore[union-attr]
        assert NARROWED[label] == variable["name"]
        assert (variable["multi"], variable["includeAll"], variable["allValue"]) == (True, True, ".*")
        assert variable["current"]["value"] == "$__all"


def test_the_first_two_know_every_variable() -> None:
    """Node, intent, model, tenant and data source can be selected."""
    for uid in ("eco2-overview", "eco2-cost"):
        assert {"datasource", "intent", "model", "node", "tenant"} <= {*variables(load(uid))}


def test_an_alert_leads_to_its_runbook() -> None:
    """By the address that the alert itself gives."""
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
    """The address holds a filter in LangSmith's query language, for the node's metadata or the tags of the README."""
    found = list(links(load(uid)))
    documented = re.findall(r"`(\w+):<\w+>`", (ROOT / "README.md").read_text(encoding="utf-8"))

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
    """Prometheus is the default, knows the scrape interval, and its exemplars lead to Jaeger by the handler's label."""
    sources = {source["type"]: source for source in provisioned("datasources/eco2.yaml")["datasources"]}

    prometheus, jaeger = sources["prometheus"], sources["jaeger"]
    assert (prometheus["url"], prometheus["isDefault"]) == ("http://prometheus:9090", True)
    assert jaeger["url"] == "http://jaeger:16686"
    (destination,) = prometheus["jsonData"]["exemplarTraceIdDestinations"]
    assert destination == {"name": "trace_id", "datasourceUid": jaeger["uid"]}
    assert re.fullmatch(r"\d+s", prometheus["jsonData"]["timeInterval"])


def test_the_dashboards_are_provisioned() -> None:
    """Grafana reads them from a folder, and nobody's click changes them."""
    (provider,) = provisioned("dashboards/eco2.yaml")["providers"]

    assert provider["type"] == "file"
    assert provider["allowUiUpdates"] is False
    assert provider["options"]["path"] == "/var/lib/grafana/dashboards"
