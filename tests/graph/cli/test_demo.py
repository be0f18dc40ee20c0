"""The demo: it replays every conversation from its recording, without keys and without a network."""

from __future__ import annotations

import json
import os
import re
import shlex
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

import graph.conversation
from eco2_callbacks.cli import main as eco2
from graph.cli import CONVERSATIONS, QUESTIONS, cassette_folder, main
from graph.runtime import CASSETTES
from tests.support.cassette_bills import bills_of_cassette

ROOT = Path(__file__).parents[3]
FAST = ("--speed", "1000")


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fail every connection except those to the loopback."""
    connect = socket.socket.connect

    def local(self: socket.socket, address: Any) -> Any:
        assert str(address[0]).startswith("127."), f"The network was used: {address!r}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.mark.parametrize(
    ("language", "provider"),
    [
        pytest.param("ko", "openai", id="ko-openai"),
        pytest.param("ko", "google", id="ko-google", marks=pytest.mark.slow),
        pytest.param("en", "openai", id="en-openai", marks=pytest.mark.slow),
        pytest.param("en", "google", id="en-google"),
    ],
)
def test_every_conversation_is_replayed_and_billed(
    offline: None, capsys: pytest.CaptureFixture[str], language: str, provider: str
) -> None:
    """Each conversation is one request, whose cost is that of the recorded usage at the published prices."""
    assert main(["demo", "--lang", language, "--provider", provider, "--json", *FAST]) == 0

    printed = json.loads(capsys.readouterr().out)
    folder = cassette_folder(CASSETTES, provider=provider, language=language)
    names = list(CONVERSATIONS[language])
    assert [request["intent"] for request in printed["requests"]][: len(QUESTIONS)] == list(QUESTIONS)
    for name, request in zip(names, printed["requests"], strict=True):
        usd = sum(bill.usd for bill in bills_of_cassette(folder / f"{name}.yaml"))
        assert request["cost_usd"] == pytest.approx(float(usd), abs=1e-12)
        nodes = [node["node"] for node in request["nodes"]]
        assert nodes[0] == ("vision" if name == "vision" else "intent")
        assert nodes[-1] == ("summarize" if name == "summarize" else "answer")
    assert printed["totals"]["unpriced_calls"] == 0
    assert printed["totals"]["cost_usd"] == pytest.approx(sum(request["cost_usd"] for request in printed["requests"]))
    # The demo shows the whole graph.
    assert set(printed["totals"]["nodes"]) == {path.stem for path in (ROOT / "graph" / "nodes").glob("[!_]*.py")}


@pytest.mark.parametrize("speed", ["4", "1000"])
def test_seconds_are_those_of_the_recording(offline: None, capsys: pytest.CaptureFixture[str], speed: str) -> None:
    """A node takes as long as its recorded calls, whatever the speed and however busy the machine is."""
    assert main(["demo", "--intent", "waste", "--json", "--speed", speed]) == 0

    (request,) = json.loads(capsys.readouterr().out)["requests"]
    seconds = {node["node"]: node["seconds"] for node in request["nodes"]}
    recorded = yaml.load((CASSETTES / "waste.yaml").read_text(), Loader=yaml.CSafeLoader)["interactions"]
    ends = [one["timing"]["chunk_offsets"][-1][0] for one in recorded if "openai" in one["request"]["uri"]]
    services = [one["timing"]["chunk_offsets"][-1][0] for one in recorded if "openai" not in one["request"]["uri"]]
    calls = {"intent": 1, "waste_rag": 1, "weather": 2, "feedback": 1, "answer": 1}
    assert len(ends) == sum(calls.values())
    alone = [seconds[node] for node in ("intent", "waste_rag", "feedback", "answer")]
    assert all(any(one == pytest.approx(end, abs=0.0015) for end in ends) for one in alone)
    assert sum(seconds[node] for node in calls) == pytest.approx(sum(ends) + sum(services), abs=0.01)
    assert seconds["router"] == seconds["aggregator"] == 0


def test_a_terminal_s_help_is_there_at_once() -> None:
    """The help imports no graph, no provider's client and no server."""
    program = "import sys; from graph.cli import main\ntry: main(['demo', '--help'])\nfinally: print(*sys.modules)"

    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)

    assert "--lang" in done.stdout
    loaded = set(done.stdout.split())
    assert not loaded & {"langgraph", "langchain_core", "openai", "fastapi", "eco2_callbacks", "rich", "vcr", "httpx"}


