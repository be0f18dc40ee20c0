"""The API: questions, events, answers, cancelling, feedback, repetition and errors."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Iterator
from contextlib import closing
from decimal import Decimal
from http import HTTPStatus
from pathlib import Path
from typing import Any

import httpx
import pytest
from langsmith import Client

from graph.api import ApiSettings, FeedbackSender, feedback_client
from graph.jobs import Job, QueueUnavailableError
from graph.streams import RedisJobStore, StoreUnavailableError, connect_redis
from tests.support import fake_runtime
from tests.support.api_server import api_server
from tests.support.fake_model import COST, FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.redis_process import redis_process

ANSWER = "강남역 11번 출구 앞에 페트병 수거함이 있습니다."
FIGURES = ("usd", "tokens", "unpriced_calls", "estimated", "open_calls")
PNG = base64.b64encode(b"\x89PNG\r\n\x1a\n" + bytes(100)).decode()


async def hang(state: fake_runtime.State) -> fake_runtime.State:
    await asyncio.Event().wait()
    return {}


def tokens(events: list[dict[str, Any]]) -> str:
    return "".join(event["data"]["text"] for event in events if event.get("event") == "token")


async def test_a_question_from_its_post_to_its_answer(tmp_path: Path) -> None:
    """202 with a job, its events in order with ids and the run, and its answer with the exact cost."""
    async with api_server(tmp_path) as server:
        posted = await server.client.post("/api/v1/chat", json={"message": "안녕!", "session_id": "s"})
        job = posted.json()
        events = await server.events(job["job_id"])
        answer = (await server.client.get(job["result_url"])).json()

    assert (posted.status_code, posted.headers["location"]) == (202, job["result_url"])
    assert job["events_url"] == f"{job['result_url']}/events"
    assert job["session_id"] == "s"
    kinds = [event["event"] for event in events]
    assert (kinds[:2], kinds[-1]) == (["queued", "started"], "done")
    assert [event["id"] for event in events] == ["0-1", *(f"1-{number}" for number in range(len(events) - 1))]
    assert all(event["data"]["run"] == (0 if event["id"] == "0-1" else 1) for event in events)
    ended = [event["data"] for event in events if event["data"].get("status") == "ended"]
    assert {"intent", "location", "web_search", "answer"} <= {data["node"] for data in ended}
    assert all(data["seconds"] >= 0 and Decimal(data["usd"]) >= 0 for data in ended)
    done = events[-1]["data"]
    assert tokens(events) == done["answer"] == answer["answer"] == ANSWER
    assert answer == {
        "job_id": job["job_id"],
        "session_id": "s",
        "status": "done",
        "run": 1,
        "answer": ANSWER,
        "images": [],
        "intent": "greeting",
        "tokens": done["tokens"],
        "usd": done["usd"],
        "unpriced_calls": 0,
        "estimated": False,
        "open_calls": 0,
        "seconds": done["seconds"],
        "error": None,
    }


async def test_the_stream_tells_proxies_not_to_buffer_and_beats(tmp_path: Path) -> None:
    """Comments keep the connection open while no event comes; a missing heartbeat would hang this test."""
    async with api_server(tmp_path, ApiSettings(heartbeat_seconds=1), router=hang) as server:
        job_id = await server.ask()
        async with server.client.stream("GET", f"/api/v1/chat/{job_id}/events") as answer:
            headers = answer.headers
            async for line in answer.aiter_lines():
                if line.startswith(":"):
                    break

    assert headers["content-type"].startswith("text/event-stream")
    assert headers["x-accel-buffering"] == "no"
    assert headers["cache-control"] == "no-store"


async def test_a_reader_resumes_after_its_last_event(tmp_path: Path) -> None:
    """It gets the rest and nothing twice; after the last event there is nothing; a bad id is refused."""
    async with api_server(tmp_path) as server:
        job_id = await server.ask()
        first = await server.events(job_id, limit=5)
        rest = await server.events(job_id, headers={"Last-Event-ID": first[-1]["id"]})
        url = f"/api/v1/chat/{job_id}/events"
        ended = await server.client.get(url, headers={"Last-Event-ID": rest[-1]["id"]})
        beyond = await server.events(job_id, headers={"Last-Event-ID": "9-9"})
        bad = await server.client.get(url, headers={"Last-Event-ID": "abc"})

    assert tokens(first) + tokens(rest) == ANSWER
    ids = [event["id"] for event in (*first, *rest)]
    assert len(ids) == len(set(ids))
    assert (ended.status_code, ended.content) == (204, b"")
    assert [event["event"] for event in beyond] == ["snapshot", "done"]
    assert beyond[0]["data"]["answer"] == ANSWER
    assert bad.status_code == 422
    assert server.recoveries == [("catch_up", "success"), ("snapshot", "success")]


async def test_cancelling_ends_the_answer_and_keeps_its_cost(tmp_path: Path) -> None:
    """The reader gets an event, the answer shows it, and a second time changes nothing."""
    async with api_server(tmp_path, router=hang) as server:
        job_id = await server.ask()
        await server.events(job_id, limit=4)
        await server.client.delete(f"/api/v1/chat/{job_id}")
        *_, last = await server.events(job_id)
        again = (await server.client.delete(f"/api/v1/chat/{job_id}")).json()

    assert (last["event"], last["data"]["type"]) == ("error", "cancelled")
    assert (again["status"], again["error"]["type"]) == ("cancelled", "cancelled")
    assert {name: again[name] for name in FIGURES} == {name: last["data"][name] for name in FIGURES}
    assert Decimal(again["usd"]) == COST  # the intent's call
    assert again["tokens"]["total"] == 1100


async def test_an_unknown_cost_is_null_and_counted(tmp_path: Path) -> None:
    """Where no call has a price, the dollars are unknown, not zero: in the node, the last event and the answer."""

    async def unpriced(state: fake_runtime.State) -> fake_runtime.State:
        await FakeModel(model="nobody-knows-1", answered_by="nobody-knows-1", provider="nobody").ainvoke("x")
        return {}

    nodes = dict.fromkeys(("intent", "location", "web_search", "answer"), unpriced)
    async with api_server(tmp_path, **nodes) as server:
        job_id = await server.ask()
        events = await server.events(job_id)
        answer = (await server.client.get(f"/api/v1/chat/{job_id}")).json()

    ended = [one["data"] for one in events if one["event"] in {"node", "call"} and one["data"]["status"] == "ended"]
    assert {(one["node"], one["usd"]) for one in ended} == {("router", "0"), *((node, None) for node in nodes)}
    for shown in (events[-1]["data"], answer):
        assert (shown["usd"], shown["unpriced_calls"], shown["estimated"]) == (None, 4, False)
        assert shown["tokens"]["total"] == 4 * 1100


async def test_a_cost_without_one_price_says_so(tmp_path: Path) -> None:
    """The dollars are those of the priced calls, and the answer counts the other."""

    async def unpriced(state: fake_runtime.State) -> fake_runtime.State:
        model = FakeModel(model="nobody-knows-1", answered_by="nobody-knows-1", provider="nobody")
        return {"answer": (await model.ainvoke("x")).text}

    async with api_server(tmp_path, answer=unpriced) as server:
        answer = await server.until_ended(await server.ask())

    assert (Decimal(answer["usd"]), answer["unpriced_calls"]) == (4 * COST, 1)


async def test_an_estimate_is_marked_in_the_answer(tmp_path: Path) -> None:
    """A cancelled call is billed by an estimate: the last event and the answer say so."""
    started = asyncio.Event()

    async def slow(state: fake_runtime.State) -> fake_runtime.State:
        model = FakeModel(words=["a "] * 200, pause_seconds=3600, on_pause=started.set)
        return {"answer": "".join([chunk.text async for chunk in model.astream("x")])}

    async with api_server(tmp_path, answer=slow) as server:
        job_id = await server.ask()
        await started.wait()
        await server.client.delete(f"/api/v1/chat/{job_id}")
        *_, last = await server.events(job_id)
        answer = (await server.client.get(f"/api/v1/chat/{job_id}")).json()

    assert (answer["status"], answer["estimated"], answer["open_calls"]) == ("cancelled", True, 0)
    assert Decimal(answer["usd"]) > 4 * COST
    assert {name: answer[name] for name in FIGURES} == {name: last["data"][name] for name in FIGURES}


async def test_a_repeated_question_gets_the_first_job(tmp_path: Path) -> None:
    """The same key and body: one job. Another body: 409. No key: another job."""
    async with api_server(tmp_path) as server:
        key = {"Idempotency-Key": "k-1"}
        first = await server.ask(headers=key)
        again = await server.ask(headers=key)
        other = await server.client.post("/api/v1/chat", json={"message": "다른 질문"}, headers=key)
        unkeyed = await server.ask()
        answer = await server.until_ended(first)

    assert first == again != unkeyed
    assert answer["run"] == 1
    assert (other.status_code, other.headers["content-type"]) == (409, "application/problem+json")


async def test_a_question_that_the_queue_refuses_can_be_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """503 says so; the same key is free again, so that the repetition is answered."""
    async with api_server(tmp_path) as server:
        publish = server.queue.publish

        async def refuse(job: Any) -> None:
            raise QueueUnavailableError("full")

        monkeypatch.setattr(server.queue, "publish", refuse)
        refused = await server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers={"Idempotency-Key": "k"})
        monkeypatch.setattr(server.queue, "publish", publish)
        answer = await server.until_ended(await server.ask(headers={"Idempotency-Key": "k"}))

    assert (refused.status_code, refused.json()["title"]) == (503, "Service Unavailable")
    assert int(refused.headers["retry-after"]) > 0
    assert answer["status"] == "done"


async def test_a_question_without_an_answer_of_the_queue_is_paid_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The queue has it after all: with a key the repetition gets the same job; without one no worker runs it."""
    sent: list[Job] = []
    ran: list[str] = []

    async def router(state: fake_runtime.State) -> fake_runtime.State:
        ran.append(state["message"])
        return {}

    async def lose_answer(job: Job) -> None:
        sent.append(job)
        raise QueueUnavailableError("TimeoutError: ")

    async with api_server(tmp_path, router=router) as server:
        key = {"Idempotency-Key": "k"}
        with monkeypatch.context() as patch:
            patch.setattr(server.queue, "publish", lose_answer)
            lost = [await server.client.post("/api/v1/chat", json={"message": "keyed"}, headers=key)]
            lost.append(await server.client.post("/api/v1/chat", json={"message": "without"}))

            async def refuse(job: Job) -> None:
                raise QueueUnavailableError("full", is_refused=True)

            patch.setattr(server.queue, "publish", refuse)
            lost.append(await server.client.post("/api/v1/chat", json={"message": "keyed"}, headers=key))
        repeated = await server.ask("keyed", headers=key)
        await server.until_ended(repeated)
        for job in sent:  # both messages arrive late
            await server.queue.publish(job)
            await server.until_ended(job.job_id)
        cancelled = await server.store.state(sent[1].job_id)

    assert [answer.status_code for answer in lost] == [503] * 3
    assert repeated == sent[0].job_id
    assert ran == ["keyed"]
    assert (cancelled.status, cancelled.result["type"], cancelled.result["usd"]) == ("cancelled", "unavailable", "0")


