"""The local LangSmith: what the real client sends arrives whole, and each way to switch tracing on gives one trace."""

from __future__ import annotations

import gc
import gzip
import http.client
import json
import threading
import time
import uuid
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import langsmith
import pytest
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableConfig
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.graph import END, START, MessagesState, StateGraph
from langsmith import run_trees
from langsmith.utils import LangSmithNotFoundError, tracing_is_enabled
from requests_toolbelt import MultipartEncoder
from urllib3.util import Retry

from tests.support.fake_model import USAGE, FakeModel
from tests.support.langsmith_server import Ingest, LangSmithServer, refused_url
from tests.support.tracing_modes import ACTIVATIONS, APPLICATION, MODES, activate

QUESTION = {"messages": [("user", "Where does it go?")]}
ANSWER = "sort it well"
# The client's own would wait up to 3 s between attempts.
NO_RETRIES = Retry(total=0)


@pytest.fixture(autouse=True)
def nothing_left_open() -> Iterator[None]:
    """Let a thread or a socket that a test left behind fail that very test."""
    before = set(threading.enumerate())

    yield

    gc.collect()
    # The pools of asyncio, LangChain and the client keep their threads until the process ends.
    pooled = ("ThreadPoolExecutor", "asyncio_")
    assert {t for t in threading.enumerate() if not t.name.startswith(pooled)} <= before


class TwoChoices(FakeModel):
    """Asked for two choices it repeats the usage of the whole call on each, as ``ChatOpenAI`` does."""

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        return ChatResult(generations=super()._generate(messages).generations * 2)


def build_graph(model: FakeModel) -> Any:
    def answer(state: MessagesState, config: RunnableConfig) -> dict[str, Any]:
        return {"messages": [model.invoke(state["messages"], config)]}

    builder = StateGraph(MessagesState)
    builder.add_node("answer", answer)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


def ask(client: langsmith.Client, model: FakeModel | None = None) -> str:
    """Put the question to a small graph with LangChain's own tracer, and return the answer."""
    config = {"callbacks": [LangChainTracer(client=client)]}
    return str(build_graph(model or FakeModel()).invoke(QUESTION, config)["messages"][-1].text)


def new_run(**fields: Any) -> dict[str, Any]:
    """Return a run of its own trace, as ``create_run`` and ``update_run`` take it."""
    now = datetime.now(UTC)
    run_id = uuid.uuid4()
    order = f"{now:%Y%m%dT%H%M%S%f}Z{run_id}"
    return {"id": run_id, "trace_id": run_id, "dotted_order": order, "start_time": now, "name": "run", **fields}


