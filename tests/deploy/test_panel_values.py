"""What panels show in situations of operation: Prometheus' own engine answers their queries over given series."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import yaml

from panel_queries import View, panels, variables
from tests.support.rule_files import DEPLOY, output_of

MINUTE = 60
TARGET = 'job="j",namespace="n",instance="a"'
NEW = 'job="j",namespace="n",instance="b"'


class Situation(NamedTuple):
    """Series of one sample a minute, and what a panel's query shows at the end of its range."""

    panel: str
    query: str
    series: dict[str, str]
    shown: dict[str, float]
    end_minutes: int = 120
    range_minutes: int = 60


COST = f'llm_cost_dollars_total{{{TARGET},provider="p",model="m",tenant_id="t"}}'
BUCKETS = {
    f'chat_request_duration_seconds_bucket{{{TARGET},intent="i",provider="p",le="1.0"}}': "0x59 9x61",
    f'chat_request_duration_seconds_bucket{{{TARGET},intent="i",provider="p",le="+Inf"}}': "0x59 9x61",
}
MONTH = 30 * 24 * 60
RUNS = {
    f'graph_node_runs_total{{{TARGET},node="n",agent_name="a",status="error"}}': "0x79 0+1x10 10x40",
    f'graph_node_runs_total{{{TARGET},node="n",agent_name="a",status="success"}}': "7x120",
}
LATE = {
    f'chat_request_duration_seconds_bucket{{{TARGET},intent="i",provider="p",le="5.0"}}': "0x120",
    f'chat_request_duration_seconds_count{{{TARGET},intent="i",provider="p"}}': "0x59 9x61",
}
SCRAPED, STARTED = f"eco2_callbacks_info{{{TARGET}}}", f"process_start_time_seconds{{{TARGET}}}"
SITUATIONS = {
    "prometheus_lost_its_data": Situation(
        "Cost today", "A", {SCRAPED: "_x90 1x30", STARTED: "_x90 60x30", COST: "_x90 5000x30"}, {"{}": 0}
    ),
    "prometheus_was_away": Situation(
        "Cost today",
        "A",
        {SCRAPED: "1x10 _x80 1x30", STARTED: "60x10 _x80 60x30", COST: "4000x10 _x80 5000x30"},
        {"{}": 0},
        end_minutes=131,
    ),
    "process_is_new": Situation(
        "Cost today", "A", {SCRAPED: "_x90 1x30", STARTED: "_x90 5390x30", COST: "_x90 5x30"}, {"{}": 5}
    ),
    "series_is_new": Situation("Cost today", "A", {SCRAPED: "1x120", STARTED: "60x120", COST: "_x90 5x30"}, {"{}": 5}),
    "handler_is_late": Situation(
        "Cost today",
        "A",
        {f"up{{{TARGET}}}": "1x120", SCRAPED: "_x89 1x31", STARTED: "60x120", COST: "_x90 5x30"},
        {"{}": 5},
    ),
    "process_was_unreachable": Situation(
        "Cost today",
        "A",
        {f"up{{{TARGET}}}": "1x10 0x79 1x30", STARTED: "60x10 _x80 60x30", COST: "4000x10 _x80 5000x30"},
        {"{}": 0},
        end_minutes=131,
    ),
    "start_is_not_exported": Situation("Cost today", "A", {SCRAPED: "_x90 1x30", COST: "_x90 5x30"}, {"{}": 5}),
    "no_request_has_no_latency": Situation("Latency", "A", BUCKETS, {}),
    "a_request_has_a_latency": Situation("Latency", "A", BUCKETS, {"{}": 0.5}, end_minutes=61),
    # Two points of a month lie 43 minutes apart. All runs and requests are between them.
    "a_short_failure_in_a_month": Situation("Error rate", "A", RUNS, {'{node="n"}': 1}, range_minutes=MONTH),
    "no_failure_in_an_hour": Situation("Error rate", "A", RUNS, {'{node="n"}': 0}),
    "a_short_latency_in_a_month": Situation("Latency", "A", BUCKETS, {"{}": 0.5}, end_minutes=90, range_minutes=MONTH),
    "a_short_delay_in_a_month": Situation(
        "Within the target, by intent", "A", LATE, {'{intent="i"}': 0}, end_minutes=90, range_minutes=MONTH
    ),
    "a_week_ago_is_unknown": Situation("The last hour, and the same a week ago", "B", {COST: "5x120"}, {}),
    "a_week_ago_was_free": Situation(
        "The last hour, and the same a week ago", "B", {COST: "5x10200"}, {"{}": 0}, end_minutes=10200
    ),
    "refused_before_the_first_scrape": Situation(
        "Budgets", "E", {f'budget_refused_calls_total{{{NEW},budget="b"}}': "_x90 3x30"}, {'{budget="b"}': 3}
    ),
    "lost_before_the_first_scrape": Situation(
        "Lost records",
        "A",
        {f'ledger_lost_rows_total{{{NEW},backend="sqlite",reason="corrupt"}}': "_x90 3x30"},
        {"{}": 3},
    ),
    "a_budget_of_nothing_is_used_up": Situation(
        "Fullest budget",
        "A",
        {f'budget_{what}_dollars{{{TARGET},budget="b",window="day"}}': "0x120" for what in ("limit", "spent")},
        {"{}": 1},
    ),
    "no_ledger": Situation("Lost records", "A", {SCRAPED: "1x120"}, {}),
    "prices_of_several_processes": Situation(
        "Processes",
        "A",
        {
            f'eco2_callbacks_info{{{TARGET},version="1",prices_version="{day}"}}': f"{now}x120"
            for day, now in ((1, 0), (2, 1))
        },
        {"{}": 1},
    ),
}


def query_of(title: str, ref: str) -> tuple[str, list[str]]:
    """Return a panel's query, and the names of its dashboard's variables."""
    dashboards: list[dict[str, Any]] = [
        json.loads(path.read_text("utf-8")) for path in (DEPLOY / "grafana").glob("eco2-*.json")
    ]
    (found,) = [
        (target["expr"], variables(dashboard))
        for dashboard in dashboards
        for panel in panels(dashboard)
        for target in panel["targets"]
        if (panel["title"], target["refId"]) == (title, ref)
    ]
    return found


@pytest.mark.parametrize("situation", SITUATIONS.values(), ids=SITUATIONS)
def test_a_panel_shows_the_right_number(situation: Situation, tmp_path: Path) -> None:
    """Prometheus lost its data or was away, a process or series is new, nothing happened, or nothing is known."""
    expression, names = query_of(situation.panel, situation.query)
    end = situation.end_minutes * MINUTE
    start = end - situation.range_minutes * MINUTE
    expression = View(start=start, end=end, scrape_seconds=60).interpolate(expression, names)
    test = {
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": name, "values": values} for name, values in situation.series.items()],
                "promql_expr_test": [
                    {
                        "expr": expression,
                        "eval_time": f"{situation.end_minutes}m",
                        "exp_samples": [
                            {"labels": labels, "value": value} for labels, value in situation.shown.items()
                        ],
                    }
                ],
            }
        ],
    }
    (tmp_path / "test.yaml").write_text(yaml.safe_dump(test), "utf-8")

    assert "SUCCESS" in output_of("promtool", "test", "rules", tmp_path / "test.yaml")