async def test_a_question_that_is_sent_twice_stays_when_the_first_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second request has handed the job to the queue: it is answered, and a third request gets the same job."""
    key = {"Idempotency-Key": "k"}
    waiting, refused = asyncio.Event(), asyncio.Event()
    async with api_server(tmp_path) as server:

        async def refuse_late(job: Job) -> None:
            waiting.set()
            await refused.wait()
            raise QueueUnavailableError("not connected", is_refused=True)

        with monkeypatch.context() as patch:
            patch.setattr(server.queue, "publish", refuse_late)
            first = asyncio.create_task(server.client.post("/api/v1/chat", json={"message": "안녕!"}, headers=key))
            await waiting.wait()
        second = await server.ask(headers=key)
        refused.set()
        assert (await first).status_code == 503
        answer = await server.until_ended(second)
        third = await server.ask(headers=key)

    assert (answer["status"], third) == ("done", second)


async def test_a_question_in_the_queue_is_accepted_though_the_store_fails(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It runs and is paid, so its sender learns where to read the answer."""
    async with api_server(tmp_path) as server:

        async def fail(job_id: str) -> None:
            raise StoreUnavailableError("The connection was reset")

        monkeypatch.setattr(server.store, "mark_published", fail)
        answer = await server.until_ended(await server.ask())

    assert answer["status"] == "done"


