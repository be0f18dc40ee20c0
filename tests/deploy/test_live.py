"""The dashboards and alerts on real servers: Prometheus scrapes the real handler of the real graph."""

from __future__ import annotations

import asyncio
import copy
import json
import math
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import Settings
from eco2_callbacks.prometheus import LEDGER_FAMILIES
from graph.app import make_handler
from graph.jobs import JobMetrics
from panel_queries import QueryRunner, Series, View, legend, panels, variables
from tests.support.busy_worker import conversations, trouble
from tests.support.metric_families import family_of, job_metrics
from tests.support.observability_servers import (
    alertmanager,
    metrics_page,
    prometheus,
    scrape_config,
    until,
    webhook,
)
from tests.support.programs import program
from tests.support.record_sink import Records
from tests.support.rule_files import RULES, rules, selectors

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
DASHBOARDS: dict[str, dict[str, Any]] = {
    path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted((DEPLOY / "grafana").glob("*.json"))
}
# Rows and numbers that nothing has happened for yet, and what the demo does not have: a queue, a refusing budget.
UNKNOWN = {
    *("Month forecast", "Yesterday", "Ledger lag", "Lost records", "Within the target", "First token p95"),
    *("Jobs waiting", "Queue and slots", "Fullest budget", "Latency", "The last hour, and the same a week ago"),
}
QUIET = {
    *("Yesterday", "Month forecast", "Ledger lag", "Lost records", "Jobs waiting", "Label overflow"),
}
JOB = "eco2-chat-worker"
NONE = re.compile(r"\bnone\b")
LEGEND_LABEL = re.compile(r"\{\{(\w+)\}\}")
ALERT = "WorkerGone"
# A scrape may take as long as the interval: on a busy machine a shorter one would miss scrapes, and WorkerGone fire.
SCRAPE_SECONDS = 2


class Moment(NamedTuple):
    """Prometheus as seen at one moment: the dashboards' range is from ``start`` to ``end``."""

    runner: QueryRunner
    start: float
    end: float

    def query(self, dashboard: Mapping[str, Any], target: Mapping[str, Any], **selected: Sequence[str]) -> list[Series]:
        """Return the result of a dashboard's query, with these values of its variables."""
        view = View(start=self.start, end=self.end, scrape_seconds=SCRAPE_SECONDS, selected=selected)
        return self.runner.run(target, variables(dashboard), view)


class History(NamedTuple):
    """The history of one process: it started, saw every event three times, disappeared and came back."""

    fresh: Moment
    busy: Moment
    gone: Moment
    fired: dict[str, Any]
    resolved: dict[str, Any]
    records: Records
    exposition: str


def scraped(runner: QueryRunner) -> None:
    """Wait until Prometheus has scraped the current metrics."""
    now = time.time()

    def seen() -> bool:
        result = runner.get("query", query="timestamp(up) and up == 1")["result"]
        return bool(result) and float(result[0]["value"][1]) > now

    until("a scrape", seen)


def hurried_rules(folder: Path) -> list[Path]:
    """Copy the rules, with WorkerGone firing after five missed scrapes."""
    copies = []
    for path in sorted(RULES.glob("*.yaml")):
        rules = yaml.safe_load(path.read_text(encoding="utf-8"))
        for rule in (rule for group in rules["groups"] for rule in group["rules"] if rule.get("alert") == ALERT):
            rule["for"] = f"{5 * SCRAPE_SECONDS}s"
        copies.append(folder / path.name)
        copies[-1].write_text(yaml.safe_dump(rules), encoding="utf-8")
    return copies


