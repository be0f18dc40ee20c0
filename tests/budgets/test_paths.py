"""Every way to call a model: a refused call is never sent, and leaves no open run anywhere."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from langchain.agents import create_agent
from langchain.agents.middleware import ModelFallbackMiddleware, ModelRetryMiddleware, SummarizationMiddleware
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import BaseLLM
from langchain_core.messages import AIMessage, HumanMessage, ToolCall
from langchain_core.outputs import ChatResult, Generation, LLMResult
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tools import tool
from langchain_core.tracers.langchain import LangChainTracer
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import RetryPolicy
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler, GraphRun, budget_state
from tests.support.fake_model import FakeModel
from tests.support.langsmith_server import LangSmithServer
from tests.support.measured_app import App
from tests.support.record_sink import Records, exposed
from tests.support.scripted_openai import Reply
from tests.support.tracing_modes import activate

# LangChain's event streams are in beta.
pytestmark = pytest.mark.filterwarnings("ignore:.*is in beta")
QUESTION = {"messages": [("user", "Where does it go?")]}


class CountedModel(FakeModel):
    """Counts what reaches the provider."""

    sent: ClassVar[list[str]] = []

    def _generate(self, messages: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> ChatResult:
        self.sent.append(self.model)
        return super()._generate(messages)

    def _chunks(self) -> Any:
        self.sent.append(self.model)
        return super()._chunks()


class CountedCompletion(BaseLLM):
    """A text-completion model that counts what reaches the provider."""

    @property
    def _llm_type(self) -> str:
        return "counted"

    def _get_ls_params(self, stop: Any = None, **kwargs: Any) -> Any:
        return {"ls_provider": "openai", "ls_model_name": "gpt-3.5-turbo-instruct", "ls_model_type": "llm"}

    def _generate(self, prompts: Any, stop: Any = None, run_manager: Any = None, **kwargs: Any) -> LLMResult:
        CountedModel.sent.append("completion")
        return LLMResult(generations=[[Generation(text="text")] for _ in prompts])


@tool
def look_up(query: str) -> str:
    """Look it up."""
    return "found"


@pytest.fixture(autouse=True)
def nothing_sent() -> None:
    CountedModel.sent.clear()


@pytest.fixture(params=["gate and handler", "handler alone"])
def attach(request: pytest.FixtureRequest) -> Callable[[Eco2CallbackHandler], list[BaseCallbackHandler]]:
    """Return the two ways in which applications attach a handler."""
    return lambda handler: handler.callbacks if request.param == "gate and handler" else [handler]


@pytest.fixture
def closed(registry: CollectorRegistry, records: Records) -> Any:
    """Yield a handler whose budget allows nothing."""
    budgets = Budgets(rules=[BudgetRule(name="stop", limit_usd=Decimal(0), match={"tenant_id": "acme"})])
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        yield handler


async def _events_v2(model: Any, config: Any) -> None:
    async for _ in model.astream_events("x", config, version="v2"):
        pass


async def _v3(model: Any, config: Any) -> None:
    stream = await model.astream_events("x", config, version="v3")
    async for _ in stream:
        pass


def _sync_v3(model: Any, config: Any) -> None:
    for _ in model.stream_events("x", config, version="v3"):
        pass


async def _astream(model: Any, config: Any) -> None:
    async for _ in model.astream("x", config):
        pass


async def _sync_on_a_loop(model: Any, config: Any) -> None:
    model.invoke("x", config)


def _node(model: Any) -> Any:
    def node(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [model.invoke(state["messages"], config)]}

    async def anode(state: MessagesState, config: RunnableConfig) -> Any:
        return {"messages": [await model.ainvoke(state["messages"], config)]}

    from langgraph._internal._runnable import RunnableCallable

    return RunnableCallable(node, anode, name="answer")


def graph_of(node: Any, **options: Any) -> Any:
    builder = StateGraph(MessagesState)
    builder.add_node("answer", node, **options)
    builder.add_edge(START, "answer")
    builder.add_edge("answer", END)
    return builder.compile()


async def _graph_messages(model: Any, config: Any) -> None:
    async for _ in graph_of(lambda state: {"messages": [model.invoke(state["messages"])]}).astream(
        QUESTION, config, stream_mode="messages"
    ):
        pass


PATHS: dict[str, Callable[[Any, Any], Any]] = {
    "invoke": lambda model, config: model.invoke("x", config),
    "stream": lambda model, config: list(model.stream("x", config)),
    "stream v3": _sync_v3,
    "batch": lambda model, config: model.batch(["x", "y"], config),
    "generate": lambda model, config: model.generate(
        [[HumanMessage("x")]], callbacks=config["callbacks"], metadata=config["metadata"]
    ),
    "chain": lambda model, config: (RunnableLambda(lambda text: text) | model).invoke("x", config),
    "graph": lambda model, config: graph_of(lambda s: {"messages": [model.invoke(s["messages"])]}).invoke(
        QUESTION, config
    ),
    "agent": lambda model, config: create_agent(model, [look_up]).invoke(QUESTION, config),
    "ainvoke": lambda model, config: model.ainvoke("x", config),
    "astream": _astream,
    "astream v3": _v3,
    "events v2": _events_v2,
    "abatch": lambda model, config: model.abatch(["x", "y"], config),
    "async graph": lambda model, config: graph_of(_node(model)).ainvoke(QUESTION, config),
    "graph messages": _graph_messages,
    "async agent": lambda model, config: create_agent(model, [look_up]).ainvoke(QUESTION, config),
    "sync on a loop": _sync_on_a_loop,
}


def finish(outcome: Any) -> None:
    async def wait() -> None:
        await outcome

    if isinstance(outcome, Awaitable):
        asyncio.run(wait())


def call(path: str, model: Any, config: Any) -> None:
    async def run() -> None:
        outcome = PATHS[path](model, config)
        if isinstance(outcome, Awaitable):
            await outcome

    if path.startswith(("a", "events", "graph m", "sync on")) and path != "agent":
        asyncio.run(run())
    else:
        PATHS[path](model, config)


@pytest.mark.parametrize("path", PATHS)
def test_no_path_sends_a_refused_call(
    path: str, attach: Any, closed: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """The provider gets nothing, the caller gets BudgetExceeded, and no call is recorded or left open."""
    config = {"callbacks": attach(closed), "metadata": {"tenant_id": "acme"}}

    with pytest.raises(BudgetExceeded):
        call(path, CountedModel(), config)

    assert CountedModel.sent == []
    assert records.calls == []
    assert exposed(registry, "eco2_callbacks_open_runs") == 0
    assert exposed(registry, "budget_refused_calls_total") >= 1
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
    assert {request.error_type for request in records.of(GraphRun)} <= {"BudgetExceeded"}


@pytest.mark.parametrize("path", PATHS)
def test_every_path_settles_what_it_reserved(
    path: str, attach: Any, registry: CollectorRegistry, records: Records
) -> None:
    """After the calls the budget holds exactly what they cost."""
    budgets = Budgets(rules=[BudgetRule(name="all", limit_usd=Decimal(10))])
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        call(path, CountedModel(), {"callbacks": attach(handler), "metadata": {"tenant_id": "acme"}})

        spent = exposed(registry, "budget_spent_dollars")

    cost = sum((record.cost.total_usd for record in records.calls if record.cost), Decimal(0))
    assert cost > 0
    assert spent == pytest.approx(float(cost))


def test_a_text_completion_is_refused_too(attach: Any, closed: Eco2CallbackHandler, records: Records) -> None:
    """Completion models ask the gate by ``on_llm_start``."""
    with pytest.raises(BudgetExceeded):
        CountedCompletion().invoke("x", {"callbacks": attach(closed), "metadata": {"tenant_id": "acme"}})

    assert CountedModel.sent == []


def test_other_tenants_are_not_refused(attach: Any, closed: Eco2CallbackHandler, records: Records) -> None:
    """A budget stops only the calls that it matches."""
    CountedModel().invoke("x", {"callbacks": attach(closed), "metadata": {"tenant_id": "other"}})

    assert len(records.calls) == 1


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_prompt_that_is_refused_stops_its_whole_generate(
    attach: Any, registry: CollectorRegistry, records: Records, *, is_async: bool
) -> None:
    """``generate()`` sends nothing if one of its prompts is refused, so nothing stays reserved for the others."""
    # One prompt reserves about 0.0073 USD: 512 tokens of output at 14 USD per million.
    budgets = Budgets(rules=[BudgetRule(name="two", limit_usd=Decimal("0.016"))])
    prompts = [[HumanMessage(text)] for text in "xyz"]
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        generate = CountedModel().agenerate if is_async else CountedModel().generate

        with pytest.raises(BudgetExceeded):
            finish(generate(prompts, callbacks=attach(handler)))

        assert exposed(registry, "eco2_callbacks_open_runs") == 0
        assert exposed(registry, "budget_spent_dollars") == 0
    assert CountedModel.sent == []
    assert records.calls == []


def test_a_tool_loop_stops_where_the_budget_ends(attach: Any) -> None:
    """An agent that would call its tool for ever is stopped between two calls, within its budget."""
    app = App(
        lambda request: Reply("", [("look_up", {"query": "x"})]),
        # One call reserves 512 tokens of output at 1.60 USD per million: 0.0008192 USD, and its prompt.
        budgets=[BudgetRule(name="loop", window="run", limit_usd=Decimal("0.002"))],
    )
    agent = create_agent(app.model(), [look_up])
    with app.handler, pytest.raises(BudgetExceeded):
        agent.invoke(QUESTION, {"callbacks": attach(app.handler), "recursion_limit": 5000})

    spent = sum(served.usd for served in app.provider.served)
    assert len(app.provider.served) == len(app.records.calls) >= 2
    assert spent == sum(record.cost.total_usd for record in app.records.calls if record.cost)
    assert Decimal("0.001") < spent <= Decimal("0.002")


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
def test_a_cheaper_model_takes_over_by_middleware(
    attach: Any, registry: CollectorRegistry, records: Records, *, is_async: bool
) -> None:
    """ModelFallbackMiddleware goes on with the next model, which has its own reservation."""
    budgets = Budgets(rules=[BudgetRule(name="dear", limit_usd=Decimal(0), match={"model": "gpt-5.2"})])
    cheap = CountedModel(model="gpt-5-nano", answered_by="gpt-5-nano")
    agent = create_agent(CountedModel(), [look_up], middleware=[ModelFallbackMiddleware(cheap)])
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        config = {"callbacks": attach(handler)}
        finish((agent.ainvoke if is_async else agent.invoke)(QUESTION, config))

    assert CountedModel.sent == ["gpt-5-nano"]
    assert records.request.status == "success"
    assert [record.model for record in records.calls] == ["gpt-5-nano"]


def test_a_cheaper_model_takes_over_by_with_fallbacks(
    attach: Any, registry: CollectorRegistry, records: Records
) -> None:
    """``with_fallbacks`` on BudgetExceeded needs no change of the node."""
    budgets = Budgets(rules=[BudgetRule(name="dear", limit_usd=Decimal(0), match={"model": "gpt-5.2"})])
    cheap = CountedModel(model="gpt-5-nano", answered_by="gpt-5-nano")
    model = CountedModel().with_fallbacks([cheap], exceptions_to_handle=(BudgetExceeded,))
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        graph_of(lambda state: {"messages": [model.invoke(state["messages"])]}).invoke(
            QUESTION, {"callbacks": attach(handler)}
        )

    assert CountedModel.sent == ["gpt-5-nano"]


def test_middlewares_of_an_agent_do_not_pass_a_stop(attach: Any, closed: Eco2CallbackHandler) -> None:
    """Retries and a middleware's own call are refused like the agent's."""
    agent = create_agent(
        CountedModel(),
        [look_up],
        middleware=[
            SummarizationMiddleware(CountedModel(), trigger=("messages", 1), keep=("messages", 1)),
            ModelRetryMiddleware(max_retries=2, initial_delay=0.001, jitter=False, on_failure="error"),
        ],
    )

    with pytest.raises(BudgetExceeded):
        agent.invoke(
            {"messages": [("user", "one"), ("ai", "two"), ("user", "three")]},
            {"callbacks": attach(closed), "metadata": {"tenant_id": "acme"}},
        )

    assert CountedModel.sent == []


def test_a_retry_policy_does_not_repeat_a_refused_node(attach: Any, closed: Eco2CallbackHandler) -> None:
    """LangGraph's default policy takes a refusal for what it is: repeating it changes nothing."""
    runs = []

    def node(state: MessagesState) -> Any:
        runs.append(1)
        return {"messages": [CountedModel().invoke(state["messages"])]}

    with pytest.raises(BudgetExceeded):
        graph_of(node, retry_policy=RetryPolicy(max_attempts=3, initial_interval=0.001)).invoke(
            QUESTION, {"callbacks": attach(closed), "metadata": {"tenant_id": "acme"}}
        )

    assert len(runs) == 1