async def test_without_redis_the_api_says_503(tmp_path: Path) -> None:
    """No request hangs, and the problem names no address."""
    with redis_process(tmp_path / "redis") as redis:
        store = RedisJobStore(connect_redis(redis.url))
        async with api_server(tmp_path, store=store) as server:
            job_id = await server.ask()
            await server.until_ended(job_id)
            redis.kill()
            asked = await server.client.post("/api/v1/chat", json={"message": "안녕!"})
            read = await server.client.get(f"/api/v1/chat/{job_id}")
            redis.start()
            answer = await server.until_ended(job_id)
        await store.aclose()

    for refused in (asked, read):
        assert (refused.status_code, refused.headers["content-type"]) == (503, "application/problem+json")
        assert "127.0.0.1" not in refused.text
    assert answer["answer"] == ANSWER


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param({}, "message and image are both empty", id="empty"),
        pytest.param({"message": "  \n"}, "message and image are both empty", id="blank"),
        pytest.param({"message": "x" * 8001}, "at most 8000 characters", id="long"),
        pytest.param({"message": "a\x00b"}, "control characters", id="control"),
        pytest.param({"message": "x", "session_id": "a\nb"}, "wanted 1 to 128", id="newline"),
        pytest.param({"message": "x", "session_id": "../../etc"}, "wanted 1 to 128", id="path"),
        pytest.param({"message": "x", "tenant_id": "other"}, "Extra inputs", id="tenant"),
        pytest.param({"image": "http://169.254.169.254/"}, "addresses are not fetched", id="address"),
        pytest.param({"image": "file:///etc/passwd"}, "addresses are not fetched", id="file"),
        pytest.param({"image": "data:image/png;base64,%%%"}, "cannot be read", id="no_base64"),
        pytest.param({"image": "data:image/png;base64,PHN2Zz4="}, "unknown type", id="type"),
        pytest.param({"message": 5}, "valid string", id="number"),
    ],
)
async def test_an_invalid_question_is_a_problem(tmp_path: Path, body: dict[str, Any], reason: str) -> None:
    """422 names the part and the reason, not the content."""
    async with api_server(tmp_path) as server:
        answer = await server.client.post("/api/v1/chat", json=body)

    problem = answer.json()
    assert (answer.status_code, answer.headers["content-type"]) == (422, "application/problem+json")
    assert (problem["status"], problem["title"], problem["type"]) == (422, HTTPStatus(422).phrase, "about:blank")
    assert any(reason in error["reason"] for error in problem["errors"])
    assert all(len(error["reason"]) < 300 for error in problem["errors"])


