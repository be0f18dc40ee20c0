"""The command line: output streams, refused arguments and exit statuses."""

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

import graph.cli.demo
from graph.cli import CONVERSATIONS, QUERIES, main
from graph.cli.demo import default_speed
from graph.cli.images import image_url
from graph.replay import ReplayClock
from graph.runtime import Runtime
from tests.support import fake_runtime

ROOT = Path(__file__).parents[3]
NAMES = list(CONVERSATIONS["ko"])
QUESTIONS = {name: one.message for name, one in CONVERSATIONS["ko"].items()}
NUMBERS = {"seconds", "input_tokens", "output_tokens", "cost_usd"}
PNG = b"\x89PNG\r\n\x1a\n" + bytes(32)


@pytest.fixture
def runtime(tmp_path: Path) -> Runtime:
    return fake_runtime.runtime(tmp_path)


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "the-user's")


def test_json_is_all_of_standard_output_and_adds_up(runtime: Runtime, capfd: pytest.CaptureFixture[str]) -> None:
    """The nodes add up to their request, and the requests to the totals by node, model and intent."""
    assert main(["demo", "--json"], runtime=runtime) == 0

    out, err = capfd.readouterr()
    printed = json.loads(out, parse_float=Decimal)
    assert err == ""
    assert printed.keys() == {"requests", "totals"}
    assert [request["intent"] for request in printed["requests"]] == NAMES
    for request in printed["requests"]:
        assert request.keys() == {"intent", "nodes", "cost_usd"}
        assert [node["node"] for node in request["nodes"]] == ["intent", "router", "location", "web_search", "answer"]
        assert all(node.keys() == {"node", "started_seconds", *NUMBERS} for node in request["nodes"])
        # Five calls of 0.00315 USD.
        assert sum(node["cost_usd"] for node in request["nodes"]) == request["cost_usd"] == Decimal("0.01575")
    totals = printed["totals"]
    assert totals.keys() == {"requests", *NUMBERS, "unpriced_calls", "nodes", "models", "intents"}
    assert sum(request["cost_usd"] for request in printed["requests"]) == totals["cost_usd"] == Decimal("0.189")
    for kind in ("nodes", "models", "intents"):
        for number in ("input_tokens", "output_tokens", "cost_usd"):
            assert sum(part[number] for part in totals[kind].values()) == totals[number]


def test_branches_in_parallel_overlap(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """Parallel nodes have overlapping times."""
    assert main(["demo", "--intent", "location", "--json"], runtime=runtime) == 0

    (request,) = json.loads(capsys.readouterr().out)["requests"]
    nodes = {node["node"]: node for node in request["nodes"]}
    assert nodes["web_search"]["started_seconds"] < nodes["location"]["started_seconds"] + nodes["location"]["seconds"]
    assert nodes["answer"]["started_seconds"] >= nodes["location"]["started_seconds"] + nodes["location"]["seconds"]


def test_a_pipe_gets_plain_text_with_everything(runtime: Runtime, capfd: pytest.CaptureFixture[str]) -> None:
    """Each question, tree and answer appears once, without escape sequences or carriage returns."""
    assert main(["demo"], runtime=runtime) == 0

    out, err = capfd.readouterr()
    assert (err, re.findall(r"[\x1b\r]", out)) == ("", [])
    for question in QUESTIONS.values():
        assert out.count(f"> {question}\n") == 1
    assert out.count("├─ 2 in parallel") == out.count("parallel branches saved") == len(QUESTIONS)
    assert out.count("강남역 11번 출구 앞에 페트병 수거함이 있습니다.") == len(QUESTIONS)
    assert out.index("by node") < out.index("by model") < out.index("by intent")


def test_a_terminal_without_korean_gets_question_marks(tmp_path: Path) -> None:
    """Unsupported characters cause no traceback."""
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "graph",
            "demo",
            "--intent",
            "waste",
            "--speed",
            "1000",
            "--ledger",
            str(tmp_path / "l.db"),
        ],
        cwd=ROOT,
        env={"PYTHONIOENCODING": "ascii"},
        capture_output=True,
        encoding="ascii",
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")
    assert "> ??? ??? ???\n" in done.stdout


