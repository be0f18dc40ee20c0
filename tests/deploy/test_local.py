"""deploy/local: the demo with Debian's Prometheus and Alertmanager and the real rules, without containers."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlencode, urlsplit

import pytest
import yaml

from graph.cli import QUERIES, main
from tests.support.programs import program

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "deploy" / "local"
PORTS = ("--alertmanager-port", "0", "--demo-port", "0")


@pytest.fixture
def installed() -> None:
    """Without the servers, skip the test on a developer's machine and fail it on CI."""
    program("prometheus", package="prometheus")
    program("prometheus-alertmanager", "alertmanager", package="prometheus-alertmanager")


@pytest.fixture(scope="module")
def script() -> ModuleType:
    """The script as a module. It has no suffix, so a normal import does not find it."""
    loader = SourceFileLoader("local_script", str(SCRIPT))
    spec = spec_from_loader("local_script", loader)
    assert spec is not None
    module = module_from_spec(spec)
    loader.exec_module(module)
    return module


@contextmanager
def started(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the script until the block ends, with SIGINT ignored at its start, as in a shell's background job."""
    with subprocess.Popen(
        ["/bin/sh", "-c", "trap '' INT; exec \"$@\"", "sh", sys.executable, str(SCRIPT), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.terminate()  # SIGTERM stops its servers too; a kill would leave them running


def get(url: str) -> Any:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=300) as answer:
        return json.load(answer)


def until(check: Callable[[], Any]) -> Any:
    """Return the first true result of the check."""
    give_up_at = time.monotonic() + 120
    while not (found := check()):
        assert time.monotonic() < give_up_at
        time.sleep(0.1)
    return found


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
def test_the_demo_s_dollars_are_in_prometheus_until_ctrl_c(capsys: pytest.CaptureFixture[str]) -> None:
    """Prometheus reports the demo's cost, loads all rules and finds Alertmanager. Ctrl-C stops every process."""
    assert main(["demo", "--intent", "greeting", "--speed", "50", "--json"]) == 0
    usd = json.loads(capsys.readouterr().out)["totals"]["cost_usd"]
    with started("--prometheus-port", "0", *PORTS, "--", "--intent", "greeting", "--speed", "50") as process:
        assert process.stdout is not None
        lines = list(
            iter(
                process.stdout.readline,
                "The demo plays for half a minute; its costs stay visible. Ctrl-C stops everything.\n",
            )
        )
        shown = [re.split(r" {2,}", line.rstrip()) for line in lines if line.strip()]
        addresses = dict(shown)
        prometheus = addresses["Prometheus"]

        def dollars() -> float | None:
            query = urlencode({"query": "sum(llm_cost_dollars_total)"})
            result = get(f"{prometheus}/api/v1/query?{query}")["data"]["result"]
            value = float(result[0]["value"][1]) if result else 0.0
            return value if value >= usd * 0.999 else None

        assert until(dollars) == pytest.approx(usd)
        groups = get(f"{prometheus}/api/v1/rules")["data"]["groups"]
        up = get(f"{prometheus}/api/v1/query?query=up")["data"]["result"]
        found = until(lambda: get(f"{prometheus}/api/v1/alertmanagers")["data"]["activeAlertmanagers"])
        process.send_signal(signal.SIGINT)
        rest, error = process.communicate(timeout=300)

    written = [group["name"] for path in (ROOT / "deploy/prometheus/rules").glob("*.yaml") for group in _groups(path)]
    assert sorted(group["name"] for group in groups) == sorted(written) != []
    assert {rule["health"] for group in groups for rule in group["rules"]} <= {"ok", "unknown"}
    assert {(series["metric"]["job"], series["value"][1]) for series in up} >= {("eco2-chat-worker", "1")}
    assert [urlsplit(one["url"]).netloc for one in found] == [urlsplit(addresses["Alertmanager"]).netloc]
    assert (process.returncode, error) == (0, "")
    assert rest == "\nStopped.\n"
    assert {name for name, _ in QUERIES} < set(addresses)
    assert not [address for address in addresses.values() if answers(address)]


def answers(address: str) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", urlsplit(address).port or 0)) == 0


def test_a_program_that_is_missing_is_named(
    script: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message names the missing program and how to install it, and nothing starts."""
    monkeypatch.setenv("PATH", str(tmp_path))

    assert script.main([]) == 1

    assert capsys.readouterr() == (
        "",
        "prometheus is not installed; on Debian and Ubuntu: sudo apt-get install --no-install-recommends prometheus "
        "prometheus-alertmanager (their own services start at once: sudo systemctl disable --now prometheus "
        "prometheus-alertmanager).\n",
    )


@pytest.mark.usefixtures("installed")
def test_a_port_that_is_taken_is_named(script: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    """The message names a port that another process uses, such as Debian's own Prometheus."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        assert script.main(["--prometheus-port", str(port), *PORTS]) == 1

    out, error = capsys.readouterr()
    assert out == ""
    assert error.startswith(f"Port {port} cannot be used: Address already in use; choose another port")


@pytest.mark.usefixtures("installed")
@pytest.mark.slow
def test_a_process_that_ends_stops_all_and_is_named() -> None:
    """If one process ends, here the demo with an unknown conversation, the script stops and shows its output."""
    with started("--prometheus-port", "0", *PORTS, "--", "--intent", "weather") as process:
        out, error = process.communicate(timeout=300)

    assert (process.returncode, out) == (1, "")
    assert error.startswith("demo ended with status 2. Its last output:\n")
    assert "invalid choice: 'weather'" in error


def test_the_configuration_is_the_deployed_one(script: ModuleType) -> None:
    """Prometheus' configuration equals the deployed one except for rule paths and intervals."""
    deployed = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())

    local = script.local_config(deployed)

    pace = {"scrape_interval", "scrape_timeout", "evaluation_interval"}
    assert [key for key in local if local[key] != deployed[key]] == ["global", "rule_files"]
    assert {key for key in local["global"] if local["global"][key] != deployed["global"].get(key)} <= pace
    assert all(list(ROOT.glob(str(Path(path).relative_to(ROOT)))) for path in local["rule_files"])


def test_every_target_that_is_deployed_has_one_on_the_loopback(script: ModuleType) -> None:
    """Every deployed target file has a counterpart on the loopback, with the actual port."""
    config = (ROOT / "deploy/prometheus/prometheus.yml").read_text()
    named = set(re.findall(r"targets/([\w-]+\.yaml)", config.replace("targets/*.yaml", "")))
    ports = {"demo": 1, "prometheus": 2, "alertmanager": 3}

    moved = {
        path.name: script.local_targets(yaml.safe_load(path.read_text()), ports)
        for path in script.TARGETS.glob("*.yaml")
    }

    assert set(moved) == named
    assert moved["worker.yaml"] == [{"targets": ["127.0.0.1:1"]}]
    assert moved["alertmanager.yaml"] == [{"targets": ["127.0.0.1:3"]}]


def _groups(path: Path) -> list[dict[str, Any]]:
    groups: list[dict[str, Any]] = yaml.safe_load(path.read_text())["groups"]
    return groups