async def test_the_type_of_an_image_is_its_content_s(tmp_path: Path) -> None:
    """A PNG that claims to be a JPEG reaches the graph as what it is."""
    found: list[str] = []

    async def intent(state: fake_runtime.State) -> fake_runtime.State:
        found.append(state["image"])
        return {"intent": "waste"}

    async with api_server(tmp_path, intent=intent) as server:
        job_id = await server.ask("", image=f"data:image/jpeg;base64,{PNG}")
        await server.until_ended(job_id)

    assert found == [f"data:image/png;base64,{PNG}"]


@pytest.fixture
def langsmith(monkeypatch: pytest.MonkeyPatch) -> Iterator[LangSmithServer]:
    with LangSmithServer() as server:
        monkeypatch.setenv("LANGSMITH_ENDPOINT", server.url)
        monkeypatch.setenv("LANGSMITH_API_KEY", "lsv2_pt_test")
        yield server


async def test_feedback_reaches_langsmith(tmp_path: Path, langsmith: LangSmithServer) -> None:
    """It is on the run of the answer; on an unfinished job it is refused."""
    with closing(feedback_client()) as client:
        async with api_server(tmp_path, feedback=FeedbackSender(client)) as server:
            job_id = await server.ask()
            await server.until_ended(job_id)
            url = f"/api/v1/chat/{job_id}/feedback"
            sent = await server.client.post(url, json={"score": 0.5, "comment": "그럭저럭"})
            wrong = await server.client.post(url, json={"score": 1.5})
            state = await server.store.state(job_id)
        (feedback,) = [one for one in langsmith.feedback if one["key"] == "user_score"]

    assert (sent.status_code, sent.json()) == (202, {"job_id": job_id, "reached": ["langsmith"]})
    assert wrong.status_code == 422
    assert (feedback["trace_id"], feedback["score"], feedback["comment"]) == (state.trace_id, 0.5, "그럭저럭")


