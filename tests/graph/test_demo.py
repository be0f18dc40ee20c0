"""The demo: what it prints, that it needs neither keys nor network, and what its cassette holds."""

from __future__ import annotations

import ast
import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from vcr.errors import CannotOverwriteExistingCassetteException

import graph.__main__ as cli
from graph import build_graph
from graph.nodes.answer import answer
from record_demo import record
from standin import EXCHANGES

ROOT = Path(__file__).parent.parent.parent
NODES = sorted(path for path in (ROOT / "graph" / "nodes").glob("*.py") if path.stem != "__init__")

# US dollars per million tokens, https://openai.com/api/pricing and https://ai.google.dev/gemini-api/docs/pricing:
#   gpt-5.2                 input 1.75  cached 0.175  output 14
#   gemini-3-flash-preview  input 0.50  cached 0.05   output  3
# Cached tokens lie inside input, thoughts inside output.
TABLES = [
    # 1081 x 1.75 + 10 x 14 = 2031.75 millionths
    ("intent", "1,081", "0", "10", "0", "0.00203175"),
    # 131 x 0.50 + (84 + 246) x 3 = 1055.5
    ("answer", "131", "0", "330", "246", "0.00105550"),
    # 2031.75 + 1055.5 = 3087.25
    ("total", "1,212", "0", "340", "246", "0.00308725"),
    # (1077 - 1024) x 1.75 + 1024 x 0.175 + 10 x 14 = 411.95
    ("intent", "1,077", "1,024", "10", "0", "0.00041195"),
    # 124 x 0.50 + (41 + 88) x 3 = 449
    ("answer", "124", "0", "129", "88", "0.00044900"),
    # 411.95 + 449 = 860.95
    ("total", "1,201", "1,024", "139", "88", "0.00086095"),
    # (1085 - 1024) x 1.75 + 1024 x 0.175 + 10 x 14 = 425.95
    ("intent", "1,085", "1,024", "10", "0", "0.00042595"),
    # 135 x 0.50 + (77 + 205) x 3 = 913.5
    ("answer", "135", "0", "282", "205", "0.00091350"),
    # 425.95 + 913.5 = 1339.45
    ("total", "1,220", "1,024", "292", "205", "0.00133945"),
    # 2031.75 + 411.95 + 425.95 = 2869.65
    ("intent", "3,243", "2,048", "30", "0", "0.00286965"),
    # 1055.5 + 449 + 913.5 = 2418
    ("answer", "390", "0", "741", "539", "0.00241800"),
    # 2869.65 + 2418 = 5287.65
    ("total", "3,633", "2,048", "771", "539", "0.00528765"),
]
_GPT = 'model="gpt-5.2-2025-12-11"'
_GEMINI = 'model="gemini-3-flash-preview"'
METRICS = {
    f'llm_tokens_total{{{_GPT},provider="openai",tenant_id="demo",token_type="input"}}': 3243,
    f'llm_tokens_total{{{_GPT},provider="openai",tenant_id="demo",token_type="output"}}': 30,
    f'llm_tokens_total{{{_GEMINI},provider="google_genai",tenant_id="demo",token_type="input"}}': 390,
    f'llm_tokens_total{{{_GEMINI},provider="google_genai",tenant_id="demo",token_type="output"}}': 741,
    f'llm_cost_dollars_total{{{_GPT},provider="openai",tenant_id="demo"}}': 0.00286965,
    f'llm_cost_dollars_total{{{_GEMINI},provider="google_genai",tenant_id="demo"}}': 0.002418,
    # The classifying node starts before the intent is known.
    f'graph_node_cost_dollars_total{{intent="unclassified",{_GPT},node="intent",provider="openai"}}': 0.00286965,
    # 1055.5 + 913.5 = 1969
    f'graph_node_cost_dollars_total{{intent="waste",{_GEMINI},node="answer",provider="google_genai"}}': 0.001969,
    f'graph_node_cost_dollars_total{{intent="general",{_GEMINI},node="answer",provider="google_genai"}}': 0.000449,
    'chat_requests_total{intent="waste",provider="google_genai",status="success"}': 2,
    'chat_requests_total{intent="general",provider="google_genai",status="success"}': 1,
}


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make every connection and every look-up of a name fail."""

    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise AssertionError(f"The network was used: {args[-2:]!r}")

    for name in ("connect", "connect_ex"):
        monkeypatch.setattr(socket.socket, name, refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


@pytest.fixture
def demo(offline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[[], str]:
    """Run the demo and return what it printed."""
    monkeypatch.setenv("COLUMNS", "200")

    def run() -> str:
        assert cli.main(["demo"]) == 0
        return capsys.readouterr().out

    return run


def test_tables_show_tokens_and_dollars_by_node_and_request(demo: Callable[[], str]) -> None:
    """Tokens are the providers', dollars what their published rates make of them, and the totals add up."""
    assert list(_tables(demo())) == TABLES


def test_metrics_agree_with_the_tables(demo: Callable[[], str]) -> None:
    """The exposition holds the same tokens and dollars, each once, and no series at zero."""
    _, _, exposition = demo().partition("\nMetrics\n")

    series = dict(line.rsplit(" ", 1) for line in exposition.splitlines())

    assert {name: float(value) for name, value in series.items()} == pytest.approx(METRICS, rel=1e-12)