def post(url: str, path: str, body: bytes, **headers: str) -> tuple[int, http.client.HTTPMessage]:
    """Send one request without the client, and return status and headers."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=5)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    finally:
        connection.close()


# What arrives.


@pytest.mark.parametrize(
    ("ingest", "path", "encoding", "kinds"),
    [
        ("multipart", "/runs/multipart", "identity", ["post"] * 3),
        ("zstd", "/runs/multipart", "zstd", ["post"] * 3 + ["patch"] * 3),
        ("batch", "/runs/batch", "identity", ["post"] * 3),
    ],
)
def test_runs_arrive_whole(ingest: Ingest, path: str, encoding: str, kinds: list[str]) -> None:
    """Inputs, outputs, extra and events arrive with their run, however the server asked for them."""
    with LangSmithServer(ingest=ingest) as server, server.client() as client:
        ask(client)
        client.flush()

    assert [operation.kind for operation in server.operations] == kinds
    assert {(operation.path, operation.encoding) for operation in server.operations} == {(path, encoding)}
    assert {operation.headers["x-api-key"] for operation in server.operations} == {"lsv2_pt_test"}
    assert server.requests == {"GET /info": 1, f"POST {path}": 1}
    (root,) = server.roots()
    (node,) = server.children(root)
    (call,) = server.children(node)
    assert [(run["name"], run["run_type"]) for run in (root, node, call)] == [
        ("LangGraph", "chain"),
        ("answer", "chain"),
        ("FakeModel", "llm"),
    ]
    assert root["outputs"]["messages"][-1]["content"] == ANSWER
    assert call["inputs"]["messages"][0][0]["kwargs"]["content"] == "Where does it go?"
    assert call["outputs"]["generations"][0][0]["text"] == ANSWER
    assert call["extra"]["metadata"]["usage_metadata"] == USAGE
    assert call["extra"]["metadata"]["langgraph_node"] == "answer"
    assert [event["name"] for event in call["events"]] == ["start", "end"]
    assert call["end_time"] >= call["start_time"]
    assert call.get("error") is None
    assert call["session_name"] == "default"


def test_runs_arrive_one_by_one(server: LangSmithServer) -> None:
    """A client that does not batch posts and patches each run in requests of their own."""
    with server.client(auto_batch_tracing=False) as client:
        ask(client)

    assert server.requests == {"POST /runs": 3, "PATCH /runs/{id}": 3}
    assert [operation.kind for operation in server.operations] == ["post"] * 3 + ["patch"] * 3
    assert server.run(name="FakeModel")["extra"]["metadata"]["usage_metadata"] == USAGE


def test_gzip_is_read(server: LangSmithServer) -> None:
    """A body compressed with gzip arrives like any other, an attachment with the run that it belongs to."""
    body = MultipartEncoder(
        {
            "post.1": (None, json.dumps({"id": "1", "name": "run"}), "application/json"),
            "post.1.inputs": (None, '{"text": "a\\r\\n\\r\\nb"}', "application/json"),
            "attachment.1.photo": (None, b"\x00\r\n--\r\n\xff", "image/png"),
        }
    )

    status, _ = post(
        server.url,
        "/runs/multipart",
        gzip.compress(body.to_string()),
        Content_Type=body.content_type,
        Content_Encoding="gzip",
    )

    assert status == 202
    (operation,) = server.operations
    assert (operation.encoding, operation.id, operation.request) == ("gzip", "1", 1)
    assert operation.payload == {
        "id": "1",
        "name": "run",
        "inputs": {"text": "a\r\n\r\nb"},
        "attachments": {"photo": b"\x00\r\n--\r\n\xff"},
    }


@pytest.mark.parametrize("ingest", ["multipart", "zstd"])
def test_a_failed_run_arrives_with_its_error(ingest: Ingest) -> None:
    """The error is part of the run's first end."""
    with LangSmithServer(ingest=ingest) as server, server.client() as client, pytest.raises(ValueError, match="quota"):
        ask(client, FakeModel(fails=[ValueError("quota")]))

    call = server.run(run_type="llm")
    assert call["error"].startswith("ValueError('quota')")
    assert "usage_metadata" not in call["extra"]["metadata"]
    assert [len(server.patches(run_id)) for run_id in server.runs()] == ([1, 1, 1] if ingest == "zstd" else [0, 0, 0])


@pytest.mark.parametrize("ingest", ["multipart", "zstd"])
def test_only_the_first_end_counts(ingest: Ingest) -> None:
    """A patch after a run's end is seen among its patches, and not in the run."""
    run = new_run(inputs={"text": "q"}, run_type="llm")
    run_id = str(run["id"])
    with LangSmithServer(ingest=ingest) as server, server.client() as client:
        client.create_run(**run)
        client.flush()
        started = server.run(id=run_id)
        for text in ("first", "second"):
            client.update_run(
                run["id"], trace_id=run["trace_id"], dotted_order=run["dotted_order"], outputs={"text": text}
            )
            if ingest == "multipart":
                # What meets in its queue the client would merge, and the second text would win.
                client.flush()

    assert "end_time" not in started
    assert started["inputs"] == {"text": "q"}
    assert [patch.payload["outputs"] for patch in server.patches(run_id)] == [{"text": "first"}, {"text": "second"}]
    assert server.run(id=run_id)["outputs"] == {"text": "first"}
    assert server.run(id=run_id)["inputs"] == {"text": "q"}
    assert server.run(id=run_id)["name"] == "run"


def test_a_run_posted_with_its_end_takes_no_patch(server: LangSmithServer) -> None:
    """A run whose post already held the outputs was ended by it."""
    run = new_run(inputs={}, outputs={"text": "done"}, end_time=datetime.now(UTC), run_type="llm")
    with server.client() as client:
        client.create_run(**run)
        client.flush()
        client.update_run(
            run["id"], trace_id=run["trace_id"], dotted_order=run["dotted_order"], outputs={"text": "late"}
        )

    assert server.run(name="run")["outputs"] == {"text": "done"}
    assert len(server.patches(str(run["id"]))) == 1


