"""The command line: what goes to which stream, what it refuses, and what it ends with."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest

import graph.demo
from graph.__main__ import main
from graph.chat import image_url
from graph.demo import QUERIES, QUESTIONS, fitting_speed
from graph.stage import Stage
from tests.support import fake_runtime as rehearsal

ROOT = Path(__file__).parents[2]
NUMBERS = {"seconds", "input_tokens", "output_tokens", "cost_usd"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return rehearsal.stage(tmp_path)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-user's")


def test_json_is_all_of_standard_output_and_adds_up(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """One object with the agreed keys; nodes add up to their request, requests to the totals, in each of three ways."""
    assert main(["demo", "--json"], stage=stage) == 0

    out, err = capfd.readouterr()
    printed = json.loads(out, parse_float=Decimal)
    assert err == ""
    assert printed.keys() == {"requests", "totals"}
    assert [request["intent"] for request in printed["requests"]] == list(QUESTIONS)
    for request in printed["requests"]:
        assert request.keys() == {"intent", "nodes", "cost_usd"}
        assert [node["node"] for node in request["nodes"]] == ["intent", "router", "location", "web_search", "answer"]
        assert all(node.keys() == {"node", "started_seconds", *NUMBERS} for node in request["nodes"])
        # Five calls of 0.00315 USD.
        assert sum(node["cost_usd"] for node in request["nodes"]) == request["cost_usd"] == Decimal("0.01575")
    totals = printed["totals"]
    assert totals.keys() == {"requests", *NUMBERS, "unpriced_calls", "nodes", "models", "intents"}
    assert sum(request["cost_usd"] for request in printed["requests"]) == totals["cost_usd"] == Decimal("0.1575")
    for kind in ("nodes", "models", "intents"):
        for number in ("input_tokens", "output_tokens", "cost_usd"):
            assert sum(part[number] for part in totals[kind].values()) == totals[number]


def test_branches_in_parallel_overlap(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """What ran side by side says so by its own times."""
    assert main(["demo", "--intent", "location", "--json"], stage=stage) == 0

    (request,) = json.loads(capsys.readouterr().out)["requests"]
    nodes = {node["node"]: node for node in request["nodes"]}
    assert nodes["web_search"]["started_seconds"] < nodes["location"]["started_seconds"] + nodes["location"]["seconds"]
    assert nodes["answer"]["started_seconds"] >= nodes["location"]["started_seconds"] + nodes["location"]["seconds"]


def test_a_pipe_gets_plain_text_with_everything(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """Every question once, with a tree and its answer, then totals; no escape sequence, no carriage return."""
    assert main(["demo"], stage=stage) == 0

    out, err = capfd.readouterr()
    assert (err, re.findall(r"[\x1b\r]", out)) == ("", [])
    for question in QUESTIONS.values():
        assert out.count(f"> {question}\n") == 1
    assert out.count("├─ 2 in parallel") == out.count("parallel branches saved") == len(QUESTIONS)
    assert out.count("강남역 11번 출구 앞에 페트병 수거함이 있습니다.") == len(QUESTIONS)
    assert out.index("by node") < out.index("by model") < out.index("by intent")


def test_a_terminal_without_korean_gets_question_marks() -> None:
    """Rather than a traceback."""
    done = subprocess.run(
        [sys.executable, "-m", "graph", "demo", "--intent", "waste"],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "> ??? ??? ???\n" in done.stdout


def test_only_the_intents_asked_for_are_played(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """``--intent`` may be repeated, and keeps the order given."""
    assert main(["demo", "--intent", "greeting", "--intent", "waste", "--json"], stage=stage) == 0

    requests = json.loads(capsys.readouterr().out)["requests"]
    assert [request["intent"] for request in requests] == ["greeting", "waste"]


@pytest.mark.parametrize(
    ("arguments", "speed", "said"),
    [
        # 10 x 0.3 s fit without haste
        pytest.param([], 1.0, "in real time", id="default"),
        pytest.param(["--speed", "2.5"], 2.5, "2.5 times as fast as recorded (--speed 1 is real time)", id="given"),
    ],
)
def test_the_recordings_are_played_at_a_speed_that_is_printed(
    stage: Stage, capsys: pytest.CaptureFixture[str], arguments: list[str], speed: float, said: str
) -> None:
    """The player is given the pace, and its conversation's cassette."""
    played: list[tuple[str, float]] = []
    stage = replace(stage, replay=_noting(played, stage.cassettes))

    assert main(["demo", *arguments], stage=stage) == 0

    assert played == [(f"{intent}.yaml", speed) for intent in QUESTIONS]
    assert said in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("recorded_seconds", "speed"),
    [
        pytest.param(0.0, 1.0, id="nothing_recorded"),
        pytest.param(10.0, 1.0, id="short"),
        # 40 / 18 = 2.22
        pytest.param(40.0, 2.3, id="long"),
        # 180 / 18
        pytest.param(180.0, 10.1, id="very_long"),
    ],
)
def test_the_default_speed_fits_half_a_minute(recorded_seconds: float, speed: float) -> None:
    """Never slower than real time, and rounded upwards."""
    assert fitting_speed(recorded_seconds) == pytest.approx(speed)
    assert recorded_seconds / fitting_speed(recorded_seconds) <= 18


