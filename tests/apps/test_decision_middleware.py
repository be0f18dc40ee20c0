"""Middlewares with a decision model: its decisions are model calls of the agent's request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import AutoModeMiddleware, ModelChoice, ModelRouterMiddleware
from langchain_core.decisions import BaseDecisionModel, ChoiceAnswer, ClassifierResponse, NoulAnswer
from langchain_core.tools import tool

from tests.support.measured_app import App, measure
from tests.support.scripted_openai import Reply, Request, ScriptedOpenAI, Served

pytestmark = [pytest.mark.needs_core("1.8"), pytest.mark.filterwarnings("ignore:.*is in beta")]

QUESTION = {"messages": [("user", "go")]}
# Unlike those of any answer of the stand-in.
DECISION = Served("gpt-4.1-nano", 200, input_tokens=777, cached_tokens=0, output_tokens=11)


@tool
def send(text: str) -> str:
    """Send it."""
    return "sent"


class Decisions(BaseDecisionModel):
    """Decides as a model of OpenAI, and adds each decision to what the stand-in served."""

    model: str = DECISION.model
    answer: Any
    provider: Any

    @property
    def _provider(self) -> str:
        return "openai"

    def _classify(self, state: Any, questions: Any) -> ClassifierResponse:
        provider: ScriptedOpenAI = self.provider
        provider.served.append(DECISION)
        usage: Any = {"input_tokens": DECISION.input_tokens, "output_tokens": DECISION.output_tokens}
        return ClassifierResponse(model=self.model, answers=dict.fromkeys(questions, self.answer), usage=usage)


def sends_once(request: Request) -> Reply | None:
    return Reply("", [("send", {"text": "x"})]) if not request.tool_results else None


@pytest.mark.parametrize("route", ["small", "large"])
def test_a_routed_agent_pays_for_the_decision_and_the_chosen_model(route: str) -> None:
    """ModelRouterMiddleware: the decision is a call of the middleware's node, before the chosen model's."""
    models = {"small": "gpt-4.1-mini", "large": "gpt-4.1"}

    def application(app: App) -> None:
        answer = ChoiceAnswer(type="choice", choice=route, probabilities={route: 1.0}, confidence=0.9)
        router = ModelRouterMiddleware(
            choices={name: ModelChoice(model=app.model(model), criteria=name) for name, model in models.items()},
            instructions="Choose.",
            classifier=Decisions(answer=answer, provider=app.provider),
        )
        create_agent(app.model(), [], middleware=[router]).invoke(QUESTION, app.config())

    measured = measure(application)

    assert [call.model for call in measured.calls] == [DECISION.model, models[route]]
    assert measured.requests[0].llm_calls == 2


@pytest.mark.parametrize(("risk", "tools"), [(0.1, {("send", "success"): 1}), (0.9, {})], ids=["safe", "risky"])
def test_a_tool_call_that_a_decision_allows_is_recorded(risk: float, tools: Any) -> None:
    """AutoModeMiddleware: the decision is a call, whether the tool then runs or not."""

    def agent(app: App) -> Callable[[], Any]:
        classifier = Decisions(answer=NoulAnswer(type="noul", noul=risk), provider=app.provider)
        built = create_agent(app.model(), [send], middleware=[AutoModeMiddleware(tools=[send], classifier=classifier)])
        return lambda: built.invoke(QUESTION, app.config())

    measured = measure(lambda app: agent(app)(), script=lambda: sends_once)

    assert measured.total("llm_calls_total", model=DECISION.model) == 1
    assert measured.tools == tools
