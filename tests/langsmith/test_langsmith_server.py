"""The local LangSmith: it keeps what the real client sends, and each tracing mode gives one trace."""

from __future__ import annotations

import gc
import gzip
import http.client
import json
import logging
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
from tests.support.tracing_modes import APPLICATION, CALL_MODES, TRACING_MODES, activate

QUESTION = {"messages": [("user", "Where does it go?")]}
ANSWER = "sort it well"
# The client's own would wait up to 3 s between attempts.
NO_RETRIES = Retry(total=0)


@pytest.fixture(scope="module", autouse=True)
def warm_up() -> None:
    """Invoke the graph once: imports of a first run can outlast the client's wait for a post and its patch."""
    with LangSmithServer() as server, server.client() as client:
        ask(client)


@pytest.fixture(autouse=True)
def no_open_threads() -> Iterator[None]:
    """Fail a test that leaves a thread or a socket behind."""
    before = set(threading.enumerate())

    yield

    gc.collect()
    # The pools of asyncio, LangChain and the client keep their threads until the process ends.
    pooled = ("ThreadPoolExecutor", "asyncio_")
    assert {t for t in threading.enumerate() if not t.name.startswith(pooled)} <= before


class TwoChoices(FakeModel):
    """Repeats the usage of the whole call on each of two choices, as ``ChatOpenAI`` does."""

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
    """Invoke a small graph with LangChain's own tracer and return the answer."""
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
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=300)
    try:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request("POST", path, body, named)
        response = connection.getresponse()
        response.read()
        return response.status, response.headers
    finally:
        connection.close()


# Runs and feedback that arrive.


@pytest.mark.parametrize(
    ("ingest", "path", "encoding", "kinds"),
    [
        ("multipart", "/runs/multipart", "identity", ["post"] * 3),
        ("zstd", "/runs/multipart", "zstd", ["post"] * 3 + ["patch"] * 3),
        ("batch", "/runs/batch", "identity", ["post"] * 3),
    ],
)
def test_runs_arrive_complete(ingest: Ingest, path: str, encoding: str, kinds: list[str]) -> None:
    """Inputs, outputs, extra and events arrive with their run in every ingest format."""
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
    """A client that does not batch sends one request for each post and each patch."""
    with server.client(auto_batch_tracing=False) as client:
        ask(client)

    assert server.requests == {"POST /runs": 3, "PATCH /runs/{id}": 3}
    assert [operation.kind for operation in server.operations] == ["post"] * 3 + ["patch"] * 3
    assert server.run(name="FakeModel")["extra"]["metadata"]["usage_metadata"] == USAGE


def test_gzip_is_read(server: LangSmithServer) -> None:
    """A gzip body is read like any other, and an attachment belongs to its run."""
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
    """The error is part of the first end of a run."""
    with LangSmithServer(ingest=ingest) as server, server.client() as client, pytest.raises(ValueError, match="quota"):
        ask(client, FakeModel(fails=[ValueError("quota")]))

    call = server.run(run_type="llm")
    assert call["error"].startswith("ValueError('quota')")
    assert "usage_metadata" not in call["extra"]["metadata"]
    assert [len(server.patches(run_id)) for run_id in server.runs()] == ([1, 1, 1] if ingest == "zstd" else [0, 0, 0])


@pytest.mark.parametrize("ingest", ["multipart", "zstd"])
def test_only_the_first_end_counts(ingest: Ingest) -> None:
    """A patch after a run's end is among its patches but does not change the run."""
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
                # The client would merge both patches in its queue, and the second text would win.
                client.flush()

    assert "end_time" not in started
    assert started["inputs"] == {"text": "q"}
    assert [patch.payload["outputs"] for patch in server.patches(run_id)] == [{"text": "first"}, {"text": "second"}]
    assert server.run(id=run_id)["outputs"] == {"text": "first"}
    assert server.run(id=run_id)["inputs"] == {"text": "q"}
    assert server.run(id=run_id)["name"] == "run"


def test_a_run_posted_with_its_end_takes_no_patch(server: LangSmithServer) -> None:
    """A run whose post holds the outputs has ended with it."""
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
    """Feedback that names its trace is sent with the runs, other feedback in a request of its own."""
    run_id, session_id = uuid.uuid4(), uuid.uuid4()
    with server.client() as client:
        client.create_feedback(run_id, "queued", score=1, trace_id=run_id, session_id=session_id)
        client.flush()
        client.create_feedback(run_id, "direct", score=0, session_id=session_id)

    assert [(feedback["key"], feedback["score"]) for feedback in server.feedback] == [("queued", 1), ("direct", 0)]
    assert [operation.path for operation in server.operations] == ["/runs/multipart", "/feedback"]
    assert server.runs() == {}


def test_two_choices_are_counted_twice_by_the_tracer_itself(server: LangSmithServer) -> None:
    """LangChain's tracer adds the usage of each choice: twice the tokens that were billed."""
    with server.client() as client:
        ask(client, TwoChoices())

    assert server.run(run_type="llm")["extra"]["metadata"]["usage_metadata"] == {
        name: 2 * tokens for name, tokens in USAGE.items()
    }


def test_what_was_not_flushed_can_be_awaited(server: LangSmithServer) -> None:
    """``wait`` returns once the client has sent without a flush, and fails on timeout."""
    with server.client() as client:
        ask(client)
        server.wait(lambda server: len(server.operations) == 3)

        assert server.run(run_type="llm")["end_time"]
        with pytest.raises(AssertionError, match=r"Not within 0\.02 s"):
            server.wait(lambda server: len(server.operations) > 3, timeout_seconds=0.02)


