"""Recording: what a new cassette contains, and what it must not contain."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from graph.replay import (
    KEYS,
    CassetteError,
    record,
    replay,
)
from tests.support.call_paths import SCRIPT
from tests.support.http_cassettes import URL, http_service, write_cassette
from tests.support.provider_standin import StandIn

ROOT = Path(__file__).parents[3]

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


@pytest.mark.parametrize("kind", ["application/json", "text/event-stream"])
def test_no_secret_reaches_the_file(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, tokens, cookies, organisation and request ids are removed everywhere, and the offsets match the body."""
    path = tmp_path / "c.yaml"
    content = {"message": f"{' '.join(SECRETS.values())} 서울", "api_key": "short"}
    text = json.dumps(content) if kind == "application/json" else f"data: {content['message']}\r\n\r\n"
    monkeypatch.setenv("SOME_SECRET", SECRETS["environment"])

    def send(query: str) -> httpx.Response:
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
            json={"city": "서울", "api_key": SECRETS["body"], "text": " ".join(SECRETS.values())},
        )

    # These values have no known form. Only their variables mark them as secrets.
    for name in ("bearer", "header", "query", "body", "cookie"):
        monkeypatch.setenv(f"{name.upper()}_TOKEN", SECRETS[name])
    response_headers = {"content-type": kind, "set-cookie": SECRETS["cookie"], "x-request-id": SECRETS["request"]}
    with http_service(text.encode(), headers=response_headers) as url, record(path, upstream={"apis.data.go.kr": url}):
        send(SECRETS["query"])

    recorded = path.read_text(encoding="utf-8")
    assert [name for name, secret in SECRETS.items() if secret in recorded] == []
    assert "planted" not in recorded.lower()
    assert "short" not in recorded or kind != "application/json"
    assert "uri: https://apis.data.go.kr/forecast?dong=성수동\n" in recorded
    (interaction,) = yaml.safe_load(recorded)["interactions"]
    assert interaction["request"]["headers"].keys() <= {"accept", "content-type"}
    assert interaction["response"]["headers"] == {"content-type": [kind]}
    size = len(interaction["response"]["body"]["string"].encode())
    assert interaction["timing"]["chunk_offsets"][-1][1] == size


def test_another_key_is_the_same_request(tmp_path: Path) -> None:
    """Keys in the query and in headers are ignored by the matching."""
    path = tmp_path / "c.yaml"
    url = "https://apis.data.go.kr/forecast?dong=%EC%84%B1%EC%88%98%EB%8F%99&serviceKey="

    with (
        http_service(b'{"sky":"\xeb\xa7\x91\xec\x9d\x8c"}', headers={"content-type": "application/json"}) as base,
        record(path, upstream={"apis.data.go.kr": base}),
    ):
        httpx.get(f"{url}one-key", headers={"authorization": "KakaoAK one-key"})
    with replay(path):
        sky = httpx.get(f"{url}another", headers={"authorization": "KakaoAK another"}).json()

    assert sky == {"sky": "맑음"}
    assert '  "sky": "맑음"\n' in path.read_text(encoding="utf-8")


def test_recording_twice_changes_only_times(tmp_path: Path) -> None:
    """A second recording differs only in its timing, and requests keep their order."""
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


async def test_an_abandoned_stream_is_recorded_completely(tmp_path: Path) -> None:
    """A client that stops reading early does not truncate the recording."""
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
    """A failed recording leaves the previous cassette unchanged."""
    path = write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])
    before = path.read_text(encoding="utf-8")

    with (
        http_service(b"data: 1\n\n", headers={"content-type": "text/event-stream"}, cut=3) as base,
        pytest.raises(httpx.RemoteProtocolError),
        record(path, upstream={"provider.example": base}),
    ):
        httpx.post(URL, json={})

    assert path.read_text(encoding="utf-8") == before


def test_a_host_without_upstream_is_refused(tmp_path: Path) -> None:
    """A recording from stand-ins sends requests to no other host."""
    with (
        pytest.raises(CassetteError, match=r"upstream= names \['api\.openai\.com'\], not 'provider\.example'"),
        record(tmp_path / "c.yaml", upstream={"api.openai.com": "http://127.0.0.1:1"}),
    ):
        httpx.post(URL, json={})


@pytest.mark.slow
def test_recording_from_the_providers_needs_their_keys() -> None:
    """``--record-mode=all`` without keys fails with one sentence."""
    test = "tests/graph/replay/test_cassette.py::test_a_replayed_call_is_billed[openai_plain]"
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--record-mode=all", test],
        cwd=ROOT,
        env={"PYTHONUTF8": "1", "OPENAI_API_KEY": "", "PATH": os.environ["PATH"]},
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )

    assert run.returncode == 1
    assert "--record-mode=all asks the real providers: set OPENAI_API_KEY and GOOGLE_API_KEY." in run.stdout


@pytest.mark.slow
def test_recording_from_the_services_uses_their_keys(tmp_path: Path) -> None:
    """``--record-mode=all`` passes on every key of the shell and no empty one."""
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
        timeout=300,
        check=False,
    )

    assert run.returncode == 0, run.stdout + run.stderr
    assert json.loads(run.stdout.splitlines()[0]) == keys


_TEST_KEYS = """
import json, os

def test_keys(cassette):
    print(json.dumps({name: value for name, value in os.environ.items() if name.endswith("_KEY")}))
"""
