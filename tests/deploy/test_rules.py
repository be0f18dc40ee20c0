"""Rules: each alert fires at its threshold and time, and uses only metrics and labels that exist."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.support.rule_files import DEPLOY, RULES, Rule, alerts, faults, labels, output_of, read, rules, selectors

TESTS = DEPLOY / "prometheus" / "tests"
JOB = "eco2-chat-worker"
GRAFANA = "https://grafana.eco2.example/d/"
RUNBOOK = "https://github.com/eco2-team/eco2-callbacks/blob/main/deploy/runbooks/{}.md"
DASHBOARDS = ("eco2-cost", "eco2-nodes", "eco2-overview", "eco2-streaming")
SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
COMPARISON = re.compile(r"(>=|>|==) (\d+(?:\.\d+)?)\b")
# Changes one rule, and returns whether it did.
Change = Callable[[dict[str, Any]], bool]


def seconds(duration: str) -> int:
    return sum(int(number) * SECONDS[unit] for number, unit in re.findall(r"(\d+)([smhdw])", duration))


def key(rule: Rule) -> tuple[str, str]:
    return rule.name, rule.labels["severity"]


def queries_in(text: str) -> list[str]:
    """Return the queries in an annotation."""
    return [query.replace("%q", '"x"') for query in re.findall(r'query \(?(?:printf )?"([^"]+)"', text)]


# --- the files


def test_the_rules_are_valid_and_unique() -> None:
    """Prometheus accepts every file without a warning."""
    output_of("promtool", "check", "rules", "--lint=all", "--lint-fatal", *sorted(RULES.rglob("*.yaml")))


def test_a_rule_that_cannot_be_parsed_is_found(tmp_path: Path) -> None:
    """The check above finds a rule that does not parse."""
    broken = tmp_path / "worker.yaml"
    broken.write_text((RULES / "worker.yaml").read_text().replace("== 0", "=="))

    assert "could not parse expression" in output_of("promtool", "check", "rules", broken, status=1)


def test_rules_name_only_what_is_exported() -> None:
    """Metrics, labels and bounds in rules and annotations are the handler's or a recording rule's."""
    found = []
    for rule in rules():
        found += [(rule.name, fault) for fault in faults(rule.expr)]
        for text in map(str, rule.annotations.values()):
            found += [(rule.name, fault) for query in queries_in(text) for fault in faults(query)]
            found += [(rule.name, label) for label in set(re.findall(r"\$labels\.(\w+)", text)) - labels(rule.expr)]

    assert found == []


@pytest.mark.parametrize(
    ("query", "found"),
    [
        pytest.param("rate(graph_node_run_total[5m])", ["no metric graph_node_run_total"], id="metric"),
        pytest.param("rate(graph_node_duration_seconds[5m])", ["no metric graph_node_duration_seconds"], id="suffix"),
        pytest.param("node:runs:increase15m", ["no metric node:runs:increase15m"], id="recorded"),
        pytest.param('chat_stream_active{node="a"}', ["no label node on chat_stream_active"], id="label"),
        pytest.param(
            'slo:events:increase1h{node="a"}', ["no label node on slo:events:increase1h"], id="recorded_label"
        ),
        pytest.param(
            'graph_node_duration_seconds_bucket{le="1"}',
            ["no bound 1 on graph_node_duration_seconds_bucket"],
            id="bound",
        ),
        pytest.param("sum by (model) (graph_node_runs_total)", ["no label model to aggregate by"], id="aggregation"),
        pytest.param("up / on (instance, node) graph_node_runs_total", ["no label node to match on"], id="matching"),
    ],
)
def test_what_is_not_exported_is_found(query: str, found: list[str]) -> None:
    """The check above finds unknown metrics, labels and bounds."""
    assert faults(query) == found


def test_rules_select_only_the_worker() -> None:
    """Every metric is selected by the job that prometheus.yml scrapes, so other jobs' series do not count."""
    config = read(DEPLOY / "prometheus" / "prometheus.yml")
    loose = [
        (rule.name, selector.name)
        for rule in rules()
        for selector in selectors(rule.expr)
        if ":" not in selector.name
        and ("job", JOB) not in [(matcher.name, matcher.value) for matcher in selector.matchers.matchers]
    ]

    assert loose == []
    assert [scraped["job_name"] for scraped in config["scrape_configs"]] == [JOB, "eco2-chat-api"]


