"""Decision models of langchain-core 1.8: LangChain reports their calls as chains, the handler as model calls."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, GraphRun, TokenUsage
from tests.support.record_sink import Records, exposed

pytestmark = [pytest.mark.needs_core("1.8"), pytest.mark.filterwarnings("ignore:.*is in beta")]


def decision_model(error: Exception | None = None) -> Any:
    """Return a decision model that answers as ``gpt-5.2``, or fails."""
    from langchain_core.decisions import BaseDecisionModel, ClassifierResponse, NoulAnswer

    class DecisionModel(BaseDecisionModel):
        model: str = "gpt-5.2"

        @property
        def _provider(self) -> str:
            return "openai"

        def _classify(self, state: Any, questions: Any) -> Any:
            if error is not None:
                raise error
            return ClassifierResponse(
                model="gpt-5.2-2025-12-11",
                answers={name: NoulAnswer(type="noul", noul=0.9) for name in questions},
                usage={"input_tokens": 1000, "output_tokens": 20},
            )

    return DecisionModel()


def question() -> dict[str, Any]:
    from langchain_core.decisions import Noul

    return {"state": "It is down.", "questions": {"urgent": Noul(instructions="Is it urgent?")}}


async def test_a_decision_is_a_call_and_no_request(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A decision has tokens and dollars, sync and async; alone it is no request."""
    model = decision_model()

    model.invoke(question(), {"callbacks": [handler]})
    await model.ainvoke(question(), {"callbacks": [handler]})

    for call in records.calls:
        assert (call.provider, call.model, call.request_model) == ("openai", "gpt-5.2-2025-12-11", "gpt-5.2")
        assert call.usage == TokenUsage(input_tokens=1000, output_tokens=20)
        assert call.cost is not None
        # 1000 x 1.75 + 20 x 14 USD per million tokens
        assert call.cost.total_usd == Decimal("0.00203")
    assert len(records.calls) == 2
    assert records.of(GraphRun) == []
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


def test_a_decision_inside_a_chain_belongs_to_its_request(handler: Eco2CallbackHandler, records: Records) -> None:
    """The request that contains a decision counts its call and its dollars."""
    RunnableLambda(lambda text: decision_model().invoke(question())).invoke("go", {"callbacks": [handler]})

    assert records.request.llm_calls == 1
    assert records.request.cost.total_usd == Decimal("0.00203")


def test_a_failed_decision_is_a_failed_call(handler: Eco2CallbackHandler, records: Records) -> None:
    """A decision that raises is a failed call."""
    with pytest.raises(ValueError, match="refused"):
        decision_model(ValueError("refused")).invoke(question(), {"callbacks": [handler]})

    assert (records.call.status, records.call.error_type) == ("error", "ValueError")