def test_a_missing_run_is_reported_with_the_existing_runs(server: LangSmithServer) -> None:
    """The error for a missing run lists the runs that exist."""
    with server.client() as client:
        ask(client)

    with pytest.raises(AssertionError, match=r"0 runs with \{'name': 'other'\}.*'llm', 'FakeModel'"):
        server.run(name="other")


def test_other_requests_are_counted_and_not_found(server: LangSmithServer) -> None:
    """The server has one project and no datasets, and counts both requests."""
    with server.client() as client:
        assert str(client.read_project(project_name="default").id) == server.project_id
        with pytest.raises(LangSmithNotFoundError):
            client.read_dataset(dataset_name="default")

    assert (server.requests["GET /sessions"], server.requests["GET /datasets"]) == (1, 1)


def test_an_unreadable_request_fails_the_block() -> None:
    """A request in an unknown shape fails the block at its end."""
    with pytest.raises(ExceptionGroup) as failure, LangSmithServer() as server:
        status, _ = post(server.url, "/runs/batch", b"not JSON")

    assert status == 422
    assert failure.group_contains(json.JSONDecodeError)


def test_connections_end_with_the_server() -> None:
    """A keep-alive connection does not outlive the server, nor delay its end."""
    with LangSmithServer() as server:
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=300)
        connection.request("GET", "/info")
        connection.getresponse().read()
        sock = connection.sock

    assert sock.recv(1) == b""
    connection.close()


# Tracing modes.


@pytest.mark.parametrize("mode", CALL_MODES)
@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_each_tracing_mode_gives_one_trace(server: LangSmithServer, tracing_mode: str, mode: str) -> None:
    """In every tracing mode one root run holds all others, and tracing is off afterwards."""
    with activate(tracing_mode, server) as active:
        state = await CALL_MODES[mode](active, build_graph(FakeModel()), QUESTION, metadata={"thread_id": "t1"})

    assert state["messages"][-1].text == ANSWER
    (root,) = server.roots()
    if tracing_mode == "traceable":
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
    assert len(server.runs()) == (4 if tracing_mode == "traceable" else 3)
    assert not tracing_is_enabled()
    assert run_trees._CLIENT is None


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
async def test_each_tracing_mode_uses_the_servers_ingest_and_the_clients_options(tracing_mode: str) -> None:
    """The client of each tracing mode compresses when the server wants it, and hides what its options say."""
    with LangSmithServer(ingest="zstd") as server, activate(tracing_mode, server, hide_inputs=True) as active:
        await CALL_MODES["ainvoke"](active, build_graph(FakeModel()), QUESTION)
        active.client.flush()
        operations = server.operations

    assert {operation.encoding for operation in operations} == {"zstd"}
    assert server.operations == operations
    assert server.run(run_type="llm")["inputs"] == {}


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
def test_the_handler_is_placed_as_the_tracing_mode_says(server: LangSmithServer, tracing_mode: str) -> None:
    """A handler is passed before or after the tracer; LangChain appends a tracer of its own."""
    handler = BaseCallbackHandler()
    with activate(tracing_mode, server, handler) as active:
        passed = [type(callback) for callback in active.callbacks]

    assert passed == {
        "tracer_before": [LangChainTracer, BaseCallbackHandler],
        "tracer_after": [BaseCallbackHandler, LangChainTracer],
    }.get(tracing_mode, [BaseCallbackHandler])


# Faults.


@pytest.mark.parametrize("ingest", ["multipart", "zstd"])
@pytest.mark.parametrize("status", [500, 429])
def test_a_failing_server_keeps_nothing(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, ingest: Ingest, status: int
) -> None:
    """The graph answers while the server fails, and the next trace after its recovery arrives."""
    # Without the throttle of a handler that is still open elsewhere in this process.
    monkeypatch.setattr(logging.getLogger("langsmith.client"), "filters", [])
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


def test_a_refusal_carries_retry_after(server: LangSmithServer) -> None:
    """A 429 carries the configured Retry-After."""
    server.fail_with(429, retry_after_seconds=7)

    status, headers = post(server.url, "/runs/batch", b"{}")

    assert (status, headers["Retry-After"]) == (429, "7")
    assert server.requests == {"POST /runs/batch": 1}


@pytest.mark.parametrize("ingest", ["multipart", "zstd", "batch"])
def test_a_hanging_server_delays_neither_the_graph_nor_the_test(ingest: Ingest) -> None:
    """The graph answers while LangSmith hangs, and the end of the test does not wait for it."""
    started = time.monotonic()
    with LangSmithServer(ingest=ingest) as server, server.client() as client:
        server.hang()
        answer = ask(client)
        client.flush(timeout=0.2)
        held = server.operations

    assert answer == ANSWER
    assert held == []
    assert len(server.runs()) == 3
    assert time.monotonic() - started < 60  # the client itself waits 90 s for an answer


def test_a_slow_server_answers_in_the_end(server: LangSmithServer) -> None:
    """A delayed request is answered in the end, and its content is kept."""
    with server.client() as client:
        server.hang(0.3)
        ask(client)
        started = time.monotonic()
        client.flush()
        waited = time.monotonic() - started
        arrived = server.operations

    assert waited >= 0.3
    assert len(arrived) == 3


def test_a_refused_connection_does_not_delay_the_graph(
    server: LangSmithServer, caplog: pytest.LogCaptureFixture
) -> None:
    """The graph answers, and the client logs that it could not connect."""
    with refused_url() as url, server.client(api_url=url, retry_config=NO_RETRIES) as client:
        answer = ask(client)
        client.flush()

    assert answer == ANSWER
    assert server.requests == {}
    assert "Connection refused" in caplog.text