def test_subagents_of_deepagents_count_in_the_request_of_their_caller(
    attach: Any, registry: CollectorRegistry, records: Records
) -> None:
    """A subagent's call counts in the run's budget, and is refused when it is used up."""
    from deepagents import create_deep_agent

    class Delegating(CountedModel):
        def _generate(self, messages: Any, *arguments: Any, **options: Any) -> ChatResult:
            result = super()._generate(messages)
            if not any(message.type == "tool" for message in messages) and messages[-1].text != "sub work":
                task = {"description": "sub work", "subagent_type": "helper"}
                result.generations[0].message = AIMessage(
                    "", tool_calls=[ToolCall(name="task", args=task, id="1")], usage_metadata=self.usage
                )
            return result

    helper = {"name": "helper", "description": "Helps.", "system_prompt": "Help.", "tools": []}
    agent = create_deep_agent(Delegating(), [], subagents=[helper])  # type: ignore[list-item]
    budgets = Budgets(rules=[BudgetRule(name="run", window="run", limit_usd=Decimal(10))])
    with Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets) as handler:
        agent.invoke(QUESTION, {"callbacks": attach(handler)})
    assert len(CountedModel.sent) >= 3
    first = next(record.cost.total_usd for record in records.calls if record.cost)

    CountedModel.sent.clear()
    # The first call fits with what it reserves: its prompt has several thousand tokens.
    rule = BudgetRule(name="run", window="run", limit_usd=Decimal("0.03"))
    budgets = Budgets(rules=[rule], assumed_output_tokens=1900)
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records], budgets=budgets)
    with handler, pytest.raises(BudgetExceeded):
        agent.invoke(QUESTION, {"callbacks": attach(handler)})
    assert first > 0
    assert len(CountedModel.sent) <= 2


