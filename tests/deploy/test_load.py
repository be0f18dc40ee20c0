"""The load scripts: they follow the SLOs, measure a known delay right, and fail where an SLO is missed."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from graph.api import ApiSettings
from graph.cli import QUESTIONS
from tests.support.page_server import page_server
from tests.support.slow_stream import SlowStream

ROOT = Path(__file__).parents[2]
LOAD = ROOT / "deploy" / "load"
MAX_SECONDS = 300
MIX = json.loads((LOAD / "mix.json").read_text(encoding="utf-8"))


def write_mix(tmp_path: Path, *names: str, limit_seconds: float) -> Path:
    """Write a mix of these intents, with this limit; by default in equal parts those that have an SLO."""
    changed = {"weight": 1, "limit_seconds": limit_seconds}
    intents = {name: MIX["intents"][name] | changed for name in names or ("waste", "general")}
    path = tmp_path / "mix.json"
    path.write_text(json.dumps(MIX | {"intents": intents}))
    return path


def locust(url: str, mix: Path, results: Path, *, seconds: int = 10) -> subprocess.CompletedProcess[str]:
    """Run Locust with four users; let those that still read come to their end."""
    options = ["--headless", "--host", url, "--users", "4", "--spawn-rate", "4", "--run-time", f"{seconds}s"]
    options += ["--stop-timeout", "120", "--think-seconds", "0.1", "--mix", str(mix), "--results", str(results)]
    command = ["bash", str(ROOT / ".ci" / "locust"), "-f", str(LOAD / "locustfile.py"), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)


def k6(url: str, mix: Path, *, seconds: int = 10) -> subprocess.CompletedProcess[str]:
    """Run k6 with four users."""
    variables = {"ECO2_URL": url, "MIX": str(mix), "THINK_SECONDS": "0.1"}
    settings = [part for pair in variables.items() for part in ("-e", "=".join(pair))]
    options = ["--vus", "4", "--duration", f"{seconds}s", "--no-usage-report", *settings]
    command = ["bash", str(ROOT / ".ci" / "k6"), "run", *options, str(LOAD / "k6.js")]
    return subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False)


def test_the_mix_has_the_questions_and_the_limits_of_the_slos() -> None:
    """Every intent has its recorded question; the limits are those of the table in slo.yaml."""
    table = (ROOT / "deploy" / "prometheus" / "rules" / "slo.yaml").read_text(encoding="utf-8")
    limits = {slo: float(limit) for slo, limit in re.findall(r"#   (\w+_answer) .*? (\d+) s\n", table)}

    asked = {intent: entry["questions"] for intent, entry in MIX["intents"].items()}
    assert asked == {intent: [question] for intent, question in QUESTIONS.items()}
    with_slo = {entry["slo"]: entry["limit_seconds"] for entry in MIX["intents"].values() if "slo" in entry}
    assert with_slo == limits == {"waste_answer": 5.0, "general_answer": 3.0}
    assert f"{MIX['objective']:.0%} of the answers about waste" in table


@pytest.mark.slow
def test_locust_measures_a_known_delay(tmp_path: Path) -> None:
    """The first token is reported when it comes, not with what follows it after a pause."""
    with SlowStream(first_token_seconds=1.0, pause_seconds=8.0) as server:
        mix = write_mix(tmp_path, "waste", limit_seconds=100)  # of two, four users may choose the same one
        ran = locust(server.url, mix, tmp_path / "results.json", seconds=2)

    assert ran.returncode == 0, ran.stdout + ran.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    first = [seconds for measured in results["first_token"].values() for seconds in measured]
    ended = [seconds for measured in results["answer"].values() for seconds in measured]
    assert len(first) == len(ended) >= 1
    assert all(1.0 <= seconds < 9.0 for seconds in first)
    assert all(seconds >= 9.0 for seconds in ended)
    assert "first token p50 " in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit_seconds", "last_event", "status", "said"),
    [
        pytest.param(100.0, "done", 0, "met    waste_answer: 100.0% of", id="met"),
        pytest.param(0.2, "done", 1, "MISSED waste_answer: 0.0% of", id="too_slow"),
        pytest.param(100.0, "error", 1, "MISSED failed questions: 100.0% of", id="failing"),
    ],
)
def test_locust_fails_with_an_slo(
    tmp_path: Path, limit_seconds: float, last_event: str, status: int, said: str
) -> None:
    """The exit status is that of the objectives, and the last lines say which one."""
    with SlowStream(first_token_seconds=0.3, pause_seconds=0.0, last_event=last_event) as server:
        ran = locust(server.url, write_mix(tmp_path, limit_seconds=limit_seconds), tmp_path / "results.json")

    assert ran.returncode == status, ran.stdout + ran.stderr
    assert said in ran.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    ("limit_seconds", "last_event", "status", "crossed"),
    [
        pytest.param(100.0, "done", 0, "", id="met"),
        pytest.param(0.2, "done", 99, "answer_time{intent:waste}", id="too_slow"),
        pytest.param(100.0, "error", 99, "questions_failed", id="failing"),
    ],
)
def test_k6_fails_with_an_slo(tmp_path: Path, limit_seconds: float, last_event: str, status: int, crossed: str) -> None:
    """The exit status is that of the thresholds, and the last lines name the crossed ones."""
    with SlowStream(first_token_seconds=0.3, pause_seconds=0.0, last_event=last_event) as server:
        ran = k6(server.url, write_mix(tmp_path, limit_seconds=limit_seconds))

    assert ran.returncode == status, ran.stdout + ran.stderr
    assert crossed in ran.stderr


@pytest.mark.slow
def test_both_load_the_api_itself(tmp_path: Path) -> None:
    """Every question of both is answered by the real API and worker."""
    with page_server(tmp_path, ApiSettings(requests_per_minute=100_000)) as server:
        mix = write_mix(tmp_path, "general", limit_seconds=100)  # so that a single answer is enough
        by_locust = locust(server.url, mix, tmp_path / "results.json", seconds=5)
        by_k6 = k6(server.url, mix, seconds=5)

    assert by_locust.returncode == 0, by_locust.stdout + by_locust.stderr
    assert by_k6.returncode == 0, by_k6.stdout + by_k6.stderr


def capacity(script: str, *options: str) -> list[list[str]]:
    """Run a capacity script and return the words of its lines."""
    command = [sys.executable, str(ROOT / "benchmarks" / "capacity" / script), *options]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=MAX_SECONDS, check=False, cwd=ROOT)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [line.split() for line in ran.stdout.splitlines()]


@pytest.mark.slow
def test_the_capacity_of_two_workers_is_measured() -> None:
    """Every question is answered through RabbitMQ and Redis, and the row has a figure in each column."""
    *_, names, row = capacity("run.py", "--users", "2", "--workers", "2", "--seconds", "1")

    figures = [float(figure) for figure in row]
    assert figures[:2] == [2, 2]
    answers, failed, tokens = figures[2:5]
    assert (answers >= 2, failed, tokens > 0) == (True, 0, True)
    assert all(figure > 0 for figure in figures[5:13])
    assert names[:3] == ["workers", "users", "answers"]


@pytest.mark.slow
def test_batches_need_fewer_writes() -> None:
    """Tokens that come while a write is under way go into the next one together; one by one each is a write."""
    _, batches, single = capacity("token_writes.py", "--jobs", "1", "--tokens", "400", "--pace", "0")

    assert (batches[1], single[1:3]) == ("batches", ["single", "writes"])
    assert int(batches[4]) < int(single[5])
