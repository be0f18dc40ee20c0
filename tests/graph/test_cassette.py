"""Cassettes: what is in the files, and that a replay is the recorded answer, at the recorded pace, and nothing else."""

from __future__ import annotations

import asyncio
import json
import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
import yaml
from langchain_openai import ChatOpenAI

from eco2_callbacks import Eco2CallbackHandler
from graph.cassette import KEYS, CassetteError, UnknownRequestError, environment, record, replay, seconds
from tests.support.call_paths import PATHS, SCRIPT
from tests.support.cassette_bills import billed, bills
from tests.support.json_shapes import answer_shapes
from tests.support.provider_standin import Pace, StandIn
from tests.support.record_sink import Records

ROOT = Path(__file__).parents[2]
CASSETTES = ROOT / "cassettes"
FILES = sorted(CASSETTES.rglob("*.yaml"))
RECORDINGS = Path(os.environ.get("ECO2_RECORDINGS", ROOT.parent / "shared" / "recordings"))
URL = "https://provider.example/v1/answers"

# What the real recordings happen not to hold: none of them is a Chat Completions answer that calls a function and does
# not stream. Its shape: https://platform.openai.com/docs/api-reference/chat/object#chat-object-choices-message-tool_calls
_TOOL_CALL = "chat choices[].message.tool_calls[](function)"
NOT_RECORDED = {
    f"{_TOOL_CALL}.id string",
    f"{_TOOL_CALL}.type string",
    f"{_TOOL_CALL}.function.name string",
    f"{_TOOL_CALL}.function.arguments string",
}


@pytest.mark.parametrize("name", PATHS)
async def test_a_replayed_call_is_billed(
    name: str, cassette: Path, handler: Eco2CallbackHandler, records: Records, request: pytest.FixtureRequest
) -> None:
    """Tokens and dollars on the record are those of the recorded answer, and nothing is without a price."""
    await PATHS[name]({"callbacks": [handler]})

    if request.config.getoption("--record-mode") == "none":
        assert [billed(call) for call in records.calls] == list(bills(cassette))


def written(path: Path, bodies: Sequence[str], *, first: float = 0.0, offsets: Sequence[Sequence[float]] = ()) -> Path:
    """Write a cassette of equal requests, whose answers are these bodies."""
    interaction = {
        "request": {"method": "POST", "uri": URL, "body": "{}", "headers": {"content-type": ["application/json"]}},
        "response": {"status": {"code": 200, "message": "OK"}, "headers": {"content-type": ["text/event-stream"]}},
        "timing": {"first_byte_seconds": first, "chunk_offsets": [list(offset) for offset in offsets]},
    }
    answers = [{**interaction["response"], "body": {"string": body}} for body in bodies]
    interactions = [{**interaction, "response": answer} for answer in answers]
    path.write_text(yaml.safe_dump({"version": 1, "interactions": interactions}), encoding="utf-8")
    return path


async def arrivals(library: Any, *, asynchronous: bool) -> tuple[str, list[float]]:
    """Ask once, and return the body and when its headers and its pieces came."""
    began = time.monotonic()
    times, pieces = [], []
    if asynchronous:
        async with library.AsyncClient() as client, client.stream("POST", URL, json={}) as response:
            times.append(time.monotonic() - began)
            async for piece in response.aiter_raw():
                times.append(time.monotonic() - began)
                pieces.append(piece)
    else:
        with library.Client() as client, client.stream("POST", URL, json={}) as response:
            times.append(time.monotonic() - began)
            for piece in response.iter_raw():
                times.append(time.monotonic() - began)
                pieces.append(piece)
    return b"".join(pieces).decode(), times


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_a_body_comes_at_its_pace(library: Any, asynchronous: bool, tmp_path: Path) -> None:
    """Headers and pieces come when they came, divided by the speed, in the pieces they came in."""
    body = "data: 가\n\ndata: 나\n\ndata: 다\n\n"
    due = [0.12, 0.2, 0.32]
    size = len(body.encode()) // 3
    path = written(tmp_path / "c.yaml", [body] * 3, first=0.1, offsets=[(due[i], size * (i + 1)) for i in range(3)])

    took = {}
    for speed in (1, 4, None):
        with replay(path, speed=speed):
            text, took[speed] = await arrivals(library, asynchronous=asynchronous)
        assert text == body
        assert len(took[speed]) == 4

    assert all(came >= wanted for came, wanted in zip(took[1], [0.1, *due], strict=True))
    assert all(came >= wanted / 4 for came, wanted in zip(took[4], [0.1, *due], strict=True))
    assert took[1][-1] > took[4][-1] > took[None][-1]
    assert seconds(path) == pytest.approx(3 * 0.32)


