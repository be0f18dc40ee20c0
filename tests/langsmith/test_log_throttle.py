"""A LangSmith that is away, slow or overrun: the graph answers, Prometheus counts, and one line says it."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from urllib3 import Retry

from eco2_callbacks import Eco2CallbackHandler
from eco2_callbacks.outage import OutageFilter
from tests.support.langsmith_server import LangSmithServer, refused_url
from tests.support.record_sink import exposed
from tests.support.traced_graphs import one_node, sync_answer
from tests.support.tracing_modes import activate

REQUESTS = 50
# The client's own rests between attempts are seconds long.
AT_ONCE = {"retry_config": Retry(total=0)}


@pytest.fixture
def server() -> Iterator[LangSmithServer]:
    with LangSmithServer(ingest="zstd") as server:
        yield server


def scored(state: Any) -> Any:
    return {**sync_answer(state), "scores": {"rag": 0.5}}


def ask(callbacks: list[Any]) -> float:
    """Return the seconds that the requests took together."""
    graph = one_node(scored)
    began = time.perf_counter()
    for _ in range(REQUESTS):
        assert graph.invoke({"message": "hello"}, {"callbacks": callbacks})["answers"] == ["sort it well"]
    return time.perf_counter() - began


def faulty(server: LangSmithServer, fault: str) -> None:
    if fault == "hangs":
        server.hang()
    elif fault == "429":
        server.fail_with(429)
    elif fault == "500":
        server.fail_with(500)


@pytest.mark.parametrize("fault", ["500", "429", "hangs", "refused"])
@pytest.mark.parametrize("way", ["environment", "tracer_before"])
def test_the_graph_and_prometheus_do_not_depend_on_langsmith(server: LangSmithServer, way: str, fault: str) -> None:
    """The requests take about as long as with a LangSmith that is well, and every one is counted."""
    registry = CollectorRegistry()
    feedback = {"answer": {"rag_quality": "scores.rag"}}
    with refused_url() as nowhere, Eco2CallbackHandler(registry=registry, feedback=feedback) as handler:
        away = {"api_url": nowhere} if fault == "refused" else {}
        with activate(way, server) as active:
            well_seconds = min(ask([*active.callbacks, handler]) for _ in range(2))
        with activate(way, server, **AT_ONCE, **away) as active:
            faulty(server, fault)
            ill_seconds = min(ask([*active.callbacks, handler]) for _ in range(2))

    # One request that waited for a LangSmith that hangs would take longer than all of them.
    assert ill_seconds < 4 * well_seconds
    assert exposed(registry, "chat_requests_total") == exposed(registry, "llm_calls_total") == 4 * REQUESTS
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(4 * REQUESTS * 0.0053872)
    assert exposed(registry, "eco2_callbacks_open_runs") == 0


@pytest.mark.parametrize("fault", ["500", "429", "refused"])
def test_an_outage_is_one_clear_line(server: LangSmithServer, caplog: pytest.LogCaptureFixture, fault: str) -> None:
    """Many batches fail; the log says so once, in a sentence and without a list of run ids."""
    with refused_url() as nowhere, Eco2CallbackHandler(registry=CollectorRegistry()) as handler:
        away = {"api_url": nowhere} if fault == "refused" else {}
        with activate("tracer_after", server, **AT_ONCE, **away) as active:
            faulty(server, fault)
            for _ in range(4):
                ask([handler, *active.callbacks])
                active.client.flush()

    said = [line.getMessage() for line in caplog.records if "take the runs" in line.getMessage()]
    assert len(said) == 1
    assert said[0].startswith("LangSmith does not take the runs that are sent to it (")
    assert said[0].endswith("Said once a minute; 0 more since the last time.")
    assert len(said[0]) < 450
    assert "Failed to" not in "".join(line.getMessage() for line in caplog.records if "info" not in line.getMessage())


def test_feedback_is_given_up_while_langsmith_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """The first score that fails is said, the rest is counted without being tried."""
    registry = CollectorRegistry()
    with refused_url() as nowhere, LangSmithServer() as server:
        handler = Eco2CallbackHandler(registry=registry, feedback={"answer": {"rag_quality": "scores.rag"}})
        with activate("tracer_after", server, handler, api_url=nowhere, **AT_ONCE) as active:
            ask(active.callbacks)
            handler.close()

    said = [line.getMessage() for line in caplog.records if line.name == "eco2_callbacks.langsmith"]
    assert len(said) == 1
    assert said[0].startswith("Feedback did not reach LangSmith (")
    assert said[0].endswith(
        "); for 60 seconds none is tried, and each lost score is counted in "
        'eco2_callbacks_errors_total{callback="feedback"}.'
    )
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "feedback"}) == REQUESTS


def test_the_filter_counts_what_it_leaves_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """At 59.9 seconds it is still quiet, at 60 it speaks again; other lines pass untouched."""
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    outages = OutageFilter()

    def passes(text: str) -> str | None:
        record = logging.LogRecord("langsmith.client", logging.WARNING, "", 0, text, None, None)
        return record.getMessage() if outages.filter(record) else None

    failure = "Failed to multipart ingest runs: LangSmithConnectionError(%r)\n" + "trace=1," * 1000
    first = passes(failure)
    other = passes("Dropped 7 trace data item(s)")
    now += 59.9
    quiet = [passes(failure), passes("Failed to batch ingest runs: x")]
    now += 0.1
    again = passes("Failed to send compressed multipart ingest: y")

    assert first is not None
    assert "(LangSmithConnectionError(%r))" in first
    assert "trace=" not in first
    assert other == "Dropped 7 trace data item(s)"
    assert quiet == [None, None]
    assert again is not None
    assert "(y)" in again
    assert again.endswith("; 2 more since the last time.")