async def test_feedback_that_langsmith_refuses_is_not_said_to_be_there(
    tmp_path: Path, langsmith: LangSmithServer
) -> None:
    """The user reads who has it. LangSmith has it only when it has answered so, also after it took others before."""
    with closing(feedback_client()) as client:
        async with api_server(tmp_path, feedback=FeedbackSender(client)) as server:
            job_id = await server.ask()
            await server.until_ended(job_id)
            reached = []
            for fail in (None, 422, None):
                langsmith.recover() if fail is None else langsmith.fail_with(fail)
                sent = await server.client.post(f"/api/v1/chat/{job_id}/feedback", json={"score": 1})
                reached.append(sent.json()["reached"])

    assert reached == [["langsmith"], [], ["langsmith"]]
    assert len(langsmith.feedback) == 2


@pytest.mark.slow
async def test_feedback_that_nobody_takes_says_so(tmp_path: Path) -> None:
    """Feedback without LangSmith reaches no output; a LangSmith that does not answer is logged and no user error."""
    unreachable = FeedbackSender(Client(api_url="http://127.0.0.1:1", api_key="k", auto_batch_tracing=False))
    for sender in (FeedbackSender(None), unreachable):
        async with api_server(tmp_path, feedback=sender) as server:
            job_id = await server.ask()
            await server.until_ended(job_id)
            sent = await server.client.post(f"/api/v1/chat/{job_id}/feedback", json={"score": 1})

        assert sent.json()["reached"] == []


async def test_feedback_needs_an_answer(tmp_path: Path) -> None:
    """A running job has none yet."""
    async with api_server(tmp_path, router=hang) as server:
        job_id = await server.ask()
        sent = await server.client.post(f"/api/v1/chat/{job_id}/feedback", json={"score": 1})

    assert (sent.status_code, sent.json()["title"]) == (409, "Conflict")


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/api/v1/chat/unknown", 404),
        ("GET", "/api/v1/chat/unknown/events", 404),
        ("DELETE", "/api/v1/chat/unknown", 404),
        ("GET", "/api/v1/chat/a%0Ab", 422),
        ("GET", "/elsewhere", 404),
        ("PUT", "/api/v1/chat", 405),
    ],
)
async def test_every_error_is_a_problem(tmp_path: Path, method: str, path: str, status: int) -> None:
    """RFC 9457 for the framework's own errors too."""
    async with api_server(tmp_path) as server:
        answer = await server.client.request(method, path)

    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")
    assert answer.json()["status"] == status


