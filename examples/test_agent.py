"""Test an agent without a network: a fake model drives it, a sink keeps its records: pytest examples/test_agent.py."""

from __future__ import annotations

from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, TokenUsage
from eco2_callbacks.testing import FakeChatModel, RecordingSink


def weigh(item: str) -> str:
    """Return the weight of an item."""
    return f"{item}: 30 kg"


def test_the_agent_weighs_once_and_answers_within_its_budget() -> None:
    wants_tool = AIMessage("", tool_calls=[{"name": "weigh", "args": {"item": "sofa"}, "id": "1"}])
    model = FakeChatModel(answers=[wants_tool, "30 kg"], usage=TokenUsage(input_tokens=1000, output_tokens=50))
    sink = RecordingSink()

    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink]) as handler:
        answer = create_agent(model, [weigh]).invoke(
            {"messages": [("user", "How heavy is my sofa?")]}, {"callbacks": [handler]}
        )

    assert answer["messages"][-1].text == "30 kg"
    assert [tool.tool_name for tool in sink.tools] == ["weigh"]
    assert [run.node for run in sink.nodes] == ["model", "tools", "model"]
    assert sink.totals.usage.total_tokens == 2100
    assert sink.requests[0].cost == sink.totals.cost
