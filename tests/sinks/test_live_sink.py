"""Sinks that also take the starts of runs."""

from __future__ import annotations

from typing import Any

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from langchain_core.retrievers import BaseRetriever
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, GraphRun, Record, RunStart
from eco2_callbacks.testing import FakeChatModel
from tests.support.record_sink import exposed


class Live:
    def __init__(self, fails: bool = False) -> None:
        self.events: list[tuple[str, Any]] = []
        self._fails = fails

    def on_start(self, run: RunStart) -> None:
        if self._fails:
            raise RuntimeError("broken")
        self.events.append(("start", run))

    def emit(self, record: Record) -> None:
        self.events.append(("end", record))


class Rules(BaseRetriever):
    def _get_relevant_documents(self, query: str, **kwargs: Any) -> list[Any]:
        return []


def test_each_start_comes_before_its_record_and_names_the_run() -> None:
    """A start has the ids, the kind, the name and the enclosing node of the record that follows."""

    def search(question: str) -> str:
        """Search."""
        Rules().invoke(question)
        return question

    sink = Live()
    calls_tool = AIMessage("", tool_calls=[{"name": "search", "args": {"question": "x"}, "id": "1"}])
    agent = create_agent(FakeChatModel(answers=[calls_tool, "done"]), [search])
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink]) as handler:
        agent.invoke({"messages": [("user", "x")]}, {"callbacks": [handler]})

    starts = {run.run_id: run for what, run in sink.events if what == "start"}
    assert [run.kind for run in starts.values()] == [
        *("request", "node", "llm_call", "node", "tool", "retriever", "node", "llm_call")
    ]
    assert [run.name for run in starts.values() if run.kind in ("node", "tool")] == [
        "model",
        "tools",
        "search",
        "model",
    ]
    seen: set[Any] = set()
    for what, event in sink.events:
        if what == "start":
            seen.add(event.run_id)
            continue
        run = starts[event.trace_id if isinstance(event, GraphRun) else event.run_id]
        assert run.run_id in seen
        assert (run.trace_id, run.started_at) == (event.trace_id, event.started_at)
    call = next(run for run in starts.values() if run.kind == "llm_call")
    assert starts[call.node_run_id].name == "model"


def test_a_sink_that_fails_at_a_start_affects_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The failure is counted and logged; the application, the records and other sinks go on."""
    registry, broken, other = CollectorRegistry(), Live(fails=True), Live()
    with Eco2CallbackHandler(registry=registry, sinks=[broken, other]) as handler:
        assert FakeChatModel().invoke("x", {"callbacks": [handler]}).text == "ok"
        handler.flush()

        assert [what for what, _ in broken.events] == ["end"]
        assert [what for what, _ in other.events] == ["start", "end"]
        assert exposed(registry, "eco2_callbacks_errors_total") == 1
    assert "Sink Live raised in emit" in caplog.text


def test_an_asynchronous_on_start_is_refused() -> None:
    """It would never be awaited."""

    class Wrong(Live):
        async def on_start(self, run: RunStart) -> None: ...  # type: ignore[override]

    with pytest.raises(ConfigError, match=r"wanted a plain method on_start\(run\) or none; correct it\."):
        Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[Wrong()])