def test_a_node_can_end_with_what_it_has(attach: Any, registry: CollectorRegistry) -> None:
    """``budget_state(config)`` tells a node what remains, before it is refused."""
    budgets = Budgets(rules=[BudgetRule(name="run", window="run", limit_usd=Decimal("0.02"), warn_at=["0.1"])])
    seen = []

    def node(state: MessagesState, config: RunnableConfig) -> Any:
        while (report := budget_state(config)).remaining_usd is not None and report.remaining_usd > Decimal("0.01"):
            seen.append((report.remaining_usd, report.level))
            CountedModel().invoke(state["messages"], config)
        assert budget_state().budgets == report.budgets  # of the current config
        return {"messages": [AIMessage("as far as I came")]}

    with Eco2CallbackHandler(registry=registry, budgets=budgets) as handler:
        answer = graph_of(node).invoke(QUESTION, {"callbacks": attach(handler)})

    assert answer["messages"][-1].text == "as far as I came"
    # Each call costs 0.00315.
    assert seen == [
        (Decimal("0.02"), "ok"),
        (Decimal("0.01685"), "warn"),
        (Decimal("0.0137"), "warn"),
        (Decimal("0.01055"), "warn"),
    ]


def test_without_budgets_a_state_is_empty() -> None:
    """A node need not know whether there are budgets."""
    report = budget_state({"callbacks": [Eco2CallbackHandler(registry=CollectorRegistry())]})

    assert (report.budgets, report.remaining_usd, report.level) == ((), None, "ok")