def test_recorded_series_differ_by_the_service() -> None:
    """Two instances record the same names: each series carries its service, and each rule selects its own."""
    unmarked = [rule.name for rule in rules() if not rule.is_alert and rule.labels.get("service") != JOB]
    queries = [(rule.name, query) for rule in rules() for query in [rule.expr, *map(str, rule.annotations.values())]]
    loose = [
        (name, selector.name)
        for name, text in queries
        for query in ([text] if text in {rule.expr for rule in rules()} else queries_in(text))
        for selector in selectors(query)
        if ":" in selector.name
        and ("service", JOB) not in [(matcher.name, matcher.value) for matcher in selector.matchers.matchers]
    ]

    assert unmarked == []
    assert loose == []


def test_recorded_series_are_named_by_level_metric_and_operation_and_used() -> None:
    """Recorded series follow the naming convention, and an alert uses each of them."""
    recorded = {rule.name for rule in rules() if not rule.is_alert}
    used = " ".join([rule.expr for rule in rules()] + [str(rule.annotations) for rule in alerts()])

    assert [name for name in recorded if not re.fullmatch(r"[a-z]+(_[a-z]+)*:\w+:\w+", name)] == []
    assert recorded <= set(re.findall(r"\w+:\w+:\w+", used))


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: "-".join(key(rule)))
def test_an_alert_has_all_its_fields(rule: Rule) -> None:
    """Each alert has a duration, labels, a description with a number, and links. It outlives its worker."""
    link, _, variables = rule.annotations["dashboard_url"].removeprefix(GRAFANA).partition("?")

    assert seconds(rule.holds_for) > 0
    assert set(rule.labels) == {"severity", "team", "service"}
    assert rule.labels["severity"] in {"page", "ticket"}
    assert rule.labels["team"] in {"chat", "cost"}
    assert rule.labels["service"] == JOB
    assert set(rule.annotations) == {"summary", "description", "dashboard_url", "runbook_url"}
    assert re.search(r"\d|\$value|query", rule.annotations["description"])
    assert rule.annotations["runbook_url"] == RUNBOOK.format(rule.name)
    assert link in DASHBOARDS
    assert all(re.fullmatch(r"var-\w+=.*", variable) for variable in filter(None, variables.split("&")))
    # An alert that uses only `up` detects a dead worker itself.
    if {selector.name for selector in selectors(rule.expr)} != {"up"}:
        (gone,) = (alert for alert in alerts() if alert.name == "WorkerGone")
        assert seconds(rule.keeps_firing_for) > seconds(gone.holds_for)


def test_the_configuration_is_valid() -> None:
    """Prometheus accepts prometheus.yml, and finds the rule files and target files."""
    output = output_of("promtool", "check", "config", DEPLOY / "prometheus" / "prometheus.yml")

    assert f"{len(list(RULES.rglob('*.yaml')))} rule files found" in output
    assert "WARNING" not in output


def test_a_broken_configuration_is_found(tmp_path: Path) -> None:
    """The check above finds an unknown setting and a missing target file."""
    shutil.copytree(DEPLOY / "prometheus", tmp_path / "prometheus")
    config = tmp_path / "prometheus" / "prometheus.yml"
    (tmp_path / "prometheus" / "targets" / "worker.yaml").unlink()
    assert "WARNING" in output_of("promtool", "check", "config", config)

    config.write_text(config.read_text().replace("scrape_timeout", "scrape_patience"))
    assert "scrape_patience not found" in output_of("promtool", "check", "config", config, status=1)