def test_every_question_is_answered_in_plain_text(demo: Callable[[], str]) -> None:
    """Without a terminal the whole conversation is there, and no escape sequence."""
    printed = demo()

    for question, exchange in EXCHANGES.items():
        assert f"> {question}\n{''.join(exchange.chunks)}\n" in printed
    assert "\x1b" not in printed


def test_figures_survive_a_narrow_terminal(demo: Callable[[], str], monkeypatch: pytest.MonkeyPatch) -> None:
    """A table is never cut off."""
    monkeypatch.setenv("COLUMNS", "40")

    assert list(_tables(demo())) == TABLES


def test_the_shell_s_settings_neither_matter_nor_suffer(
    demo: Callable[[], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys, endpoints and tracing set in the shell are not used, and are there again afterwards."""
    for name, value in {
        "OPENAI_API_KEY": "the-user's",
        "OPENAI_BASE_URL": "http://gateway.invalid/v1",
        "GEMINI_API_KEY": "the-user's",
        "GOOGLE_GEMINI_BASE_URL": "http://gateway.invalid",
        "GOOGLE_GENAI_USE_VERTEXAI": "true",
        "LANGSMITH_TRACING": "true",
    }.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    printed = demo()

    assert list(_tables(printed)) == TABLES
    assert dict(os.environ) == before


def test_an_unknown_request_is_refused(offline: None) -> None:
    """A request that is not in the cassette reaches nobody."""
    with cli.replay(), pytest.raises(CannotOverwriteExistingCassetteException, match="generativelanguage"):
        asyncio.run(answer({"message": "오늘 서울 날씨는?", "intent": "general"}))


def test_a_refusal_says_what_to_do(
    offline: None, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whoever changed a prompt reads how to record anew."""
    monkeypatch.setattr(cli, "QUESTIONS", ("오늘 서울 날씨는?",))

    status = cli.main(["demo"])

    assert status == 1
    assert capsys.readouterr().out.endswith(
        "The recording does not hold this request; was a prompt or a model changed?\n"
        "Record it anew: python tests/graph/record_demo.py\n"
    )


def test_the_command_runs_in_a_clean_shell() -> None:
    """``python -m graph demo`` needs no variable, and prints nothing beside its answer."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "graph", "demo"],
        cwd=ROOT,
        env={"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert list(_tables(done.stdout)) == TABLES


@pytest.mark.parametrize("path", NODES, ids=lambda path: path.stem)
def test_a_node_knows_nothing_of_telemetry(path: Path) -> None:
    """Nodes are measured from outside: no file of theirs imports the library or what it reports to."""
    imported = {name.split(".")[0] for name in _imports(ast.parse(path.read_text(encoding="utf-8")))}

    assert not imported & {"eco2_callbacks", "prometheus_client", "langsmith"}


def test_a_node_s_name_is_its_file_s() -> None:
    """The name in the graph, the file's and the function's are one."""
    nodes = build_graph().nodes.keys() - {"__start__"}

    assert nodes == {path.stem for path in NODES}
    for path in NODES:
        module = ast.parse(path.read_text(encoding="utf-8"))
        functions = [node.name for node in module.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)]
        assert [name for name in functions if not name.startswith("_")] == [path.stem]


def test_the_cassette_holds_no_secret() -> None:
    """Only the providers' hosts, only headers that say what a body is, and nothing that looks like an identity."""
    text = cli.CASSETTE.read_text(encoding="utf-8")
    interactions = yaml.safe_load(text)["interactions"]

    assert {interaction["request"]["uri"] for interaction in interactions} == {
        "https://api.openai.com/v1/chat/completions",
        "https://generativelanguage.googleapis.com/v1beta/models/gemini-3-flash-preview:streamGenerateContent?alt=sse",
    }
    for interaction in interactions:
        assert interaction["request"]["headers"].keys() <= {"accept", "content-type"}
        assert interaction["response"]["headers"].keys() == {"content-type"}
    suspicious = r"127\.0\.0\.1|localhost|authorization|bearer|cookie|api[-_]?key|\bsk-|AIza|\borg-|\bproj_|\breq_"
    assert re.findall(suspicious, text, re.IGNORECASE) == []


def test_the_cassette_can_be_read() -> None:
    """Bodies are text on lines of their own, Korean as Korean."""
    text = cli.CASSETTE.read_text(encoding="utf-8")

    assert "!!binary" not in text
    assert "\\u" not in text
    for question in cli.QUESTIONS:
        assert f'"content": "{question}"' in text
        assert f'"text": "{question}"' in text


def test_the_cassette_is_what_the_stand_in_answers(tmp_path: Path) -> None:
    """Recording anew changes nothing: prompts, models and cassette belong together."""
    anew = tmp_path / "waste.yaml"

    record(anew)

    assert anew.read_text(encoding="utf-8") == cli.CASSETTE.read_text(encoding="utf-8")


def _tables(printed: str) -> Iterator[tuple[str, ...]]:
    """Return the rows of all tables, without the seconds, which differ from run to run."""
    for line in printed.splitlines():
        if line.startswith("│"):
            name, *counts, seconds, usd = (cell.strip() for cell in line.strip("│").split("│"))
            assert re.fullmatch(r"\d+\.\d\d", seconds)
            yield (name, *counts, usd)


def _imports(module: ast.Module) -> Iterator[str]:
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
