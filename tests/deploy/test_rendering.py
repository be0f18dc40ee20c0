"""The dashboards drawn by Grafana's own components in Chromium, from real servers' answers."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client import CollectorRegistry

from page_server import serve_page
from panel_queries import QueryRunner, View, annotation_queries, panels, variables
from render import build_page, faults, shoot
from tests.support.dashboard_data import SUBAGENT, play_deep_agent, play_demo
from tests.support.database_servers import PostgresServer, postgres_server
from tests.support.observability_servers import metrics_page, prometheus, scrape_config, until
from tests.support.programs import program
from tests.support.rule_files import RULES

pytestmark = [pytest.mark.slow, pytest.mark.browser]

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = {path.stem: path.read_text(encoding="utf-8") for path in sorted(GRAFANA.glob("eco2-*.json"))}
# Shortened for the test, as the demo's conversations are; a busy machine must not miss a scrape.
SCRAPE_SECONDS = 2
MINUTES = 10
EMPTY_IN_THE_DEMO = {"Alerts"}
# No queue, no ledger, no budget, no retriever, no judge, no streamed answer, no failure, one priced model.
EMPTY_IN_DEEPAGENTS = EMPTY_IN_THE_DEMO | {
    *("Recent requests", "Slow requests", "Failed requests", "Dearest requests", "Share of each budget used"),
    *("Budgets", "Estimated, and why", "Calls without a price", "Errors", "Failed calls", "Tools of the providers"),
}


class Servers(NamedTuple):
    """What the page asks: a Prometheus with the jobs ``demo`` and ``deep``, an empty one, and a ledger."""

    busy: str
    empty: str
    ledger: str


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the page once."""
    for name, package in (("node", "nodejs"), ("npm", "npm"), ("chromium", "chromium")):
        program(name, package=package)
    return build_page(tmp_path_factory.mktemp("page"))


@pytest.fixture(scope="module")
def database() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory, database: PostgresServer) -> Iterator[Servers]:
    """Play both applications while a Prometheus scrapes them."""
    demo, deep, ledger = CollectorRegistry(), CollectorRegistry(), database.new_database()
    every = f"{SCRAPE_SECONDS}s"
    with ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ECO2_LEDGER_SPOOL", str(tmp_path_factory.mktemp("spool")))
        targets = {
            "demo": [stack.enter_context(metrics_page(demo)).address],
            "deep": [stack.enter_context(metrics_page(deep)).address],
        }
        config = scrape_config(targets, every=every)
        busy = stack.enter_context(prometheus(tmp_path_factory.mktemp("busy"), config))
        empty = stack.enter_context(prometheus(tmp_path_factory.mktemp("empty"), scrape_config({}, every=every)))
        runner = stack.enter_context(QueryRunner(busy))
        play_demo(demo, lambda: scraped(runner), ledger=ledger)
        play_deep_agent(deep, lambda: scraped(runner))
        yield Servers(busy, empty, ledger)


def scraped(runner: QueryRunner) -> None:
    """Wait until Prometheus has scraped the current metrics of both applications."""
    now = time.time()

    def seen() -> bool:
        result = runner.get("query", query="timestamp(up) and up == 1")["result"]
        return len(result) == 2 and all(float(one["value"][1]) > now for one in result)

    until("a scrape", seen)


def drawn(
    page: Path,
    dashboards: dict[str, str],
    uid: str,
    prometheus_url: str,
    *,
    ledger: str = "",
    selected: dict[str, str] | None = None,
) -> dict[str, Any]:
    with serve_page(page, dashboards, prometheus=prometheus_url, ledger=ledger) as server:
        return shoot(page, server, uid, minutes=MINUTES, scrape_seconds=SCRAPE_SECONDS, selected=selected or {})


def panel_of(report: dict[str, Any], title: str) -> dict[str, Any]:
    (found,) = [panel for panel in report["panels"] if panel["title"] == title]
    return dict(found)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_the_demo_is_drawn_without_a_fault(page: Path, servers: Servers, uid: str) -> None:
    """No panel throws, rounds a number to 0, cuts a name, or is empty but for a listed few."""
    report = drawn(page, DASHBOARDS, uid, servers.busy, ledger=servers.ledger, selected={"job": "demo"})

    assert len(report["panels"]) == len(titles(uid))
    assert list(faults(report, may_be_empty=[*EMPTY_IN_THE_DEMO])) == []


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_an_application_of_deepagents_is_drawn_without_a_fault(page: Path, servers: Servers, uid: str) -> None:
    """The dashboards serve any application, and show its agents."""
    report = drawn(page, DASHBOARDS, uid, servers.busy, selected={"job": "deep"})

    assert list(faults(report, may_be_empty=[*EMPTY_IN_DEEPAGENTS])) == []
    if uid == "eco2-nodes":
        assert {"boss", SUBAGENT} <= {*panel_of(report, "Agents")["text"].split()}
        assert "waste_rag" not in panel_of(report, "Nodes")["text"]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_an_empty_prometheus_is_drawn_without_a_fault(page: Path, servers: Servers, uid: str) -> None:
    """Without any data no panel throws; each says that it has none, or shows 0."""
    report = drawn(page, DASHBOARDS, uid, servers.empty)

    assert list(faults(report, may_be_empty=titles(uid))) == []