def test_feedback_arrives_both_ways(server: LangSmithServer) -> None:
    """Feedback comes with the runs' multipart when it names their trace, else in a request of its own."""
    run_id, session_id = uuid.uuid4(), uuid.uuid4()
    with server.client() as client:
        client.create_feedback(run_id, "queued", score=1, trace_id=run_id, session_id=session_id)
        client.flush()
        client.create_feedback(run_id, "direct", score=0, session_id=session_id)

    assert [(feedback["key"], feedback["score"]) for feedback in server.feedback] == [("queued", 1), ("direct", 0)]
    assert [operation.path for operation in server.operations] == ["/runs/multipart", "/feedback"]
    assert server.runs() == {}


def test_two_choices_are_counted_twice_by_the_tracer_itself(server: LangSmithServer) -> None:
    """LangChain's tracer adds up the usage that each choice repeats: twice the tokens that were billed."""
    with server.client() as client:
        ask(client, TwoChoices())

    assert server.run(run_type="llm")["extra"]["metadata"]["usage_metadata"] == {
        name: 2 * tokens for name, tokens in USAGE.items()
    }


def test_what_was_not_flushed_can_be_awaited(server: LangSmithServer) -> None:
    """``wait`` returns once the client sent of its own accord, and fails if that takes too long."""
    with server.client() as client:
        ask(client)
        server.wait(lambda server: len(server.operations) == 3)

        assert server.run(run_type="llm")["end_time"]
        with pytest.raises(AssertionError, match=r"Not within 0\.02 s"):
            server.wait(lambda server: len(server.operations) > 3, timeout_seconds=0.02)


def test_a_missing_run_is_named_with_those_that_are_there(server: LangSmithServer) -> None:
    """Who looks for a run that is not there reads what was."""
    with server.client() as client:
        ask(client)

    with pytest.raises(AssertionError, match=r"0 runs with \{'name': 'other'\}.*'llm', 'FakeModel'"):
        server.run(name="other")


def test_other_requests_are_counted_and_not_found(server: LangSmithServer) -> None:
    """It knows no datasets, and shows that it was asked for one; of projects there is always the one."""
    with server.client() as client:
        assert str(client.read_project(project_name="default").id) == server.project_id
        with pytest.raises(LangSmithNotFoundError):
            client.read_dataset(dataset_name="default")

    assert (server.requests["GET /sessions"], server.requests["GET /datasets"]) == (1, 1)


def test_what_cannot_be_read_fails_the_block() -> None:
    """A request in a shape the server does not know does not pass unseen."""
    with pytest.raises(ExceptionGroup) as failure, LangSmithServer() as server:
        status, _ = post(server.url, "/runs/batch", b"not JSON")

    assert status == 422
    assert failure.group_contains(json.JSONDecodeError)


def test_connections_end_with_the_server() -> None:
    """A connection that a client keeps alive does not keep the server, nor the server the connection."""
    with LangSmithServer() as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=5)
        connection.request("GET", "/info")
        connection.getresponse().read()
        sock = connection.sock

    assert sock.recv(1) == b""
    connection.close()


# The ways to switch tracing on.


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ACTIVATIONS)
async def test_each_activation_gives_one_trace(server: LangSmithServer, name: str, mode: str) -> None:
    """However tracing is switched on and the graph is called, one root run holds all others, and then it is off."""
    with activate(name, server) as active:
        state = await MODES[mode](active, build_graph(FakeModel()), QUESTION, metadata={"thread_id": "t1"})

    assert state["messages"][-1].text == ANSWER
    (root,) = server.roots()
    if name == "traceable":
        assert (root["name"], root["outputs"]["messages"][-1]["content"]) == (APPLICATION, ANSWER)
        (graph,) = server.children(root)
    else:
        graph = root
    (node,) = server.children(graph)
    (call,) = server.children(node)
    assert (graph["name"], node["name"], call["name"]) == ("LangGraph", "answer", "FakeModel")
    assert call["extra"]["metadata"]["usage_metadata"] == USAGE
    assert call["extra"]["metadata"]["thread_id"] == "t1"
    assert {run["trace_id"] for run in server.runs().values()} == {root["id"]}
    assert all(run["end_time"] for run in server.runs().values())
    assert len(server.runs()) == (4 if name == "traceable" else 3)
    assert not tracing_is_enabled()
    assert run_trees._CLIENT is None