def test_two_branches_run_in_parallel(offline: None, capsys: pytest.CaptureFixture[str]) -> None:
    """The place and the web search overlap, and the tree shows the saved time."""
    assert main(["demo", "--intent", "location", "--json", *FAST]) == 0
    (request,) = json.loads(capsys.readouterr().out)["requests"]
    nodes = {node["node"]: node for node in request["nodes"]}
    first, second = nodes["location"], nodes["web_search"]
    assert first["started_seconds"] < second["started_seconds"] + second["seconds"]
    assert second["started_seconds"] < first["started_seconds"] + first["seconds"]

    assert main(["demo", "--intent", "location", "--speed", "20"]) == 0
    printed = capsys.readouterr().out
    assert "강남역 근처 페트병 분리수거함 어디있어?" in printed
    assert re.search(r"parallel branches saved \d+\.\d\d s", printed)
    assert "__start__" not in printed


def test_settings_of_the_shell_have_no_effect(tmp_path: Path) -> None:
    """Keys, models and endpoints of the shell have no effect on the demo."""
    settings = {
        "OPENAI_API_KEY": "real",
        "OPENAI_API_BASE": "http://127.0.0.1:9",
        "GOOGLE_API_KEY": "real",
        "ECO2_PROVIDER": "google",
        "ECO2_OPENAI_MODEL": "gpt-x",
        "ECO2_CHECKPOINTS": "nonsense",
        "LANGSMITH_TRACING": "true",
        "LANGSMITH_ENDPOINT": "http://127.0.0.1:9",
        "HTTPS_PROXY": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "graph", "demo", "--intent", "greeting", "--json", *FAST]
    command += ["--ledger", str(tmp_path / "ledger.db")]

    done = subprocess.run(
        command, cwd=ROOT, env={**os.environ, **settings}, capture_output=True, text=True, check=False
    )

    assert (done.returncode, done.stderr) == (0, "")
    (request,) = json.loads(done.stdout)["requests"]
    assert request["intent"] == "greeting"


def test_a_changed_prompt_is_reported(
    offline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """An unknown request shows the difference and how to record it again, without a traceback."""
    monkeypatch.setattr(graph.conversation, "prompt", lambda name: f"# {name}\n다르게 말하세요.")

    assert main(["demo", "--intent", "greeting", *FAST]) == 1

    error = capsys.readouterr().err
    assert "다르게 말하세요." in error
    assert "python -m tests.support.record_cassettes" in error
    assert "Traceback" not in error


def test_the_demo_writes_a_ledger(offline: None, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The ledger holds what was shown, and each printed command runs on it."""
    path = tmp_path / "eco2.db"
    # Faster, and the demo's clock would run hours ahead.
    assert main(["demo", "--intent", "waste", "--speed", "20"]) == 0
    shown = capsys.readouterr().out
    with closing(sqlite3.connect(path)) as connection:
        (picodollars,) = connection.execute("SELECT sum(contracted_cost) FROM newest_ratings").fetchone()
    usd = sum(bill.usd for bill in bills_of_cassette(CASSETTES / "waste.yaml"))

    commands = re.findall(r"uv run eco2 (.+)", shown)
    assert len(commands) == 3
    assert all(eco2(shlex.split(command)) == 0 for command in commands)
    assert picodollars / 1e12 == pytest.approx(float(usd), abs=1e-9)


def test_an_impossible_ledger_is_named(offline: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A URL that names no ledger ends the demo with its message."""
    assert main(["demo", "--intent", "greeting", "--ledger", "mysql://x/y", *FAST]) == 1

    assert "begins with 'mysql', wanted a path" in capsys.readouterr().err
