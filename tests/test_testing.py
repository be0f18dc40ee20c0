"""eco2_callbacks.testing: what users' own tests are built from."""

from __future__ import annotations

from decimal import Decimal

import pytest
from langchain.agents import create_agent
from langchain_core.messages import AIMessage
from prometheus_client import CollectorRegistry

from eco2_callbacks import ConfigError, Eco2CallbackHandler, TokenUsage
from eco2_callbacks.testing import FakeChatModel, RecordingSink

USAGE = TokenUsage(input_tokens=1000, cache_read_tokens=800, output_tokens=100, reasoning_tokens=40)
# gpt-5.2, USD per million tokens: (200 x 1.75 + 800 x 0.175 + 100 x 14) / 1e6
USD = Decimal("0.00189")


@pytest.fixture
def sink() -> RecordingSink:
    return RecordingSink()


@pytest.fixture
def config(sink: RecordingSink) -> dict[str, list[Eco2CallbackHandler]]:
    return {"callbacks": [Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[sink])]}


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream"])
async def test_the_usage_that_a_test_sets_is_what_is_billed(way, sink, config) -> None:
    """A call of the fake model is priced as the model it names, whole or streamed, sync or async."""
    model = FakeChatModel(answers=["to the bottle bank"], usage=USAGE)

    if way == "invoke":
        answer = model.invoke("x", config).text
    elif way == "ainvoke":
        answer = (await model.ainvoke("x", config)).text
    elif way == "stream":
        answer = "".join(chunk.text for chunk in model.stream("x", config))
    else:
        answer = "".join([chunk.text async for chunk in model.astream("x", config)])

    (call,) = sink.calls
    assert answer.strip() == "to the bottle bank"
    assert (call.usage, call.cost.total_usd, call.estimated) == (USAGE, USD, False)
    assert (call.provider, call.model, call.streamed) == ("openai", "gpt-5.2", "stream" in way)
    assert sink.totals.cost.total_usd == USD


def test_answers_come_in_turn_and_the_last_repeats(config, sink) -> None:
    """Each call takes the next answer; an exception among them is raised."""
    model = FakeChatModel(answers=["a", TimeoutError("slow"), "b"])

    assert model.invoke("x", config).text == "a"
    with pytest.raises(TimeoutError, match="slow"):
        model.invoke("x", config)
    assert [model.invoke("x", config).text for _ in range(2)] == ["b", "b"]
    assert [call.status for call in sink.calls] == ["success", "error", "success", "success"]


@pytest.mark.parametrize("streamed", [False, True])
def test_an_agent_runs_on_the_fake_model(streamed, config, sink) -> None:
    """A message with tool calls drives an agent: the tool runs, and every kind of record is kept."""

    def weigh(item: str) -> str:
        """Return an item's weight."""
        return f"{item}: 3 kg"

    calls_tool = AIMessage("", tool_calls=[{"name": "weigh", "args": {"item": "sofa"}, "id": "1"}])
    agent = create_agent(FakeChatModel(answers=[calls_tool, "3 kg"]), [weigh])
    inputs = {"messages": [("user", "How heavy is it?")]}

    if streamed:
        list(agent.stream(inputs, config, stream_mode="messages"))
    else:
        agent.invoke(inputs, config)

    assert [run.node for run in sink.nodes] == ["model", "tools", "model"]
    assert [tool.tool_name for tool in sink.tools] == ["weigh"]
    assert (sink.retrievers, len(sink.requests), len(sink.calls)) == ([], 1, 2)
    assert sink.requests[0].cost == sink.totals.cost
    sink.clear()
    assert sink.records == []


def test_a_model_without_usage_is_estimated(config, sink) -> None:
    """usage=None stands for a gateway that drops the usage."""
    FakeChatModel(usage=None).invoke("Where does glass go?", config)

    assert sink.calls[0].estimate_reason == "no_usage"


@pytest.mark.parametrize("answers", ["a text", [], 3], ids=str)
def test_answers_that_are_no_list_are_refused(answers) -> None:
    """A text would answer letter by letter."""
    with pytest.raises((ConfigError, ValueError), match=r"answers= is .*, wanted a list of at least one answer; pass"):
        FakeChatModel(answers=answers)