def test_only_the_given_intents_are_replayed(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """``--intent`` may be repeated and keeps its order."""
    assert main(["demo", "--intent", "greeting", "--intent", "waste", "--json"], runtime=runtime) == 0

    requests = json.loads(capsys.readouterr().out)["requests"]
    assert [request["intent"] for request in requests] == ["greeting", "waste"]


@pytest.mark.parametrize(
    ("arguments", "speed", "pace"),
    [
        # 12 x 0.3 s fit without a higher speed
        pytest.param([], 1.0, "in real time", id="default"),
        pytest.param(["--speed", "2.5"], 2.5, "2.5 times as fast as recorded (--speed 1 is real time)", id="given"),
    ],
)
def test_the_replay_runs_at_the_printed_speed(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], arguments: list[str], speed: float, pace: str
) -> None:
    """Each conversation is replayed from its cassette at the printed speed."""
    replayed: list[tuple[str, float]] = []
    runtime = replace(runtime, replay=_recording_replay(replayed, runtime.cassettes))

    assert main(["demo", *arguments], runtime=runtime) == 0

    assert replayed == [(f"{name}.yaml", speed) for name in NAMES]
    assert pace in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("recorded_seconds", "speed"),
    [
        pytest.param(0.0, 1.0, id="nothing_recorded"),
        pytest.param(10.0, 1.0, id="short"),
        # 40 / 15 = 2.67
        pytest.param(40.0, 2.7, id="long"),
        # 180 / 15
        pytest.param(180.0, 12.1, id="very_long"),
    ],
)
def test_the_default_speed_fits_half_a_minute(recorded_seconds: float, speed: float) -> None:
    """The default speed is never below real time and is rounded up."""
    assert default_speed(recorded_seconds) == pytest.approx(speed)
    assert recorded_seconds / default_speed(recorded_seconds) <= 15


def test_each_provider_has_its_own_recordings(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """``--provider google`` replays its own recordings and sets the provider of the nodes."""
    replayed: list[tuple[str, float]] = []
    providers: list[str] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        providers.append(os.environ["ECO2_PROVIDER"])
        return {"intent": "waste"}

    runtime = replace(
        fake_runtime.runtime(runtime.cassettes, intent=intent), replay=_recording_replay(replayed, runtime.cassettes)
    )

    assert main(["demo", "--intent", "waste", "--provider", "google"], runtime=runtime) == 0

    assert (replayed, providers) == ([("google/waste.yaml", 1.0)], ["google"])
    assert "ECO2_PROVIDER" not in os.environ


def test_a_missing_recording_is_named(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """Without all recordings, the demo replays none."""
    (runtime.cassettes / "waste.yaml").unlink()

    assert main(["demo"], runtime=runtime) == 1

    out, err = capsys.readouterr()
    assert (out, err) == ("", f"Recording not found: {runtime.cassettes / 'waste.yaml'}.\n")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["demo", "--speed", "0"], id="no_speed"),
        pytest.param(["demo", "--speed", "nan"], id="not_a_speed"),
        pytest.param(["demo", "--serve", "65536"], id="not_a_port"),
        pytest.param(["demo", "--intent", "weather"], id="not_a_conversation"),
        pytest.param(["demo", "--lang", "fr"], id="not_a_language"),
        pytest.param(["chat"], id="nothing_asked"),
        pytest.param([], id="no_command"),
    ],
)
def test_invalid_arguments_are_refused(
    runtime: Runtime, capsys: pytest.CaptureFixture[str], arguments: list[str]
) -> None:
    """The command prints its usage and exits with 2."""
    with pytest.raises(SystemExit) as exit_:
        main(arguments, runtime=runtime)

    assert exit_.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m graph")