async def test_the_description_is_complete(tmp_path: Path) -> None:
    """Every operation has an id, a summary and its problems; the schemas name all fields."""
    async with api_server(tmp_path) as server:
        description = (await server.client.get("/api/v1/openapi.json")).json()

    operations = [operation for path in description["paths"].values() for operation in path.values()]
    assert {operation["operationId"] for operation in operations} == {
        *("ask", "readEvents", "readAnswer", "cancel", "sendFeedback"),
    }
    for operation in operations:
        assert operation["description"]
        assert {"401", "429", "503"} <= operation["responses"].keys()
        problem = operation["responses"]["422"]["content"]["application/problem+json"]["schema"]
        assert problem == {"$ref": "#/components/schemas/Problem"}
    assert {"Problem", "ChatRequest", "Accepted", "JobAnswer"} <= description["components"]["schemas"].keys()


async def test_no_cache_keeps_an_answer(tmp_path: Path) -> None:
    """A cache before the API keeps neither an answer, which changes and is one user's, nor an error."""
    async with api_server(tmp_path) as server:
        asked = await server.client.post("/api/v1/chat", json={"message": "안녕!"})
        url = asked.headers["location"]
        job_id = asked.json()["job_id"]
        events = await server.events(job_id)
        read = [
            await server.client.get(url),
            await server.client.get(f"{url}/events"),
            await server.client.get(f"{url}/events", headers={"Last-Event-ID": events[-1]["id"]}),
            await server.client.delete(url),
            await server.client.get("/api/v1/chat/unknown"),
            await server.client.post("/api/v1/chat", json={}),
        ]

    assert [answer.status_code for answer in read] == [200, 200, 204, 200, 404, 422]
    assert {answer.headers.get("cache-control") for answer in (asked, *read)} == {"no-store"}


async def test_while_draining_no_question_is_taken(tmp_path: Path) -> None:
    """The client gets 503 with a time to retry; running answers can still be read."""
    async with api_server(tmp_path) as server:
        job_id = await server.ask()
        server.context.draining.set()
        refused = await server.client.post("/api/v1/chat", json={"message": "안녕!"})
        answer = await server.until_ended(job_id)

    assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
    assert answer["status"] == "done"


async def test_a_stopping_server_ends_its_streams(tmp_path: Path) -> None:
    """The reader's connection ends, so that it comes back to another process."""
    async with api_server(tmp_path, router=hang) as server:
        job_id = await server.ask()
        async with server.client.stream("GET", f"/api/v1/chat/{job_id}/events") as answer:
            lines = answer.aiter_lines()
            async for line in lines:
                if line == "event: node":
                    break
            server.context.stopping.set()
            rest = [line async for line in lines]

    assert not {"event: done", "event: error"} & set(rest)


async def test_a_failed_answer_is_reported_without_its_content(tmp_path: Path) -> None:
    """The class of the exception, and no message that could hold the user's text."""
    async with api_server(tmp_path, router=fake_runtime.raise_timeout) as server:
        answer = await server.until_ended(await server.ask())

    assert (answer["status"], answer["error"]["type"]) == ("error", "TimeoutError")
    assert "too late" not in str(answer)


async def test_an_unexpected_error_is_a_problem_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """500 names the class only."""
    async with api_server(tmp_path) as server:

        async def fail(job_id: str) -> None:
            raise KeyError("secret")

        monkeypatch.setattr(server.store, "state", fail)
        try:
            answer = await server.client.get("/api/v1/chat/a")
        except httpx.RemoteProtocolError:  # pragma: no cover
            pytest.fail("the connection ended without an answer")

    assert (answer.status_code, answer.headers["content-type"]) == (500, "application/problem+json")
    assert "secret" not in answer.text