async def test_parallel_answers_overlap(tmp_path: Path) -> None:
    """Waiting for one answer holds up no other, and equal requests get one recorded answer each."""
    bodies = [f"data: {number}\n\n" for number in range(8)]
    path = written(tmp_path / "c.yaml", bodies, first=0.2, offsets=[(0.4, len(bodies[0]))])

    began = time.monotonic()
    with replay(path, speed=1) as playback:
        answers = await asyncio.gather(*(arrivals(httpx, asynchronous=True) for _ in bodies))
    took = time.monotonic() - began

    assert sorted(text for text, _ in answers) == bodies
    assert 0.4 <= took < 8 * 0.4 / 2
    assert playback.unused == []


def test_threads_get_an_answer_each(tmp_path: Path) -> None:
    """Equal requests of synchronous clients in several threads share no answer either."""
    bodies = [f"data: {number}\n\n" for number in range(16)]
    answers: list[str] = []

    with replay(written(tmp_path / "c.yaml", bodies)):
        threads = [threading.Thread(target=lambda: answers.append(httpx.post(URL, json={}).text)) for _ in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(answers) == sorted(bodies)


def test_a_model_s_stream_is_paced(tmp_path: Path) -> None:
    """The time to the first token that a caller sees is the recorded one, and the words come one after the other."""
    path = tmp_path / "c.yaml"

    def chunks() -> list[float]:
        model = ChatOpenAI(model="gpt-5.2", max_retries=0, stream_usage=True)
        began = time.monotonic()
        return [time.monotonic() - began for chunk in model.stream("페트병은?") if chunk.text]

    with (
        StandIn(SCRIPT, pace=Pace(first_byte_seconds=0.2, token_seconds=0.01)) as stand_in,
        record(path, upstream=stand_in.upstream),
    ):
        recorded = chunks()
    with replay(path, speed=1):
        replayed = chunks()
    with replay(path):
        at_once = chunks()

    assert len(recorded) == len(replayed) == len(at_once)
    assert min(recorded[0], replayed[0]) >= 0.2 > at_once[0]
    assert replayed[-1] - replayed[0] >= 0.8 * (recorded[-1] - recorded[0]) > at_once[-1] - at_once[0]


def test_an_unknown_request_is_refused(tmp_path: Path) -> None:
    """A request that was not recorded reaches nobody, and the error says which, how it differs and what to do."""
    path = written(tmp_path / "c.yaml", ["data: 1\n\n"])

    with pytest.raises(UnknownRequestError) as refused, replay(path):
        httpx.post(f"{URL}?serviceKey=planted-in-the-query", json={"city": "서울"})

    message = str(refused.value)
    assert message.startswith(f"The cassette {path} holds no answer to this request; was a prompt, a tool or a model ")
    assert "Record it anew: python -m tests.support.record_cassettes\n" in message
    assert f"POST {URL}\n" in message
    assert "Most similar: POST" in message
    assert '\n-{}\n+{\n+  "city": "서울"\n+}' in message
    assert "planted" not in message


def test_an_answer_is_played_once(tmp_path: Path) -> None:
    """A request that is made more often than it was recorded is unknown."""

    def ask_twice() -> None:
        with replay(written(tmp_path / "c.yaml", ["data: 1\n\n"])):
            httpx.post(URL, json={})
            httpx.post(URL, json={})

    with pytest.raises(UnknownRequestError, match="Every recorded answer to it was played already"):
        ask_twice()


def test_a_swallowed_refusal_comes_out_at_the_end(tmp_path: Path) -> None:
    """Code that makes the best of an error does not hide an unknown request."""

    def ask_anyway() -> None:
        with replay(written(tmp_path / "c.yaml", ["data: 1\n\n"])), suppress(RuntimeError):
            httpx.post("https://other.example/", json={})

    with pytest.raises(UnknownRequestError, match=r"POST https://other\.example"):
        ask_anyway()


def test_an_sdk_s_error_becomes_the_refusal(tmp_path: Path) -> None:
    """The SDKs report a failing connection; what comes out of the replay says why it failed."""
    with pytest.raises(UnknownRequestError, match=r"api\.openai\.com"), replay(written(tmp_path / "c.yaml", ["x"])):
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke("캔은?")


def test_what_was_not_asked_is_told(tmp_path: Path) -> None:
    """A recording that is longer than the conversation can be noticed."""
    with replay(written(tmp_path / "c.yaml", ["data: 1\n\n", "data: 2\n\n"])) as playback:
        httpx.post(URL, json={})

    assert playback.unused == [f"<Request (POST) {URL}>"]


def test_a_missing_cassette_says_how_to_record_it(tmp_path: Path) -> None:
    """There is no replay of nothing."""
    with pytest.raises(
        CassetteError, match=r"No cassette at .*/c\.yaml\. Record it: python -m tests\.support\.record_cassettes"
    ):
        replay(tmp_path / "c.yaml").__enter__()


@pytest.mark.parametrize("speed", [0, -1])
def test_a_speed_is_positive(speed: float, tmp_path: Path) -> None:
    """Zero is not 'without waiting'."""
    with pytest.raises(ValueError, match=f"speed={speed}"):
        replay(tmp_path / "c.yaml", speed=speed).__enter__()


def test_the_shell_s_settings_neither_matter_nor_suffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, endpoints, proxies and tracing of the shell are gone while the block runs, and there again afterwards."""
    settings = {
        "OPENAI_API_KEY": "the-user's",
        "OPENAI_BASE_URL": "http://gateway.invalid/v1",
        "GEMINI_API_KEY": "the-user's",
        "KMA_SERVICE_KEY": "the-user's",
        "ECO2_KMA_URL": "http://gateway.invalid",
        "ECO2_OPENAI_MODEL": "gpt-9",
        "LANGSMITH_TRACING": "true",
        "HTTPS_PROXY": "socks5://proxy.invalid",
        "ECO2_PROVIDER": "google",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    before = dict(os.environ)

    with replay(written(tmp_path / "c.yaml", ["data: 1\n\n"])):
        during = {name: os.environ.get(name) for name in settings}
        httpx.post(URL, json={})

    dummy = "replayed-without-a-key"
    assert during == {
        **dict.fromkeys(settings),
        "OPENAI_API_KEY": dummy,
        "KMA_SERVICE_KEY": dummy,
        "ECO2_PROVIDER": "google",
    }
    assert dict(os.environ) == before


SECRETS = {
    "bearer": "planted-bearer-token-1",
    "header": "planted-x-goog-api-key",
    "query": "planted+service/key==",
    "body": "planted-api-key-in-body",
    "environment": "planted-in-the-environment",
    "openai": "sk-proj-planted0123456789abcdef",
    "google": "AIzaSyPlanted0123456789abcdefghijklmnopq",
    "organisation": "org-planted0123456789abcdef",
    "project": "proj_planted0123456789abcdef",
    "request": "req_planted0123456789abcdef",
    "cookie": "planted-cookie",
}


@contextmanager
def service(answer: bytes, *, headers: Mapping[str, str], cut: int = 0) -> Iterator[str]:
    """Serve one answer to every request, without its last bytes if ``cut``."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers.get("content-length", 0)))
            self.send_response(200)
            for name, value in {**headers, "content-length": str(len(answer))}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer[: len(answer) - cut])

        do_GET = do_POST  # noqa: N815 # the base class's name

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 # the base class's name
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = False
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_no_secret_reaches_the_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, tokens, cookies, organisation and request ids are filtered wherever they stand, and a replay matches."""
    path = tmp_path / "c.yaml"
    told = {"message": f"{' '.join(SECRETS.values())} 서울", "api_key": "short"}
    text = json.dumps(told) if kind == "application/json" else f"data: {told['message']}\r\n\r\n"
    monkeypatch.setenv("SOME_SECRET", SECRETS["environment"])

    def ask(query: str) -> httpx.Response:
        return httpx.post(
            "https://apis.data.go.kr/forecast",
            params={"serviceKey": query, "key": query, "dong": "성수동"},
            headers={
                "authorization": f"Bearer {SECRETS['bearer']}",
                "x-goog-api-key": SECRETS["header"],
                "appkey": SECRETS["header"],
                "cookie": SECRETS["cookie"],
                "openai-organization": SECRETS["organisation"],
            },
            json={"city": "서울", "api_key": SECRETS["body"], "said": " ".join(SECRETS.values())},
        )

    # Values without a known form, that only the environment knows as secrets.
    for name in ("bearer", "header", "query", "body", "cookie"):
        monkeypatch.setenv(f"{name.upper()}_TOKEN", SECRETS[name])
    answered = {"content-type": kind, "set-cookie": SECRETS["cookie"], "x-request-id": SECRETS["request"]}
    with service(text.encode(), headers=answered) as url, record(path, upstream={"apis.data.go.kr": url}):
        ask(SECRETS["query"])

    written_down = path.read_text(encoding="utf-8")
    assert [name for name, secret in SECRETS.items() if secret in written_down] == []
    assert "planted" not in written_down.lower()
    assert "short" not in written_down or kind != "application/json"
    assert "uri: https://apis.data.go.kr/forecast?dong=성수동\n" in written_down
    (interaction,) = yaml.safe_load(written_down)["interactions"]
    assert interaction["request"]["headers"].keys() <= {"accept", "content-type"}
    assert interaction["response"]["headers"] == {"content-type": [kind]}
    size = len(interaction["response"]["body"]["string"].encode())
    assert interaction["timing"]["chunk_offsets"][-1][1] == size


def test_another_key_is_the_same_request(tmp_path: Path) -> None:
    """Keys in the query and the headers have no part in the matching."""
    path = tmp_path / "c.yaml"
    url = "https://apis.data.go.kr/forecast?dong=%EC%84%B1%EC%88%98%EB%8F%99&serviceKey="

    with (
        service(b'{"sky":"\xeb\xa7\x91\xec\x9d\x8c"}', headers={"content-type": "application/json"}) as base,
        record(path, upstream={"apis.data.go.kr": base}),
    ):
        httpx.get(f"{url}one-key", headers={"authorization": "KakaoAK one-key"})
    with replay(path):
        sky = httpx.get(f"{url}another", headers={"authorization": "KakaoAK another"}).json()

    assert sky == {"sky": "맑음"}
    assert '  "sky": "맑음"\n' in path.read_text(encoding="utf-8")


def test_recording_twice_changes_only_times(tmp_path: Path) -> None:
    """The stand-in's answers have nothing that a clock or chance made, and requests keep their places."""
    path = tmp_path / "c.yaml"

    async def conversation(questions: Sequence[str]) -> None:
        async with httpx.AsyncClient() as client:
            for question in questions:
                body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": question}], "stream": True}
                await client.post("https://api.openai.com/v1/chat/completions", json=body)

    def recorded(*questions: str) -> list[Any]:
        with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
            asyncio.run(conversation(questions))
        interactions = yaml.safe_load(path.read_text(encoding="utf-8"))["interactions"]
        return [{name: part for name, part in one.items() if name != "timing"} for one in interactions]

    first = recorded("페트병은?", "캔은?", "병은?")
    again = recorded("병은?", "캔은?", "페트병은?")
    fewer = recorded("비닐은?", "병은?", "페트병은?")

    assert again == first
    assert fewer[:2] == [first[0], first[2]]
    assert "비닐은?" in fewer[2]["request"]["body"]


