"""LangSmith: scores that a node returns become feedback on its run."""

from __future__ import annotations

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.langsmith_server import LangSmithServer
from tests.support.traced_graphs import one_node
from tests.support.tracing_modes import TRACING_MODES, activate


def test_two_clients_have_projects_of_their_own() -> None:
    """Feedback names the project of the LangSmith server that it is sent to."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})
    graph = one_node(lambda state: {"scores": {"rag": 0.8}})

    with handler:
        for _ in range(3):
            with LangSmithServer() as server:
                with activate("tracer_after", server, handler) as active:
                    graph.invoke({"message": "x"}, {"callbacks": active.callbacks})
                    assert handler.flush()
                assert [feedback["session_id"] for feedback in server.feedback] == [server.project_id]


@pytest.mark.parametrize("tracing_mode", TRACING_MODES)
def test_scores_that_a_node_returns_become_feedback(server: LangSmithServer, tracing_mode: str) -> None:
    """A score is sent for the node's run under its key; anything else is not sent."""
    paths = {"answer": {"rag_quality": "scores.rag", "missing": "scores.other"}}
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback=paths)

    with handler, activate(tracing_mode, server, handler) as active:
        graph = one_node(lambda state: {"scores": {"rag": 0.8}})
        active.run(graph.invoke, {"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    node = server.run(name="answer")
    (feedback,) = server.feedback
    assert (feedback["run_id"], feedback["trace_id"]) == (node["id"], node["trace_id"])
    assert (feedback["key"], feedback["score"]) == ("rag_quality", 0.8)
    assert feedback["session_id"] == server.project_id


def test_the_project_is_looked_up_once(server: LangSmithServer) -> None:
    """Twenty scores need one project look-up, and feedback is sent with the runs' own requests."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), feedback={"answer": {"rag_quality": "scores.rag"}})
    graph = one_node(lambda state: {"scores": {"rag": 0.8}})

    with handler, activate("tracer_after", server, handler) as active:
        for _ in range(20):
            graph.invoke({"message": "x"}, {"callbacks": active.callbacks})
        handler.close()

    assert len(server.feedback) == 20
    assert server.requests["GET /sessions"] == 1
    assert server.requests["POST /feedback"] == 0