# --- promtool's tests


def run_tests(files: Iterable[Path]) -> Iterator[str]:
    """Run promtool's unit tests in parallel, and yield the output of each that failed."""

    def failure(file: Path) -> str:
        try:
            output_of("promtool", "test", "rules", file)
        except AssertionError as error:
            return f"{file.name}: {error}"
        return ""

    with ThreadPoolExecutor(2) as pool:
        yield from filter(None, pool.map(failure, files))


@pytest.mark.slow
def test_every_alert_fires_when_it_should() -> None:
    """Promtool's tests pass: thresholds, times, dead workers, missing series, midnight, the first of a month."""
    assert list(run_tests(sorted(TESTS.glob("*.yaml")))) == []


def pairs(files: Iterable[Path]) -> dict[tuple[str, str], int]:
    """Return the alerts tested as silent at one evaluation and complete at the next, with the seconds in between."""
    found = {}
    written = {key(rule): rule for rule in alerts()}
    for file in files:
        content = read(file)
        step = seconds(content["evaluation_interval"])
        for test in content["tests"]:
            moments: dict[str, dict[int, list[Any]]] = {}
            for moment in test.get("alert_rule_test", []):
                moments.setdefault(moment["alertname"], {})[seconds(moment["eval_time"])] = moment["exp_alerts"]
            for name, expected in moments.items():
                for before, at in pairwise(sorted(expected)):
                    silent = {alert["exp_labels"]["severity"] for alert in expected[before]}
                    for alert in expected[at] if at - before == step else ():
                        fired = name, alert["exp_labels"]["severity"]
                        if (
                            fired[1] not in silent
                            and alert["exp_annotations"].keys() == written[fired].annotations.keys()
                        ):
                            found[fired] = step
    return found


def test_no_alert_is_without_a_test() -> None:
    """Each alert, by severity, is tested one evaluation before its time and at it, and without series."""
    (missing, *_) = read(TESTS / "missing_series.yaml")["tests"]
    silent = {moment["alertname"] for moment in missing["alert_rule_test"] if not moment["exp_alerts"]}

    assert pairs(TESTS.glob("*.yaml")).keys() == {key(rule) for rule in alerts()}
    assert silent == {rule.name for rule in alerts()}


def test_an_alert_without_a_test_is_found(tmp_path: Path) -> None:
    """The check above finds an alert whose silence is not tested one evaluation before it fires."""
    text = (TESTS / "streaming.yaml").read_text()
    (tmp_path / "streaming.yaml").write_text(
        text.replace("HighTokenLatency, eval_time: 29m", "HighTokenLatency, eval_time: 28m")
    )

    assert ("HighTokenLatency", "ticket") in pairs([TESTS / "streaming.yaml"])
    assert ("HighTokenLatency", "ticket") not in pairs([tmp_path / "streaming.yaml"])


# --- changed rules must fail promtool's tests


def broken(directory: Path, change: Change) -> list[Path]:
    """Change a copy of the rules, and return copies of the tests that use the changed files."""
    (directory / "rules").mkdir()
    shutil.copytree(TESTS, directory / "tests")
    changed = set()
    for file in RULES.glob("*.yaml"):
        content = read(file)
        changes = [change(rule) for group in content["groups"] for rule in group["rules"]]
        if any(changes):
            changed.add(f"../rules/{file.name}")
        (directory / "rules" / file.name).write_text(yaml.dump(content, Dumper=yaml.CSafeDumper))
    return [
        test for test in sorted((directory / "tests").glob("*.yaml")) if changed.intersection(read(test)["rule_files"])
    ]