def test_metrics_are_served_until_interrupted(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The printed address serves the demo's metrics, and no thread remains afterwards."""
    scraped: list[str] = []

    def wait() -> None:
        (url,) = re.findall(r"Serving (http://127\.0\.0\.1:\d+/metrics) until Ctrl-C\.", capsys.readouterr().out)
        with urllib.request.urlopen(url, timeout=300) as answer:
            scraped.append(answer.read().decode())

    monkeypatch.setattr(graph.cli.demo, "_wait_for_interrupt", wait)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    before = threading.active_count()

    assert main(["demo", "--intent", "waste", "--serve", "0"], runtime=runtime) == 0

    assert 'chat_requests_total{intent="waste",provider="openai",status="success"} 1.0' in scraped[0]
    assert threading.active_count() == before


def test_a_port_in_use_is_one_sentence(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo fails before the first replay."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]

        status = main(["demo", "--intent", "waste", "--serve", str(port)], runtime=runtime)

    assert (status, capsys.readouterr().err) == (1, f"Port {port} cannot be served: Address already in use.\n")


def test_the_printed_queries_match_exported_metrics(
    runtime: Runtime, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The demo exports every metric and label of the printed PromQL."""
    registry = CollectorRegistry()
    monkeypatch.setattr(graph.cli.demo, "CollectorRegistry", lambda: registry)

    assert main(["demo", "--intent", "waste"], runtime=runtime) == 0

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
def test_a_piped_answer_is_the_answer_alone(runtime: Runtime, capfd: pytest.CaptureFixture[str]) -> None:
    """Standard output has the answer; standard error has the tree and the request's ids."""
    assert main(["chat", "페트병 어떻게 버려?"], runtime=runtime) == 0

    out, err = capfd.readouterr()
    assert out == "강남역 11번 출구 앞에 페트병 수거함이 있습니다.\n"
    assert "├─ 2 in parallel" in err
    assert re.search(r"^metadata\.job_id [0-9a-f-]{36}, --session [0-9a-f-]{36}$", err, re.MULTILINE)
    assert "\x1b" not in err


@pytest.mark.usefixtures("keys")
def test_an_answer_that_was_not_streamed_is_printed_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A node may answer without a model."""

    async def answer(state: fake_runtime.State) -> fake_runtime.State:
        return {"answer": "잠시 후 다시 시도해 주세요."}

    assert main(["chat", "안녕!"], runtime=fake_runtime.runtime(tmp_path, answer=answer)) == 0

    assert capsys.readouterr().out == "잠시 후 다시 시도해 주세요.\n"


def test_a_missing_key_is_one_sentence(runtime: Runtime, capsys: pytest.CaptureFixture[str]) -> None:
    """The command sends no request, prints nothing else and exits with 2."""
    assert main(["chat", "안녕!"], runtime=runtime) == 2

    assert capsys.readouterr() == (
        "",
        "OPENAI_API_KEY is unset, wanted a key for provider 'openai'; set it.\n",
    )


def test_a_missing_key_is_one_sentence_in_a_process() -> None:
    """The process prints no traceback and no warning."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "graph", "chat", "안녕!"],
        cwd=ROOT,
        env={"PYTHONUTF8": "1"},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )

    assert (done.returncode, done.stdout) == (2, "")
    assert re.fullmatch(r"OPENAI_API_KEY is unset, wanted [^\n]+\n", done.stderr)


@pytest.mark.usefixtures("keys")
def test_a_failed_request_is_one_sentence(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The message contains the error's class and text, and the command exits with 1."""
    assert main(["chat", "안녕!"], runtime=fake_runtime.runtime(tmp_path, router=fake_runtime.raise_timeout)) == 1

    assert capsys.readouterr() == ("", "The request failed: TimeoutError: too late\n")


@pytest.mark.usefixtures("keys")
def test_a_session_continues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The same ``--session`` continues the thread. A warning says that memory does not keep it."""
    found: list[Any] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        found.append(state.get("answer"))
        return {"intent": "greeting"}

    runtime = fake_runtime.runtime(tmp_path, intent=intent)
    for session in ("s-1", "s-2", "s-1"):
        assert main(["chat", "안녕!", "--session", session], runtime=runtime) == 0

    answer = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."
    assert found == [None, None, answer]
    assert capsys.readouterr().err.startswith("ECO2_CHECKPOINTS is unset, so the session ends with this command;")


@pytest.mark.usefixtures("keys")
def test_an_image_is_sent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The image is sent as a data URL; its type comes from its content."""
    sent: list[Any] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        sent.append(state["image"])
        return {"intent": "waste"}

    (tmp_path / "picture").write_bytes(PNG)

    runtime = fake_runtime.runtime(tmp_path, intent=intent)
    assert main(["chat", "이거 뭐야?", "--image", str(tmp_path / "picture")], runtime=runtime) == 0

    assert sent == [image_url(tmp_path / "picture")]
    assert sent[0].startswith("data:image/png;base64,iVBORw0KGgo")


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("message", ["", " \n"], ids=["empty", "blank"])
def test_an_empty_message_is_refused(runtime: Runtime, capsys: pytest.CaptureFixture[str], message: str) -> None:
    """The command sends no request without a message and an image."""
    assert main(["chat", message], runtime=runtime) == 2

    assert capsys.readouterr() == (
        "",
        "The message is empty, wanted a question or an image; write one or add --image FILE.\n",
    )


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize("message", ["", " \n"], ids=["empty", "blank"])
def test_an_image_needs_no_message(tmp_path: Path, message: str) -> None:
    """An image without text is sent with an empty message."""
    sent: list[Any] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        sent.append(state["message"])
        return {"intent": "waste"}

    (tmp_path / "picture").write_bytes(PNG)

    runtime = fake_runtime.runtime(tmp_path, intent=intent)
    assert main(["chat", message, "--image", str(tmp_path / "picture")], runtime=runtime) == 0

    assert sent == [""]


@pytest.mark.usefixtures("keys")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        pytest.param(None, "cannot be read: No such file or directory.", id="missing"),
        pytest.param(b"", "is of an unknown type, wanted one of image/jpeg, image/png, image/webp.", id="empty"),
        pytest.param(b"GIF89a" + bytes(9), "is image/gif, wanted one of image/jpeg, image/png, image/webp.", id="gif"),
        pytest.param(PNG + bytes(10**7), "has 10.0 MB, wanted at most 10; scale it down.", id="too_large"),
    ],
)
def test_an_unsuitable_image_is_refused(
    runtime: Runtime, tmp_path: Path, capsys: pytest.CaptureFixture[str], content: bytes | None, reason: str
) -> None:
    """The command fails with one sentence before the first request."""
    path = tmp_path / "picture"
    if content is not None:
        path.write_bytes(content)

    assert main(["chat", "이거 뭐야?", "--image", str(path)], runtime=runtime) == 2

    assert capsys.readouterr() == ("", f"{path} {reason}\n")


@pytest.mark.usefixtures("keys")
def test_a_generated_image_is_saved(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The image is written to a file, and its path is printed."""

    async def answer(state: fake_runtime.State) -> Any:
        return {"answer": "고양이예요.", "images": [image_url(tmp_path / "picture")]}

    (tmp_path / "picture").write_bytes(PNG)
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))

    assert main(["chat", "고양이 그려줘"], runtime=fake_runtime.runtime(tmp_path, answer=answer)) == 0

    (path,) = re.findall(r"^Image saved to (.+\.png)$", capsys.readouterr().err, re.MULTILINE)
    assert Path(path).read_bytes() == PNG


def _recording_replay(replayed: list[tuple[str, float]], folder: Path) -> Callable[..., Any]:
    """Return a replay function that only stores its arguments."""

    @contextmanager
    def replay(path: Path, *, clock: ReplayClock) -> Iterator[None]:
        replayed.append((path.relative_to(folder).as_posix(), 1 / clock.real_seconds(1)))
        yield

    return replay