def test_single_requests_are_drawn_from_the_ledger(page: Path, servers: Servers) -> None:
    """The row of traces shows requests with their job, duration and dollars; failed ones with their exception."""
    report = drawn(page, DASHBOARDS, "eco2-overview", servers.busy, ledger=servers.ledger)

    assert "OpenAIRateLimitError" in panel_of(report, "Failed requests")["text"]
    assert "success" not in panel_of(report, "Failed requests")["text"]
    assert "image_generation" in panel_of(report, "Dearest requests")["text"]
    assert "$0." in panel_of(report, "Dearest requests")["text"]


def titles(uid: str) -> Sequence[str]:
    rows = json.loads(DASHBOARDS[uid])["panels"]
    return [panel["title"] for row in rows for panel in (row.get("panels", ()) if row["type"] == "row" else (row,))]


def target(change: Callable[[dict[str, Any]], object]) -> Callable[[dict[str, Any]], None]:
    def broken(panel: dict[str, Any]) -> None:
        change(panel["targets"][0])

    return broken


def rounded(panel: dict[str, Any]) -> None:
    """Round all columns to whole numbers, as a panel's own decimals do."""
    panel["fieldConfig"]["defaults"]["decimals"] = 0


BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "refused": ("Nodes", target(lambda query: query.update(expr="sum(")), "'Nodes' throws: .*parse error"),
    "undefined": ("Nodes", target(lambda query: query.update(expr="$nobody")), "'Nodes' throws: .*not defined"),
    "rounded": ("Nodes", rounded, r"'Nodes' rounds: .* is shown as \$0"),
    "empty": (
        "Nodes",
        lambda panel: [query.update(expr="nobody_total") for query in panel["targets"]],
        "'Nodes' is empty",
    ),
    "no_component": ("Nodes", lambda panel: panel.update(type="piechart"), "'Nodes' throws: .*no part of"),
    "not_a_number": ("Nodes", target(lambda query: query.update(expr="sum by (node) (up) * NaN")), "'Nodes' shows NaN"),
}


def test_faults_are_found(page: Path, servers: Servers) -> None:
    """A panel that throws, is empty, or rounds its numbers to 0 is reported."""
    dashboard = json.loads(DASHBOARDS["eco2-nodes"])
    (panel,) = [one for one in panels(dashboard) if one["title"] == "Nodes"]
    dashboards = {}
    for name, (_, broken, _) in BROKEN.items():
        changed = copy.deepcopy(panel)
        broken(changed)
        dashboards[name] = json.dumps({**dashboard, "panels": [changed]})

    for name, (_, _, wanted) in BROKEN.items():
        found = "\n".join(faults(drawn(page, dashboards, name, servers.busy, selected={"job": "demo"})))
        assert found, name
        assert re.search(wanted, found), name


def test_a_release_is_marked(servers: Servers) -> None:
    """The annotations mark the first process of a version, and of its price data."""
    with QueryRunner(servers.busy) as runner:
        for text in DASHBOARDS.values():
            dashboard = json.loads(text)
            view = View(start=time.time() - 600, end=time.time(), scrape_seconds=SCRAPE_SECONDS)
            for mark in annotation_queries(dashboard):
                (series, *_) = runner.run(mark, variables(dashboard), view)
                assert series.points, mark["name"]


def test_the_showcase_runs_without_an_alert(tmp_path: Path) -> None:
    """No alert fires or is about to while every conversation of the demo plays without a fault."""
    registry = CollectorRegistry()
    rules = sorted(RULES.glob("*.yaml"))
    with metrics_page(registry) as scraped_page:
        config = scrape_config({"eco2-chat-worker": [scraped_page.address]}, every=f"{SCRAPE_SECONDS}s", rules=rules)
        with prometheus(tmp_path, config) as url, QueryRunner(url) as runner:

            def seen() -> None:
                now = time.time()
                query = 'timestamp(up{job="eco2-chat-worker"}) and up == 1'
                until(
                    "a scrape",
                    lambda: any(float(one["value"][1]) > now for one in runner.get("query", query=query)["result"]),
                )

            play_demo(registry, seen, with_faults=False)
            evaluated_after = time.time()
            until("every rule's evaluation", lambda: all_evaluated(runner, evaluated_after), seconds=300)
            alerts = runner.get("alerts")["alerts"]

    assert [(alert["labels"]["alertname"], alert["state"]) for alert in alerts] == []


def all_evaluated(runner: QueryRunner, since: float) -> bool:
    groups = runner.get("rules")["groups"]
    return all(datetime.fromisoformat(group["lastEvaluation"][:19] + "+00:00").timestamp() > since for group in groups)
