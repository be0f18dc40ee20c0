"""LangSmith: every traced run is sent once, and nothing else is."""

from __future__ import annotations

import gc
import pickle

import langsmith
import pytest
from langchain_core.callbacks import UsageMetadataCallbackHandler
from langchain_core.messages import AIMessage
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langsmith.run_trees import RunTree
from langsmith.utils import get_env_var
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import metadata
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import exposed
from tests.support.traced_graphs import State, one_node, sync_answer
from tests.support.tracing_modes import activate


def test_the_answer_is_unchanged(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """The answer, its pickle and another handler's counts are the same as without the handler."""
    model, usages = FakeModel(), UsageMetadataCallbackHandler()
    plain = model.invoke("hello")

    for tracing_mode in ("tracer_before", "tracer_after"):
        with activate(tracing_mode, server, handler) as active:
            answer = model.invoke("hello", {"callbacks": [*active.callbacks, usages]})

            assert type(answer) is AIMessage
            assert answer.model_dump(exclude={"id"}) == plain.model_dump(exclude={"id"})
            assert pickle.loads(pickle.dumps(answer)) == answer

    assert usages.usage_metadata == {
        "gpt-5.2-2025-12-11": {"input_tokens": 2000, "output_tokens": 200, "total_tokens": 2200}
    }


def test_tools_and_chain_steps_are_sent(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """Runs without a cost of their own are sent with their outputs and the intent."""

    @tool
    def weather(city: str) -> str:
        """Return the weather."""
        return f"{city}: fair"

    chain = RunnableLambda(weather.invoke, name="ask") | RunnableLambda(str.upper, name="upper")

    with activate("tracer_before", server, handler) as active:
        answer = chain.invoke("Seoul", {"callbacks": active.callbacks, "metadata": {"intent": "weather"}})

    assert answer == "SEOUL: FAIR"
    assert {run["name"] for run in server.runs().values()} == {"RunnableSequence", "ask", "weather", "upper"}
    for run in server.runs().values():
        assert run["end_time"]
        assert "intent:weather" in run["tags"]
    assert server.run(name="weather")["outputs"]


def test_a_failing_node_is_sent_with_its_error(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """A failed run carries its own error text and the cost so far."""

    def node(state: State) -> State:
        FakeModel().invoke("hello")
        raise ValueError("no such place")

    with activate("tracer_before", server, handler) as active, pytest.raises(ValueError, match="no such place"):
        one_node(node).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    for name in ("answer", "LangGraph"):
        assert "no such place" in server.run(name=name)["error"]
        assert metadata(server.run(name=name))["cost_usd"] == 0.00315


def test_what_is_not_sampled_is_not_sent(server: LangSmithServer) -> None:
    """A trace that the client samples out is not sent, nor is its feedback."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})

    with handler, activate("tracer_before", server, handler, tracing_sampling_rate=0.0) as active:
        one_node(lambda state: {"scores": {"rag": 0.8}}).invoke({"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    assert server.operations == []


def test_tracing_switched_off_inside_stays_off(server: LangSmithServer, handler: Eco2CallbackHandler) -> None:
    """The handler sends no run that the application excludes from tracing."""
    with activate("tracer_after", server, handler) as active, langsmith.tracing_context(enabled=False):
        one_node(sync_answer).invoke({"message": "hello"}, {"callbacks": active.callbacks})

    assert server.operations == []


@pytest.mark.slow
def test_nothing_is_kept_for_a_langsmith_that_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pending run stays in memory, and the client's queue keeps its configured limit."""
    monkeypatch.setenv("LANGSMITH_TRACING_QUEUE_MAX_SIZE", "100")
    get_env_var.cache_clear()
    registry = CollectorRegistry()
    feedback = {"answer": {"rag_quality": "scores.rag"}}
    graph = one_node(lambda state: {**sync_answer(state), "scores": {"rag": 0.8}})
    with LangSmithServer() as server, Eco2CallbackHandler(registry=registry, feedback=feedback) as handler:
        for tracing_mode in ("tracer_before", "tracer_after"):
            with activate(tracing_mode, server, handler) as active:
                server.hang()
                for _ in range(200):
                    graph.invoke({"message": "hello"}, {"callbacks": active.callbacks})

                assert active.client.tracing_queue is not None
                assert active.client.tracing_queue.qsize() <= 100
                gc.collect()
                # Not isinstance(): it runs the code of any object that another test left.
                kept = [kept for kept in gc.get_objects() if issubclass(type(kept), RunTree)]
                # The tracer keeps its latest run; pending feedback keeps none.
                assert len(kept) <= 2
    get_env_var.cache_clear()
    assert exposed(registry, "llm_calls_total") == 400