async def test_a_stream_that_is_left_is_recorded_whole(tmp_path: Path) -> None:
    """A client that stops reading early does not cut the cassette off."""
    path = tmp_path / "c.yaml"
    body = {"model": "gpt-5.2", "messages": [{"role": "user", "content": "캔은?"}], "stream": True}
    url = "https://api.openai.com/v1/chat/completions"

    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream):
        async with httpx.AsyncClient() as client, client.stream("POST", url, json=body) as response:
            await anext(response.aiter_raw())
    with replay(path):
        text = httpx.post(url, json=body).text

    assert text.endswith("data: [DONE]\n\n")


def test_a_broken_answer_is_not_recorded(tmp_path: Path) -> None:
    """Half an answer is none; a recording that fails leaves the old cassette as it was."""
    path = written(tmp_path / "c.yaml", ["data: 1\n\n"])
    before = path.read_text(encoding="utf-8")

    with (
        service(b"data: 1\n\n", headers={"content-type": "text/event-stream"}, cut=3) as base,
        pytest.raises(httpx.RemoteProtocolError),
        record(path, upstream={"provider.example": base}),
    ):
        httpx.post(URL, json={})

    assert path.read_text(encoding="utf-8") == before


def test_a_host_without_upstream_is_refused(tmp_path: Path) -> None:
    """Recording from stand-ins asks nobody else."""
    with (
        pytest.raises(CassetteError, match=r"upstream= names \['api\.openai\.com'\], not 'provider\.example'"),
        record(tmp_path / "c.yaml", upstream={"api.openai.com": "http://127.0.0.1:1"}),
    ):
        httpx.post(URL, json={})


