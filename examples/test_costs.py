"""A test suite with limits of cost: pytest examples/test_costs.py --llm-costs; runs without keys."""

from __future__ import annotations

import pytest

from eco2_callbacks import TokenUsage
from eco2_callbacks.pytest_plugin import LLMCosts
from eco2_callbacks.testing import FakeChatModel

model = FakeChatModel(usage=TokenUsage(input_tokens=1000, cache_read_tokens=800, output_tokens=100))


@pytest.mark.limit_cost(usd="0.002")
@pytest.mark.limit_tokens(1500)
def test_an_answer_is_cheap() -> None:
    assert model.invoke("Where does glass go?").text == "ok"


def test_a_batch_is_counted_whole(llm_costs: LLMCosts) -> None:
    model.batch(["Where does glass go?", "Where does paper go?"])

    assert llm_costs.totals.llm_calls == 2
    assert llm_costs.by_model["gpt-5.2"].usage.cache_read_tokens == 1600