@pytest.mark.parametrize("mode", ["environment", "tracer before", "tracer after"])
@pytest.mark.parametrize("path", ["invoke", "stream", "graph", "ainvoke", "astream", "async graph", "async agent"])
def test_langsmith_keeps_no_open_run_of_a_refused_call(
    path: str, mode: str, attach: Any, closed: Eco2CallbackHandler
) -> None:
    """Every run that LangSmith got a start of also got its end, wherever its tracer stands."""
    with LangSmithServer() as server, server.client() as client:
        # Installs the hooks on LangSmith's runs, as in a process that runs for a while.
        FakeModel().invoke("x", {"callbacks": [closed], "metadata": {"tenant_id": "other"}})
        metadata = {"tenant_id": "acme"}
        if mode == "environment":
            with activate("tracing_context", server, closed), pytest.raises(BudgetExceeded):
                call(path, CountedModel(), {"callbacks": attach(closed), "metadata": metadata})
        else:
            tracer = LangChainTracer(client=client)
            both = [tracer, *attach(closed)] if mode == "tracer before" else [*attach(closed), tracer]
            with pytest.raises(BudgetExceeded):
                call(path, CountedModel(), {"callbacks": both, "metadata": metadata})
            tracer.wait_for_futures()
        client.flush()
        runs = list(server.runs().values())

    assert [run["name"] for run in runs if not run.get("end_time")] == []
    assert [
        run["name"] for run in runs if run["run_type"] == "llm" and "BudgetExceeded" not in (run["error"] or "")
    ] == []
    assert CountedModel.sent == []
