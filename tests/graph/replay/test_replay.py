"""Replay: the recorded answers at the recorded pace, and nothing else."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import httpx2
import pytest
from langchain_openai import ChatOpenAI

from graph.replay import (
    CassetteError,
    UnknownRequestError,
    provider_environment,
    record,
    recorded_seconds,
    replay,
)
from tests.support.call_paths import SCRIPT
from tests.support.http_cassettes import URL, http_service, write_cassette
from tests.support.provider_standin import Pace, StandIn

ROOT = Path(__file__).parents[3]


async def arrivals(library: Any, *, asynchronous: bool) -> tuple[str, list[float]]:
    """Send one request, and return the body and when its headers and chunks arrived."""
    began = time.monotonic()
    times, chunks = [], []
    if asynchronous:
        async with library.AsyncClient() as client, client.stream("POST", URL, json={}) as response:
            times.append(time.monotonic() - began)
            async for chunk in response.aiter_raw():
                times.append(time.monotonic() - began)
                chunks.append(chunk)
    else:
        with library.Client() as client, client.stream("POST", URL, json={}) as response:
            times.append(time.monotonic() - began)
            for chunk in response.iter_raw():
                times.append(time.monotonic() - began)
                chunks.append(chunk)
    return b"".join(chunks).decode(), times


@pytest.mark.parametrize("asynchronous", [True, False], ids=["async", "sync"])
@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
async def test_a_body_arrives_at_its_pace(
    library: Any, asynchronous: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Headers and chunks arrive in the recorded chunks, not before their time divided by the speed."""
    pauses: list[float] = []
    pause, pause_async = time.sleep, asyncio.sleep

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        pause(seconds)

    async def sleep_async(seconds: float) -> None:
        pauses.append(seconds)
        await pause_async(seconds)

    monkeypatch.setattr(time, "sleep", sleep)
    monkeypatch.setattr(asyncio, "sleep", sleep_async)
    body = "data: 가\n\ndata: 나\n\ndata: 다\n\n"
    due = [0.12, 0.2, 0.32]
    size = len(body.encode()) // 3
    path = write_cassette(
        tmp_path / "c.yaml", [body] * 3, first=0.1, offsets=[(due[i], size * (i + 1)) for i in range(3)]
    )

    elapsed, paused = {}, {}
    for speed in (1, 4, None):
        pauses.clear()
        with replay(path, speed=speed):
            text, elapsed[speed] = await arrivals(library, asynchronous=asynchronous)
        paused[speed] = sum(pauses)
        assert text == body
        assert len(elapsed[speed]) == 4

    assert all(actual >= due for actual, due in zip(elapsed[1], [0.1, *due], strict=True))
    assert all(actual >= due / 4 for actual, due in zip(elapsed[4], [0.1, *due], strict=True))
    assert paused[1] <= 0.32
    assert paused[4] <= 0.32 / 4
    assert paused[None] == 0
    assert recorded_seconds(path) == pytest.approx(3 * 0.32)


