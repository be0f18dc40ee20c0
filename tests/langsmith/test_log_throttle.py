"""A LangSmith that is down, slow or overloaded: the graph answers, Prometheus counts, one line is logged."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from urllib3 import Retry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.langsmith import log_throttle
from eco2_callbacks.langsmith.log_throttle import ThrottleFilter
from tests.support.langsmith_server import LangSmithServer, refused_url
from tests.support.record_sink import exposed
from tests.support.traced_graphs import one_node, sync_answer
from tests.support.tracing_modes import activate

REQUESTS = 50


@pytest.fixture(autouse=True)
def fresh_throttle() -> None:
    """Forget the minute of silence that an earlier test has begun: it is the process's."""
    log_throttle._throttle._quiet_until = 0.0
    log_throttle._throttle._suppressed = 0


# The client's own pauses between attempts are seconds long.
NO_RETRIES = {"retry_config": Retry(total=0)}


@pytest.fixture
def server() -> Iterator[LangSmithServer]:
    with LangSmithServer(ingest="zstd") as server:
        yield server


def scored(state: Any) -> Any:
    return {**sync_answer(state), "scores": {"rag": 0.5}}


def ask(callbacks: list[Any]) -> float:
    """Run the requests and return how many seconds they took together."""
    graph = one_node(scored)
    started = time.perf_counter()
    for _ in range(REQUESTS):
        assert graph.invoke({"message": "hello"}, {"callbacks": callbacks})["answers"] == ["sort it well"]
    return time.perf_counter() - started


def start_fault(server: LangSmithServer, fault: str) -> None:
    if fault == "hangs":
        server.hang()
    elif fault == "429":
        server.fail_with(429)
    elif fault == "500":
        server.fail_with(500)


@pytest.mark.parametrize("fault", ["500", "429", "hangs", "refused"])
@pytest.mark.parametrize("tracing_mode", ["environment", pytest.param("tracer_before", marks=pytest.mark.slow)])
def test_the_graph_and_prometheus_do_not_depend_on_langsmith(
    server: LangSmithServer, tracing_mode: str, fault: str
) -> None:
    """No request waits for LangSmith, and every one is counted."""
    registry = CollectorRegistry()
    feedback = {"answer": {"rag_quality": "scores.rag"}}
    with refused_url() as refused, Eco2CallbackHandler(registry=registry, feedback=feedback) as handler:
        options = {"api_url": refused} if fault == "refused" else {}
        with activate(tracing_mode, server) as active:
            healthy_seconds = min(ask([*active.callbacks, handler]) for _ in range(2))
        with activate(tracing_mode, server, **NO_RETRIES, **options) as active:
            start_fault(server, fault)
            faulty_seconds = min(ask([*active.callbacks, handler]) for _ in range(2))

    # The client gives up a hanging LangSmith after 90 s; a request that waited would take as long.
    assert faulty_seconds < healthy_seconds + 60
    assert exposed(registry, "chat_requests_total") == exposed(registry, "llm_calls_total") == 4 * REQUESTS
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(4 * REQUESTS * 0.0053872)
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


@pytest.mark.parametrize("fault", ["500", "429", "refused"])
def test_an_outage_is_one_log_line(server: LangSmithServer, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """Many batches fail, and one log line says so, without a list of run ids."""
    with refused_url() as refused, Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        options = {"api_url": refused} if fault == "refused" else {}
        with activate("tracer_after", server, **NO_RETRIES, **options) as active:
            start_fault(server, fault)
            for _ in range(4):
                ask([handler, *active.callbacks])
                active.client.flush()

    logged = [line.getMessage() for line in caplog.records if "accept the runs" in line.getMessage()]
    assert len(logged) == 1
    assert logged[0].startswith("LangSmith does not accept the runs that are sent to it (")
    assert logged[0].endswith("Logged once a minute; 0 more since the last time.")
    assert len(logged[0]) < 450
    assert "Failed to" not in "".join(line.getMessage() for line in caplog.records if "info" not in line.getMessage())


def test_feedback_is_dropped_while_langsmith_is_down(caplog: pytest.LogCaptureFixture) -> None:
    """The first score that fails is logged; the others are counted and not tried."""
    registry = CollectorRegistry()
    with refused_url() as refused, LangSmithServer() as server:
        handler = Eco2CallbackHandler(registry=registry, feedback={"answer": {"rag_quality": "scores.rag"}})
        with activate("tracer_after", server, handler, api_url=refused, **NO_RETRIES) as active:
            ask(active.callbacks)
            handler.close()

    logged = [line.getMessage() for line in caplog.records if line.name == "eco2_callbacks.langsmith.feedback_sender"]
    assert len(logged) == 1
    assert logged[0].startswith("Feedback did not reach LangSmith (")
    assert logged[0].endswith(
        "); none is sent for 60 seconds, and each lost score is counted in "
        'eco2_callbacks_errors_total{callback="feedback"}.'
    )
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "feedback"}) == REQUESTS


def test_the_filter_counts_suppressed_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """The filter suppresses repeats for 60 seconds, counts them, and lets other lines pass."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    outages = ThrottleFilter()

    def passes(text: str) -> str | None:
        record = logging.LogRecord("langsmith.client", logging.WARNING, "", 0, text, None, None)
        return record.getMessage() if outages.filter(record) else None

    failure = "Failed to multipart ingest runs: LangSmithConnectionError(%r)\n" + "trace=1," * 1000
    first = passes(failure)
    other = passes("Dropped 7 trace data item(s)")
    now += 59.9
    suppressed = [passes(failure), passes("Failed to batch ingest runs: x")]
    now += 0.1
    again = passes("Failed to send compressed multipart ingest: y")

    assert first is not None
    assert "(LangSmithConnectionError(%r))" in first
    assert "trace=" not in first
    assert other == "Dropped 7 trace data item(s)"
    assert suppressed == [None, None]
    assert again is not None
    assert "(y)" in again
    assert again.endswith("; 2 more since the last time.")