def test_a_replay_stands_where_the_recording_stood(tmp_path: Path) -> None:
    """A request that names the hour is the same one on any later day."""
    path = tmp_path / "c.yaml"

    with StandIn(SCRIPT) as stand_in, record(path, upstream=stand_in.upstream, KMA_SERVICE_KEY="wanted"):
        recorded = os.environ["ECO2_NOW"]
        assert os.environ["KMA_SERVICE_KEY"] == "wanted"
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke("캔은?")
    with replay(path):
        replayed = os.environ["ECO2_NOW"]
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke("캔은?")

    assert replayed == recorded == "2026-11-21T10:00:00+09:00"
    assert "ECO2_NOW" not in os.environ


def test_the_loopback_is_no_network(tmp_path: Path) -> None:
    """A receiver on the machine, LangSmith's or OpenTelemetry's in a test, is reached while a cassette is played."""
    with service(b"here", headers={"content-type": "text/plain"}) as url:
        with replay(written(tmp_path / "c.yaml", ["data: 1\n\n"])):
            replayed = httpx.get(url, trust_env=False).text
        with record(tmp_path / "d.yaml", upstream={}):
            recorded = httpx.get(url, trust_env=False).text

    assert replayed == recorded == "here"
    assert not (tmp_path / "d.yaml").exists()


