"""LangSmith: two tracers on one run each send its numbers."""

from __future__ import annotations

import pytest
from langchain_core.tracers import LangChainTracer
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.fake_model import FakeModel
from tests.support.langsmith_runs import PRICED_USAGE, model_runs, usage_of
from tests.support.langsmith_server import LangSmithServer
from tests.support.record_sink import exposed
from tests.support.traced_graphs import one_node


@pytest.mark.parametrize("place", [0, 1, 2], ids=["handler_first", "handler_between", "handler_last"])
def test_each_tracers_run_carries_its_cost(registry: CollectorRegistry, place: int) -> None:
    """Wherever the handler stands, both projects get usage and cost; a quality score is sent once."""
    feedback = {"answer": {"quality": "scores.quality"}}
    with (
        LangSmithServer() as first,
        LangSmithServer() as second,
        first.client() as one,
        second.client() as other,
        Eco2CallbackHandler(registry=registry, feedback=feedback) as handler,
    ):
        callbacks: list[object] = [LangChainTracer(client=one), LangChainTracer(client=other)]
        callbacks.insert(place, handler)

        def answer(state: dict[str, object]) -> dict[str, object]:
            FakeModel().invoke("hello")
            return {"scores": {"quality": 0.5}}

        one_node(answer).invoke({"message": "x"}, {"callbacks": callbacks})
        assert handler.flush()
        one.flush()
        other.flush()

        for server in (first, second):
            (run,) = model_runs(server)
            assert {key: (usage_of(run) or {}).get(key) for key in PRICED_USAGE} == PRICED_USAGE
        assert len(first.feedback) + len(second.feedback) == 1
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