@pytest.fixture(scope="module")
def history(tmp_path_factory: pytest.TempPathFactory) -> Iterator[History]:
    """Scrape a worker from its start, and keep its moments for the tests to query."""
    registry, start = CollectorRegistry(), time.time() - 60
    receiver = {"name": "webhook", "webhook_configs": [{"url": "", "send_resolved": True}]}
    route = {"receiver": "webhook", "group_wait": "0s", "group_interval": "1s"}
    with ExitStack() as stack:
        stack.enter_context(make_handler(Settings(), registry=registry))
        jobs = JobMetrics(registry, slots=4)
        page = stack.enter_context(metrics_page(registry))
        hook = stack.enter_context(webhook())
        receiver["webhook_configs"][0]["url"] = hook.url  # type: ignore[index]
        alertmanager_url = stack.enter_context(
            alertmanager(tmp_path_factory.mktemp("alertmanager"), {"route": route, "receivers": [receiver]})
        )
        config = scrape_config(
            {JOB: [page.address]},
            every=f"{SCRAPE_SECONDS}s",
            rules=hurried_rules(tmp_path_factory.mktemp("rules")),
            alertmanagers=[alertmanager_url.removeprefix("http://")],
        )
        url = stack.enter_context(prometheus(tmp_path_factory.mktemp("prometheus"), config))
        runner = stack.enter_context(QueryRunner(url))
        scraped(runner)
        scraped(runner)
        fresh = Moment(runner, start, time.time())
        records = Records()
        for _ in range(3):  # a busy machine can miss the scrapes of one time
            records.all += trouble(registry, lambda: scraped(runner)).all
            records.all += asyncio.run(conversations(registry)).all
            jobs.started(0.2)
            jobs.ended("waste", "success", 2.5)
            scraped(runner)
        busy, exposition = Moment(runner, start, time.time()), generate_latest(registry).decode()
        page.alive = False
        (fired,) = until("the alert", lambda: hook.alerts("firing"))
        gone = Moment(runner, start, time.time())
        page.alive = True
        (resolved,) = until("the alert's end", lambda: hook.alerts("resolved"))
        yield History(fresh, busy, gone, fired, resolved, records, exposition)