def test_recording_from_the_providers_needs_their_keys() -> None:
    """``--record-mode=all`` without keys is one clear sentence."""
    test = "tests/graph/test_cassette.py::test_a_replayed_call_is_billed[openai_plain]"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--record-mode=all", test],
        cwd=ROOT,
        env={"PYTHONUTF8": "1", "OPENAI_API_KEY": "", "PATH": os.environ["PATH"]},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert run.returncode == 1
    assert "--record-mode=all asks the real providers: set OPENAI_API_KEY and GOOGLE_API_KEY." in run.stdout


def test_recording_from_the_services_has_their_keys(tmp_path: Path) -> None:
    """``--record-mode=all`` hands on every key that the shell holds, and no empty one."""
    keys = {name: f"the-user's {name}" for name in KEYS}
    del keys["KECO_SERVICE_KEY"]
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    (tmp_path / "test_keys.py").write_text(_TEST_KEYS, encoding="utf-8")

    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-qs", "-n", "0", "-p", "conftest", "--record-mode=all", str(tmp_path)],
        cwd=tmp_path,
        env={"PYTHONPATH": path, "PATH": os.environ["PATH"], "KECO_SERVICE_KEY": "", **keys},
        capture_output=True,
        encoding="utf-8",
        timeout=60,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout.splitlines()[0]) == keys


_TEST_KEYS = """
import json, os

def test_keys(cassette):
    print(json.dumps({name: value for name, value in os.environ.items() if name.endswith("_KEY")}))
"""


def test_a_setting_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A recording from the real providers takes their keys along, and nothing else."""
    monkeypatch.setenv("OPENAI_API_KEY", "the-user's")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway.invalid/v1")

    with environment(("OPENAI_API_KEY",)):
        during = {name: os.environ.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL")}

    assert during == {"OPENAI_API_KEY": "the-user's", "OPENAI_BASE_URL": None}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(CASSETTES)))
def test_a_cassette_can_be_read_and_told(path: Path) -> None:
    """Korean as Korean, bodies on lines of their own; no key, no identity and no host of a stand-in."""
    text = path.read_text(encoding="utf-8")
    suspicious = r"127\.0\.0\.1|localhost|authorization|bearer|cookie|\bsk-|AIza|\borg-|\bproj_|\breq_|serviceKey="

    assert "!!binary" not in text
    assert "\\u" not in text
    assert re.findall(suspicious, text, re.IGNORECASE) == []
    for interaction in yaml.safe_load(text)["interactions"]:
        assert interaction["request"]["headers"].keys() <= {"accept", "content-type"}
        assert interaction["response"]["headers"].keys() <= {"content-type", "retry-after"}


@pytest.mark.skipif(not RECORDINGS.is_dir(), reason=f"no recordings at {RECORDINGS}; set ECO2_RECORDINGS")
def test_every_shape_occurs_in_real_recordings() -> None:
    """No field, no type and no event of the providers' answers in our cassettes is made up."""
    paths = {"chat.completions": "/chat/completions", "responses": "/responses"}
    real: set[str] = set()
    for file in sorted((RECORDINGS / "cases").glob("*.json")):
        case = json.loads(file.read_text(encoding="utf-8"))
        if case["response"]["status"] == 200:
            real |= answer_shapes(paths.get(case["api"], case["api"]), case["response"]["body"])

    ours: dict[str, str] = {}
    for file in FILES:
        for interaction in yaml.safe_load(file.read_text(encoding="utf-8"))["interactions"]:
            uri = interaction["request"]["uri"]
            if re.match(r"https://(api\.openai|generativelanguage\.googleapis)\.com/", uri):
                body = interaction["response"]["body"]["string"]
                ours |= dict.fromkeys(answer_shapes(uri.partition("?")[0], body), file.name)

    assert {shape: name for shape, name in ours.items() if shape not in real | NOT_RECORDED} == {}
    assert NOT_RECORDED - real == NOT_RECORDED & ours.keys()
