"""VictoriaMetrics answers the panels' queries: it speaks PromQL with some differences."""

from __future__ import annotations

import asyncio
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import httpx2
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from panel_queries import QueryRunner, Series, View, annotation_queries, panels, variables
from tests.support.busy_worker import conversations
from tests.support.observability_servers import until
from tests.support.programs import free_port, program

pytestmark = pytest.mark.slow

GRAFANA = Path(__file__).parents[2] / "deploy" / "grafana"
DASHBOARDS = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(GRAFANA.glob("eco2-*.json"))}
STEP_SECONDS = 15


class Stored(NamedTuple):
    """The server's answers, and the time of the last scrape."""

    runner: QueryRunner
    last: float


@pytest.fixture(scope="module")
def victoria(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stored]:
    """Run VictoriaMetrics with the metrics of the demo, as scrapes of four minutes would store them."""
    port, data = free_port(), tmp_path_factory.mktemp("victoria")
    command = [
        program("victoria-metrics", package="victoria-metrics"),
        *(f"-httpListenAddr=127.0.0.1:{port}", f"-storageDataPath={data}"),
        *("-search.latencyOffset=0s", "-search.disableCache"),
    ]
    url = f"http://127.0.0.1:{port}"
    registry = CollectorRegistry()
    with (data / "log").open("wb") as log, subprocess.Popen(command, stdout=log, stderr=log) as process:
        try:
            until("VictoriaMetrics", lambda: answers(process, f"{url}/health"))
            now = time.time()
            for scrape in range(16, -1, -1):
                if scrape in {12, 4}:
                    asyncio.run(conversations(registry))
                write(url, generate_latest(registry), at=now - scrape * STEP_SECONDS)
            # Samples become visible in parts, up to seconds after they were accepted.
            httpx2.get(f"{url}/internal/force_flush", timeout=60).raise_for_status()
            with QueryRunner(url) as runner:
                yield Stored(runner, now)
        finally:
            process.terminate()
            process.wait(60)


def answers(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "VictoriaMetrics has ended"
    try:
        with urllib.request.urlopen(url, timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def write(url: str, exposition: bytes, *, at: float) -> None:
    """Store an exposition with the labels of a target."""
    path = f"{url}/api/v1/import/prometheus?extra_label=job=demo&extra_label=instance=a&timestamp={at * 1000:.0f}"
    httpx2.post(path, content=exposition, timeout=60).raise_for_status()


def run(stored: Stored, uid: str, target: dict[str, object]) -> list[Series]:
    # The last scrape, not the time now: other tests can run in between.
    view = View(start=stored.last - 600, end=stored.last, scrape_seconds=STEP_SECONDS)
    return stored.runner.run(target, variables(DASHBOARDS[uid]), view)


@pytest.mark.parametrize("uid", DASHBOARDS)
def test_every_panel_s_query_is_answered(victoria: Stored, uid: str) -> None:
    """No query is refused, and whatever Prometheus would count is above 0."""
    for panel in panels(DASHBOARDS[uid]):
        for target in panel["targets"]:
            run(victoria, uid, target)
    for mark in annotation_queries(DASHBOARDS[uid]):
        run(victoria, uid, mark)


@pytest.mark.parametrize(
    ("uid", "title"),
    [
        ("eco2-overview", "Requests"),
        ("eco2-overview", "Cost today"),
        ("eco2-overview", "Within the target"),
        ("eco2-overview", "Intents in this range"),
        ("eco2-cost", "Bill"),
        ("eco2-cost", "This month by day"),
        ("eco2-cost", "Dollars an hour by tenant"),
        ("eco2-cost", "Share of each budget used"),
        ("eco2-nodes", "Agents"),
        ("eco2-nodes", "Duration p95"),
        ("eco2-streaming", "First token p95"),
    ],
)
def test_the_answers_hold_something(victoria: Stored, uid: str, title: str) -> None:
    """The queries find what was stored: an answer without series would pass the test above."""
    (panel,) = [panel for panel in panels(DASHBOARDS[uid]) if panel["title"] == title]

    values = [value for series in run(victoria, uid, panel["targets"][0]) for _, value in series.points]

    assert any(value > 0 for value in values)