def test_the_other_provider_has_recordings_of_its_own(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """``--provider google`` plays them, with the nodes told so by the environment."""
    played: list[tuple[str, float]] = []
    told: list[str] = []

    async def intent(state: rehearsal.State) -> rehearsal.State:
        told.append(os.environ["ECO2_PROVIDER"])
        return {"intent": "waste"}

    stage = replace(rehearsal.stage(stage.cassettes, intent=intent), replay=_noting(played, stage.cassettes))

    assert main(["demo", "--intent", "waste", "--provider", "google"], stage=stage) == 0

    assert (played, told) == ([("google/waste.yaml", 1.0)], ["google"])
    assert "ECO2_PROVIDER" not in os.environ


def test_a_recording_that_is_not_there_is_named(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is played rather than half of it."""
    (stage.cassettes / "waste.yaml").unlink()

    assert main(["demo"], stage=stage) == 1

    out, err = capsys.readouterr()
    assert (out, err) == ("", f"There is no recording {stage.cassettes / 'waste.yaml'}.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["demo", "--speed", "0"], id="no_speed"),
        pytest.param(["demo", "--speed", "nan"], id="not_a_speed"),
        pytest.param(["demo", "--serve", "65536"], id="not_a_port"),
        pytest.param(["demo", "--intent", "weather"], id="not_an_intent"),
        pytest.param(["chat"], id="nothing_asked"),
        pytest.param([], id="no_command"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    stage: Stage, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """With the usage, and status 2."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments, stage=stage)

    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m graph")


def test_metrics_are_served_until_interrupted(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed address answers with the demo's own metrics, and nothing of it is left afterwards."""
    scraped: list[str] = []
    said: list[str] = []

    def wait() -> None:
        said.append(capsys.readouterr().out)
        (url,) = re.findall(r"Serving (http://127\.0\.0\.1:\d+/metrics) until Ctrl-C\.", said[0])
        with urllib.request.urlopen(url, timeout=10) as answer:
            scraped.append(answer.read().decode())

    monkeypatch.setattr(graph.demo, "_wait", wait)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    before = threading.active_count()

    assert main(["demo", "--intent", "waste", "--serve", "0"], stage=stage) == 0

    assert 'chat_requests_total{intent="waste",provider="openai",status="success"} 1.0' in scraped[0]
    assert threading.active_count() == before


def test_a_port_in_use_is_one_sentence(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Before anything is played."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        status = main(["demo", "--intent", "waste", "--serve", str(port)], stage=stage)

    assert (status, capsys.readouterr().err) == (1, f"Port {port} cannot be served: Address already in use.\n")


def test_the_queries_it_ends_with_find_something(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every metric and label that the printed PromQL names is exported by the demo itself."""
    registry = CollectorRegistry()
    monkeypatch.setattr(graph.demo, "CollectorRegistry", lambda: registry)

    assert main(["demo", "--intent", "waste"], stage=stage) == 0

    printed, exposition = capsys.readouterr().out, generate_latest(registry).decode()
    for _, query in QUERIES:
        assert query in printed
        for labels, metric in re.findall(r"sum by \(([^)]+)\) \((\w+)\)", query):
            series = re.findall(rf"^{metric}{{(.+)}} ", exposition, re.MULTILINE)
            assert series
            assert all(f'{label}="' in series[0] for label in labels.split(", "))
    for line in ("LANGSMITH_TRACING=true", "tags:intent:waste", "metadata.job_id", 'graph chat "페트병 어떻게 버려?"'):
        assert line in printed


@pytest.mark.usefixtures("keys")
def test_a_piped_answer_is_the_answer_alone(stage: Stage, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output is what the model wrote; the tree and the request's ids go to standard error."""
    assert main(["chat", "페트병 어떻게 버려?"], stage=stage) == 0

    out, err = capfd.readouterr()
    assert out == "강남역 11번 출구 앞에 페트병 수거함이 있습니다.\n"
    assert "├─ 2 in parallel" in err
    assert re.search(r"^metadata\.job_id [0-9a-f-]{36}, --session [0-9a-f-]{36}$", err, re.MULTILINE)
    assert "\x1b" not in err


@pytest.mark.usefixtures("keys")
def test_an_answer_that_was_not_streamed_is_printed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node may answer without a model."""

    async def answer(state: rehearsal.State) -> rehearsal.State:
        return {"answer": "잠시 후 다시 시도해 주세요."}

    assert main(["chat", "안녕!"], stage=rehearsal.stage(tmp_path, answer=answer)) == 0

    assert capsys.readouterr().out == "잠시 후 다시 시도해 주세요.\n"


def test_a_missing_key_is_one_sentence(stage: Stage, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is asked, nothing is printed beside it, and the status is 2."""
    assert main(["chat", "안녕!"], stage=stage) == 2

    assert capsys.readouterr() == (
        "",
        "OPENAI_API_KEY is unset, wanted a key for provider 'openai'; set it.\n",
    )


def test_a_missing_key_is_one_sentence_of_the_real_command() -> None:
    """No traceback, and no warning of a library before it."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "graph", "chat", "안녕!"],
        cwd=ROOT,
        env={"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"OPENAI_API_KEY is unset, wanted [^\n]+\n", done.stderr)


@pytest.mark.usefixtures("keys")
def test_a_failed_request_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """With the error's class and text, and status 1."""
    assert main(["chat", "안녕!"], stage=rehearsal.stage(tmp_path, router=rehearsal.fails)) == 1

    assert capsys.readouterr() == ("", "The request failed: TimeoutError: too late\n")


@pytest.mark.usefixtures("keys")
def test_a_session_goes_on(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same ``--session`` is the same thread; in memory it is said to be forgotten."""
    found: list[Any] = []

    async def intent(state: rehearsal.State) -> rehearsal.State:
        found.append(state.get("answer"))
        return {"intent": "greeting"}

    stage = rehearsal.stage(tmp_path, intent=intent)
    for session in ("s-1", "s-2", "s-1"):
        assert main(["chat", "안녕!", "--session", session], stage=stage) == 0

    answered = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."
    assert found == [None, None, answered]
    assert capsys.readouterr().err.startswith("ECO2_CHECKPOINTS is unset, so the session is forgotten at the end;")


@pytest.mark.usefixtures("keys")
def test_a_picture_goes_along(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """As a data URL, its type told from its content."""
    sent: list[Any] = []

    async def intent(state: rehearsal.State) -> rehearsal.State:
        sent.append(state["image"])
        return {"intent": "waste"}

    (tmp_path / "picture").write_bytes(PNG)

    stage = rehearsal.stage(tmp_path, intent=intent)
    assert main(["chat", "이거 뭐야?", "--image", str(tmp_path / "picture")], stage=stage) == 0

    assert sent == [image_url(tmp_path / "picture")]
    assert sent[0].startswith("data:image/png;base64,iVBORw0KGgo")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("message", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_message_is_refused(stage: Stage, capsys: pytest.CaptureFixture[str], message: str) -> None:
    """In one sentence, before a model is asked about a picture that is not there."""
    assert main(["chat", message], stage=stage) == 2

    assert capsys.readouterr() == (
        "",
        "The message is empty, wanted a question or a picture; write one or add --image FILE.\n",
    )


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("message", ["", " \n"], ids=["empty", "blank"])
def test_a_picture_may_come_without_words(tmp_path: Path, message: str) -> None:
    """The nodes find no message, and ask what to do with what is on the picture."""
    sent: list[Any] = []

    async def intent(state: rehearsal.State) -> rehearsal.State:
        sent.append(state["message"])
        return {"intent": "waste"}

    (tmp_path / "picture").write_bytes(PNG)

    stage = rehearsal.stage(tmp_path, intent=intent)
    assert main(["chat", message, "--image", str(tmp_path / "picture")], stage=stage) == 0

    assert sent == [""]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("content", "why"),
    [
        pytest.param(None, "cannot be read: No such file or directory.", id="missing"),
        pytest.param(b"", "is of an unknown type, wanted one of image/jpeg, image/png, image/webp.", id="empty"),
        pytest.param(b"GIF89a" + bytes(9), "is image/gif, wanted one of image/jpeg, image/png, image/webp.", id="gif"),
        pytest.param(PNG + bytes(10**7), "has 10.0 MB, wanted at most 10; scale it down.", id="too_large"),
    ],
)
def test_a_picture_that_cannot_be_sent_is_refused(
    stage: Stage, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, why: str
) -> None:
    """In one sentence, before anything is asked."""
    path = tmp_path / "picture"
    if content is not None:
        path.write_bytes(content)

    assert main(["chat", "이거 뭐야?", "--image", str(path)], stage=stage) == 2

    assert capsys.readouterr() == ("", f"{path} {why}\n")


@pytest.mark.usefixtures("keys")
def test_a_picture_that_was_made_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """In a file of its type, whose path is said."""

    async def answer(state: rehearsal.State) -> Any:
        return {"answer": "고양이예요.", "images": [image_url(tmp_path / "picture")]}

    (tmp_path / "picture").write_bytes(PNG)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert main(["chat", "고양이 그려줘"], stage=rehearsal.stage(tmp_path, answer=answer)) == 0

    (path,) = re.findall(r"^A picture was made: (.+\.png)$", capsys.readouterr().err, re.MULTILINE)
    assert Path(path).read_bytes() == PNG


def _noting(played: list[tuple[str, float]], folder: Path) -> Callable[..., Any]:
    """Return a player that notes what it is to play."""

    @contextmanager
    def replay(path: Path, *, speed: float) -> Iterator[None]:
        played.append((path.relative_to(folder).as_posix(), speed))
        yield

    return replay