def nameless(moment: Moment, dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the queries of a dashboard without a result, with a value that is no number, or with an unnamed series."""
    for panel in panels(dashboard):
        for target in panel["targets"]:
            series = moment.query(dashboard, target)
            what = f"{panel['title']!r} {target['refId']}"
            if not series and panel["type"] in {"stat", "timeseries"} and panel["title"] not in UNKNOWN | QUIET:
                yield f"{what} shows nothing"
            for one in series:
                shown = LEGEND_LABEL.findall(target["legendFormat"])
                if missing := [label for label in shown if not one.labels.get(label)]:
                    yield f"{what} has a series without {missing}: {dict(one.labels)}"
                if not all(math.isfinite(value) for _, value in one.points):
                    yield f"{what} has a point that is no number"


def idle(moment: Moment, dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the panels whose values are all 0, and the panels that show only ``none``."""
    for panel in panels(dashboard):
        found = [(target, series) for target in panel["targets"] for series in moment.query(dashboard, target)]
        if panel["title"] in QUIET:
            continue
        if all(NONE.search(" ".join(series.labels.values())) for _, series in found):
            yield f"{panel['title']!r} shows none"
        if not any(value > 0 for _, series in found for _, value in series.points):
            yield f"{panel['title']!r} shows nothing above 0"


def gaps(moment: Moment, dashboard: dict[str, Any]) -> Iterator[str]:
    """Yield the queries with gaps since the start, or with a value above 0 before the first event."""
    steps = math.floor((moment.end - moment.start) / SCRAPE_SECONDS) + 1
    for panel in panels(dashboard):
        for target in panel["targets"]:
            series = moment.query(dashboard, target)
            what = f"{panel['title']!r} {target['refId']}"
            if "interval" in panel or panel["type"] in {"table", "bargauge"} or panel["title"] in UNKNOWN:
                continue  # days, and rows of what has happened
            if len({at for one in series for at, _ in one.points}) < (1 if target.get("instant") else steps):
                yield f"{what} is blank"
            for one in series:
                # Nothing has failed, and one process runs.
                wanted = {"Success": {1.0}, "Processes": {0.0, 1.0}}.get(panel["title"], {0.0})
                if panel["title"] == "Age of the prices":
                    continue
                if found := {value for _, value in one.points} - wanted:
                    yield f"{what}: {legend(target, one.labels)} is {sorted(found)}"


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_busy_worker_is_seen(history: History, uid: str) -> None:
    """Every query yields named series of numbers, and every panel shows an event."""
    assert list(nameless(history.busy, DASHBOARDS[uid])) == []
    # Alerts fire only later, when the worker is gone.
    assert list(idle(history.busy, DASHBOARDS[uid])) == [
        fault
        for panel in panels(DASHBOARDS[uid])
        if {"ALERTS"} == metrics_of(panel, DASHBOARDS[uid])
        for fault in (f"{panel['title']!r} shows none", f"{panel['title']!r} shows nothing above 0")
    ]


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_a_fresh_worker_shows_zeros(history: History, uid: str) -> None:
    """Before the first event every query yields 0: no panel is blank, and no ratio is 0/0."""
    assert list(nameless(history.fresh, DASHBOARDS[uid])) == []
    assert list(gaps(history.fresh, DASHBOARDS[uid])) == []


def expressions(dashboard: Mapping[str, Any], panel: Mapping[str, Any]) -> list[str]:
    view = View(start=0, end=3600)
    return [view.interpolate(target["expr"], variables(dashboard)) for target in panel["targets"]]


def metrics(expression: str) -> set[str]:
    return {selector.name for selector in selectors(expression)}


def metrics_of(panel: Mapping[str, Any], dashboard: Mapping[str, Any]) -> set[str]:
    return {name for expression in expressions(dashboard, panel) for name in metrics(expression)}


def query(change: Callable[[str], str]) -> Callable[[dict[str, Any]], None]:
    """Return a function that changes the query of a dashboard's only panel."""

    def broken(target: dict[str, Any]) -> None:
        target["expr"] = change(target["expr"])

    return broken


BROKEN: dict[str, tuple[str, Callable[[dict[str, Any]], None], str]] = {
    "no_such_status": ("busy", query(lambda text: text.replace('"error"', '"eror"')), "shows nothing above 0"),
    "no_zero": ("fresh", query(lambda text: text.partition(" or on()")[0]), "shows nothing"),
    "zero_by_zero": ("fresh", query(lambda text: "vector(0) / vector(0)"), "no number"),
    "not_a_zero": ("fresh", query(lambda text: "vector(1)"), r"is \[1.0\]"),
    "starts_late": ("fresh", query(lambda text: "eco2_callbacks_open_runs"), "is blank"),
    "legend_of_a_missing_label": ("busy", lambda target: target.update(legendFormat="{{colour}}"), r"\['colour'\]"),
    "refused": ("busy", query(lambda text: text.replace("clamp_min(", "clump_min(")), "refused"),
}


@pytest.mark.parametrize(("moment", "broken", "fault"), BROKEN.values(), ids=BROKEN)
def test_a_fault_is_found(history: History, moment: str, broken: Callable[[dict[str, Any]], None], fault: str) -> None:
    """A panel that shows nothing, or a wrong value, is found."""
    dashboard = copy.deepcopy(DASHBOARDS["eco2-nodes"])
    dashboard["panels"] = [panel for panel in dashboard["panels"] if panel["title"] == "Error rate"]
    look: Moment = getattr(history, moment)
    check = idle if moment == "busy" else gaps
    assert [*nameless(look, dashboard), *check(look, dashboard)] == []

    broken(dashboard["panels"][0]["targets"][0])

    try:
        found = [*nameless(look, dashboard), *check(look, dashboard)]
    except RuntimeError as refusal:
        found = [str(refusal)]
    assert re.search(fault, "\n".join(found))


CHOICES = {
    "node": (["answer", "web_search"], {"node", "subagent"}),
    "intent": (["waste", "location"], {"intent"}),
    "model": (["gpt-5.2"], {"model"}),
    "tenant": (["seoul"], {"tenant_id"}),
}


@pytest.mark.parametrize("variable", CHOICES)
def test_a_variable_narrows_every_panel(history: History, variable: str) -> None:
    """With a selected value no panel shows another value of the label, and the selected one is shown."""
    chosen, labels = CHOICES[variable]

    def shown(**values: Sequence[str]) -> set[str]:
        results = (
            history.busy.query(dashboard, target, **values)
            for dashboard in DASHBOARDS.values()
            if variable in variables(dashboard)
            for panel in panels(dashboard)
            for target in panel["targets"]
        )
        found = [series.labels.items() for result in results for series in result]
        return {value for items in found for label, value in items if label in labels}

    assert shown(**{variable: chosen}) == {*chosen, "none"}
    assert shown() > {*chosen, "none"}


def test_a_variable_offers_what_was_seen(history: History) -> None:
    """A variable offers the values in the exposition."""
    offered = {}
    for variable in (one for dashboard in DASHBOARDS.values() for one in dashboard["templating"]["list"]):
        if variable["type"] == "query":
            name, label = re.fullmatch(r"label_values\((\w+), (\w+)\)", variable["query"]).groups()  # type: ignore[union-attr]
            offered[variable["name"]] = set(history.busy.runner.get(f"label/{label}/values", **{"match[]": name}))

    assert {"intent", "answer", "waste_rag", "feedback"} <= offered["node"]
    assert {"waste", "bulk_waste", "image_generation"} <= offered["intent"]
    assert {"gpt-5.2", "gemini-3-flash-preview", "eco2-large-1"} <= offered["model"]
    assert {"seoul", "busan", "jeju", "other"} == offered["tenant"]


def only_query(uid: str, title: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return a dashboard, and the query of its panel with this title."""
    ((target,),) = (panel["targets"] for panel in panels(DASHBOARDS[uid]) if panel["title"] == title)
    return DASHBOARDS[uid], target


def test_what_is_shown_as_spent_was_spent(history: History) -> None:
    """The cost shown is the sum of the records, except for extrapolation. Without first samples it would be too low."""
    spent = float(sum(call.cost.total_usd for call in history.records.calls if call.cost is not None))
    dashboard, target = only_query("eco2-overview", "Cost today")
    naive = {**target, "expr": "sum(increase(llm_cost_dollars_total[$__range]))"}

    # Query later: Prometheus extrapolates by the scrape interval, a large part of a process that ran for seconds.
    later = history.busy._replace(end=time.time())
    (shown,), (increase,) = later.query(dashboard, target), later.query(dashboard, naive)

    assert shown.last == pytest.approx(spent, rel=0.1)
    assert shown.last - increase.last > 0.001  # the dated model's series starts with its first cost


@pytest.mark.parametrize("uid", ["eco2-overview", "eco2-nodes"])
def test_a_latency_leads_to_its_trace(history: History, uid: str) -> None:
    """Panels with exemplars have some, and their label for the trace is the one in the data source's settings."""
    sources = yaml.safe_load((DEPLOY / "grafana" / "provisioning" / "datasources" / "eco2.yaml").read_text())
    (destination,) = sources["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"]
    with_exemplars = [
        (panel, target) for panel in panels(DASHBOARDS[uid]) for target in panel["targets"] if target.get("exemplar")
    ]

    assert with_exemplars
    for panel, target in with_exemplars:
        expression = View(start=0, end=3600).interpolate(target["expr"], variables(DASHBOARDS[uid]))
        times = {"start": str(history.busy.start), "end": str(history.busy.end)}
        exemplars = history.busy.runner.get("query_exemplars", query=expression, **times)
        traces = {
            exemplar["labels"].get(destination["name"]) for series in exemplars for exemplar in series["exemplars"]
        }
        assert traces, panel["title"]
        assert all(re.fullmatch(r"[0-9a-f]{32}", str(trace)) for trace in traces)


def test_an_alert_goes_out_and_ends(history: History) -> None:
    """When a worker is gone, Prometheus alerts Alertmanager, which notifies a webhook, and again when it is back."""
    for alert in (history.fired, history.resolved):
        assert alert["labels"]["alertname"] == ALERT
        assert alert["labels"]["severity"] == "page"
        assert alert["annotations"]["runbook_url"].endswith(f"/{ALERT}.md")
    assert (history.fired["status"], history.resolved["status"]) == ("firing", "resolved")
    assert history.fired["fingerprint"] == history.resolved["fingerprint"]


def test_the_overview_shows_what_fires(history: History) -> None:
    """The table shows the alert while the worker is gone, and none before."""
    dashboard, target = only_query("eco2-overview", "Alerts")

    (firing,) = history.gone.query(dashboard, target)
    before = history.busy.query(dashboard, target)

    assert (firing.labels["alertname"], firing.labels["severity"], firing.last) == (ALERT, "page", 1)
    assert before == []


def checked(exposition: str) -> tuple[int, str]:
    """Return promtool's exit status and output for an exposition."""
    done = subprocess.run(
        [program("promtool", package="prometheus"), "check", "metrics"],
        input=exposition,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def test_the_exposition_is_as_it_should_be(history: History) -> None:
    """Prometheus' own linter finds nothing, and it does find a wrong metric."""
    assert checked(history.exposition) == (0, "")

    status, output = checked(
        history.exposition + "# HELP eco2_seconds Seconds.\n# TYPE eco2_seconds counter\neco2_seconds 1\n"
    )
    assert status != 0
    assert "eco2_seconds" in output


def unknown(expressions: Sequence[tuple[str, str]], known: set[str], documented: set[str]) -> list[str]:
    """Return the metrics in named expressions that are not exported or not documented."""
    own = {"up", "ALERTS", "process_start_time_seconds"} | {name for name, _ in expressions if ":" in name}
    return [
        f"{name}: {metric}"
        for name, expression in expressions
        for metric in sorted(metrics(expression) - own)
        if metric not in known or documented_name(metric) not in documented
    ]


def documented_name(metric: str) -> str | None:
    """Return the name under which the documents list a sample: its family's."""
    family = family_of(metric)
    return job_metrics().get(metric) if family is None else family.name


def test_every_metric_is_exposed_and_documented(history: History) -> None:
    """All metrics in panels and rules are exposed, and in a table of the pages on metrics, serving or operations."""
    queried = [
        (f"{uid} {panel['title']}", expression)
        for uid, dashboard in DASHBOARDS.items()
        for panel in panels(dashboard)
        for expression in expressions(dashboard, panel)
    ]
    # A ledger's families appear with the ledger.
    ledger = [family.name for family in LEDGER_FAMILIES]
    known = {*history.busy.runner.get("label/__name__/values"), *job_metrics(), *ledger}
    pages = [
        (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8") for page in ("metrics", "serving", "operations")
    ]
    documented = set(re.findall(r"^\| `(\w+)` \|", "\n".join(pages), re.MULTILINE))

    ruled = [(rule.name, rule.expr) for rule in rules()]

    assert unknown([*queried, *ruled], known, documented) == []
    assert unknown([("a", "up / llm_costs_total")], known, documented) == ["a: llm_costs_total"]
    assert unknown([("a", "go_goroutines")], known | {"go_goroutines"}, documented) == ["a: go_goroutines"]
    assert unknown([("a", "chat_stream_active")], known, documented - {"chat_stream_active"})
    assert unknown([("a", "chat_stream_active")], known - {"chat_stream_active"}, documented)
    assert not unknown([("a", "chat_stream_active")], known, documented)