@pytest.mark.parametrize("name", ACTIVATIONS)
async def test_each_activation_takes_the_servers_ingest_and_the_clients_options(name: str) -> None:
    """The client of each compresses when asked to, and hides what it was told to."""
    with LangSmithServer(ingest="zstd") as server, activate(name, server, hide_inputs=True) as active:
        await MODES["ainvoke"](active, build_graph(FakeModel()), QUESTION)
        active.client.flush()
        operations = server.operations

    assert {operation.encoding for operation in operations} == {"zstd"}
    assert server.operations == operations
    assert server.run(run_type="llm")["inputs"] == {}


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_the_handler_stands_where_the_activation_says(server: LangSmithServer, name: str) -> None:
    """A handler is passed beside the tracer, before or after it; LangChain adds any other tracer behind."""
    handler = BaseCallbackHandler()
    with activate(name, server, handler) as active:
        passed = [type(callback) for callback in active.callbacks]

    assert passed == {
        "tracer_before": [LangChainTracer, BaseCallbackHandler],
        "tracer_after": [BaseCallbackHandler, LangChainTracer],
    }.get(name, [BaseCallbackHandler])


# What goes wrong.


@pytest.mark.parametrize("ingest", ["multipart", "zstd"])
@pytest.mark.parametrize("status", [500, 429])
def test_a_failing_server_keeps_nothing(caplog: pytest.LogCaptureFixture, ingest: Ingest, status: int) -> None:
    """The graph answers, the client gives up and says so, and once the server recovered the next trace arrives."""
    with LangSmithServer(ingest=ingest) as server, server.client(retry_config=NO_RETRIES) as client:
        server.fail_with(status, retry_after_seconds=0)
        failed = ask(client)
        client.flush()
        kept = server.operations
        server.recover()
        ask(client)

    assert failed == ANSWER
    assert kept == []
    (line,) = [record for record in caplog.records if "ingest" in record.getMessage().split(":")[0].split()]
    assert (line.name, line.levelname) == ("langsmith.client", "WARNING")
    assert str(status) in line.getMessage() or "Rate limit exceeded" in line.getMessage()
    assert len(server.runs()) == 3


def test_a_refusal_says_when_to_come_back(server: LangSmithServer) -> None:
    """A 429 carries the Retry-After that was asked for."""
    server.fail_with(429, retry_after_seconds=7)

    status, headers = post(server.url, "/runs/batch", b"{}")

    assert (status, headers["Retry-After"]) == (429, "7")
    assert server.requests == {"POST /runs/batch": 1}


@pytest.mark.parametrize("ingest", ["multipart", "zstd", "batch"])
def test_a_hanging_server_holds_up_nobody(ingest: Ingest) -> None:
    """The graph answers while LangSmith does not, and the end of the test does not wait for it."""
    started = time.monotonic()
    with LangSmithServer(ingest=ingest) as server, server.client() as client:
        server.hang()
        answer = ask(client)
        client.flush(timeout=0.2)
        held = server.operations

    assert answer == ANSWER
    assert held == []
    assert len(server.runs()) == 3
    assert time.monotonic() - started < 3


def test_a_slow_server_answers_in_the_end(server: LangSmithServer) -> None:
    """A request that hung for its time is answered, and what it carried is kept."""
    with server.client() as client:
        server.hang(0.3)
        ask(client)
        started = time.monotonic()
        client.flush()
        waited = time.monotonic() - started
        arrived = server.operations

    assert waited >= 0.3
    assert len(arrived) == 3


def test_a_refused_connection_holds_up_nobody(server: LangSmithServer, caplog: pytest.LogCaptureFixture) -> None:
    """Where nobody listens the graph answers as well, and the client says that it could not connect."""
    with refused_url() as url, server.client(api_url=url, retry_config=NO_RETRIES) as client:
        answer = ask(client)
        client.flush()

    assert answer == ANSWER
    assert server.requests == {}
    assert "Connection refused" in caplog.text