def noticed(directory: Path, change: Change) -> set[tuple[str, str]]:
    """Return the alerts, by severity, that fire too often or too rarely after all rules are changed."""
    found = set()
    # These files test all alerts together, so they prove nothing about a single one.
    tests = [
        test
        for test in broken(directory, change)
        if test.stem not in {"dead_worker", "missing_series", "slo_recording"}
    ]
    for failure in run_tests(tests):
        for block in re.split(r"(?=alertname: \w+, time: )", failure)[1:]:
            wanted, got = block.partition("got:")[::2]
            name = block.removeprefix("alertname: ").partition(",")[0]
            for severity in ("page", "ticket"):
                if wanted.count(f'severity="{severity}"') != got.count(f'severity="{severity}"'):
                    found.add((name, severity))
    return found


def held(steps: int) -> Change:
    """Return a change that moves every alert's ``for`` by some evaluations of its test."""
    step = pairs(TESTS.glob("*.yaml"))

    def change(rule: dict[str, Any]) -> bool:
        if "alert" in rule:
            rule["for"] = f"{seconds(rule['for']) + steps * step[rule['alert'], rule['labels']['severity']]}s"
        return "alert" in rule

    return change


@pytest.mark.parametrize("steps", [pytest.param(-1, id="shorter"), pytest.param(1, id="longer")])
@pytest.mark.slow
def test_a_moved_time_is_noticed(tmp_path: Path, steps: int) -> None:
    """If any alert's ``for`` is one evaluation shorter or longer, its test fails."""
    assert noticed(tmp_path, held(steps)) == {key(rule) for rule in alerts()}


def moved(factor: float, at_zero: float, position: int) -> Change:
    """Return a change that moves the threshold at one position of each alert."""

    def change(rule: dict[str, Any]) -> bool:
        found = [*COMPARISON.finditer(rule["expr"])] if "alert" in rule else []
        if position >= len(found):
            return False
        at, number = found[position], float(found[position][2])
        number = number * factor if number else at_zero
        rule["expr"] = f"{rule['expr'][: at.start(2)]}{number:g}{rule['expr'][at.end(2) :]}"
        return True

    return change


@pytest.mark.parametrize("position", range(6))
@pytest.mark.parametrize(("factor", "at_zero"), [(1.25, 2.0), (0.75, -1.0)], ids=["higher", "lower"])
@pytest.mark.slow
def test_a_moved_threshold_is_noticed(tmp_path: Path, factor: float, at_zero: float, position: int) -> None:
    """If any threshold of any alert is a quarter higher or lower, its test fails."""
    wanted = {key(rule) for rule in alerts() if len(COMPARISON.findall(rule.expr)) > position}

    assert wanted
    assert noticed(tmp_path, moved(factor, at_zero, position)) == wanted


def test_every_threshold_is_moved() -> None:
    """Each alert has at least one threshold, and at most the six positions above."""
    assert {len(COMPARISON.findall(rule.expr)) for rule in alerts()} == {1, 2, 6}


@pytest.mark.slow
def test_an_alert_that_ends_with_its_worker_is_noticed(tmp_path: Path) -> None:
    """Without ``keep_firing_for`` an alert on a gauge ends before WorkerGone fires, and the test fails."""
    tests = broken(tmp_path, lambda rule: rule.pop("keep_firing_for", None) is not None)
    (failure,) = run_tests(test for test in tests if test.stem == "dead_worker")

    assert "TooManyActiveStreams" in failure


@pytest.mark.slow
def test_an_unguarded_ratio_is_noticed(tmp_path: Path) -> None:
    """Without its guard a ratio without events is not 0, and the test fails."""

    def unguard(rule: dict[str, Any]) -> bool:
        if "ratio" not in rule.get("record", ""):
            return False
        rule["expr"] = re.sub(r"\((\S+) > 0\)(\s+or .*)?", r"\1", rule["expr"])
        return True

    files = ["budgets", "cost", "errors", "latency", "slo_recording", "streaming"]
    tests = [test for test in broken(tmp_path, unguard) if test.stem in files]

    assert [failure.partition(".")[0] for failure in run_tests(tests)] == files