async def test_parallel_answers_overlap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All answers are waited for at once. Equal requests get one recorded answer each."""
    pause, all_wait, waiting = asyncio.sleep, asyncio.Event(), 0

    async def sleep(seconds: float) -> None:
        nonlocal waiting
        waiting += 1
        if waiting >= len(bodies):
            all_wait.set()
        await all_wait.wait()
        await pause(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    bodies = [f"data: {number}\n\n" for number in range(8)]
    path = write_cassette(tmp_path / "c.yaml", bodies, first=0.2, offsets=[(0.4, len(bodies[0]))])

    with replay(path, speed=1) as playback:
        answers = await asyncio.gather(*(arrivals(httpx, asynchronous=True) for _ in bodies))

    assert sorted(text for text, _ in answers) == bodies
    assert playback.unused == []


def test_threads_get_an_answer_each(tmp_path: Path) -> None:
    """Synchronous clients in several threads get one recorded answer each."""
    bodies = [f"data: {number}\n\n" for number in range(16)]
    answers: list[str] = []

    with replay(write_cassette(tmp_path / "c.yaml", bodies)):
        threads = [threading.Thread(target=lambda: answers.append(httpx.post(URL, json={}).text)) for _ in bodies]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert sorted(answers) == sorted(bodies)


def test_a_model_s_stream_is_paced(tmp_path: Path) -> None:
    """The caller sees the recorded time to first token and the recorded pace."""
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
    """The error shows the request, its difference from the most similar one, and what to do, without secrets."""
    path = write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])

    with pytest.raises(UnknownRequestError) as refused, replay(path):
        httpx.post(f"{URL}?serviceKey=planted-in-the-query", json={"city": "서울"})

    message = str(refused.value)
    assert message.startswith(f"The cassette {path} has no answer to this request. Did a prompt, a tool or a model ")
    assert "Record it again: python -m tests.support.record_cassettes\n" in message
    assert f"POST {URL}\n" in message
    assert "Most similar: POST" in message
    assert '\n-{}\n+{\n+  "city": "서울"\n+}' in message
    assert "planted" not in message


def test_an_answer_is_replayed_once(tmp_path: Path) -> None:
    """A request that is repeated more often than recorded is unknown."""

    def request_twice() -> None:
        with replay(write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])):
            httpx.post(URL, json={})
            httpx.post(URL, json={})

    with pytest.raises(UnknownRequestError, match="All recorded answers to it were replayed already"):
        request_twice()


def test_a_handled_refusal_still_fails_the_replay(tmp_path: Path) -> None:
    """A refused request fails the replay even if the code handles the error."""

    def request_and_ignore_errors() -> None:
        with replay(write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])), suppress(RuntimeError):
            httpx.post("https://other.example/", json={})

    with pytest.raises(UnknownRequestError, match=r"POST https://other\.example"):
        request_and_ignore_errors()


def test_a_connection_error_of_an_sdk_becomes_the_refusal(tmp_path: Path) -> None:
    """An SDK reports a connection error; the replay raises the refusal instead."""
    with (
        pytest.raises(UnknownRequestError, match=r"api\.openai\.com"),
        replay(write_cassette(tmp_path / "c.yaml", ["x"])),
    ):
        ChatOpenAI(model="gpt-5.2", max_retries=0).invoke("캔은?")


def test_unused_requests_are_listed(tmp_path: Path) -> None:
    """``unused`` lists the recorded requests that were not made."""
    with replay(write_cassette(tmp_path / "c.yaml", ["data: 1\n\n", "data: 2\n\n"])) as playback:
        httpx.post(URL, json={})

    assert playback.unused == [f"<Request (POST) {URL}>"]


def test_a_missing_cassette_says_how_to_record_it(tmp_path: Path) -> None:
    """The error contains the command that records cassettes."""
    with pytest.raises(
        CassetteError, match=r"No cassette at .*/c\.yaml\. Record it: python -m tests\.support\.record_cassettes"
    ):
        replay(tmp_path / "c.yaml").__enter__()


@pytest.mark.parametrize("speed", [0, -1])
def test_a_speed_is_positive(speed: float, tmp_path: Path) -> None:
    """A speed of zero is not the same as no waiting."""
    with pytest.raises(ValueError, match=f"speed is {speed}"):
        replay(tmp_path / "c.yaml", speed=speed).__enter__()


def test_settings_of_the_shell_are_removed_and_restored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keys, endpoints, proxies and tracing are removed during the block and restored afterwards."""
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

    with replay(write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])):
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


def test_a_replay_uses_the_time_of_the_recording(tmp_path: Path) -> None:
    """A replay uses the time of the recording, so requests with a time of day still match."""
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


def test_loopback_requests_pass_through(tmp_path: Path) -> None:
    """Requests to the loopback pass through a replay and a recording."""
    with http_service(b"here", headers={"content-type": "text/plain"}) as url:
        with replay(write_cassette(tmp_path / "c.yaml", ["data: 1\n\n"])):
            replayed = httpx.get(url, trust_env=False).text
        with record(tmp_path / "d.yaml", upstream={}):
            recorded = httpx.get(url, trust_env=False).text

    assert replayed == recorded == "here"
    assert not (tmp_path / "d.yaml").exists()


def test_a_setting_can_be_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """``provider_environment`` keeps the named settings and removes all others."""
    monkeypatch.setenv("OPENAI_API_KEY", "the-user's")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://gateway.invalid/v1")

    with provider_environment(("OPENAI_API_KEY",)):
        during = {name: os.environ.get(name) for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL")}

    assert during == {"OPENAI_API_KEY": "the-user's", "OPENAI_BASE_URL": None}
