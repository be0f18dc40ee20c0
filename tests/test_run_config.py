"""run_config and the port: what reaches every run, and that the caller's objects stay unchanged."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from enum import Enum, StrEnum
from typing import Any, TypedDict
from uuid import UUID

import pytest
from langchain_core.callbacks import CallbackManager
from langchain_core.runnables import RunnableConfig, RunnableLambda
from langchain_core.tracers import Run
from langchain_core.tracers.run_collector import RunCollectorCallbackHandler
from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from eco2_callbacks import (
    ConfigError,
    Eco2CallbackHandler,
    LangSmithTelemetry,
    NoTelemetry,
    TelemetryConfig,
    run_config,
)
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records

CALLER = {"job_id": "j1", "session_id": "s1", "user_id": "u1", "tenant_id": "acme", "intent": "waste"}


class Intent(StrEnum):
    WASTE = "waste"


class OlderIntent(str, Enum):  # noqa: UP042 - what applications wrote before Python 3.11
    WASTE = "waste"


class State(TypedDict, total=False):
    seen: int
    answer: str


async def answer(state: State) -> State:
    reply = await FakeModel().ainvoke("answer")
    return {"seen": state.get("seen", 0) + 1, "answer": str(reply.content)}


def graph(checkpointer: InMemorySaver | None = None) -> Any:
    built = StateGraph(State)
    built.add_node("answer", answer)
    built.add_edge(START, "answer")
    built.add_edge("answer", END)
    return built.compile(checkpointer=checkpointer)


def runs_from(run: Run) -> Iterator[Run]:
    yield run
    for child in run.child_runs:
        yield from runs_from(child)


def test_everything_given_has_its_place(handler: Eco2CallbackHandler) -> None:
    """The config holds name, thread, metadata, tags and the handler, and nothing else."""
    config = run_config(handler, **CALLER, tags=["beta"], metadata={"channel": "app"})

    assert config == {
        "run_name": "chat:j1",
        "configurable": {"thread_id": "s1"},
        "metadata": {"channel": "app", **CALLER},
        "tags": ["beta"],
        "callbacks": [handler],
    }


@pytest.mark.parametrize("missing", [None, ""], ids=["none", "empty"])
def test_what_is_not_given_is_left_out(handler: Eco2CallbackHandler, missing: str | None) -> None:
    """Without a session there is no thread, and an omitted argument has no key."""
    config = run_config(
        handler, job_id="j1", session_id=missing, user_id=missing, tenant_id=missing, intent=missing, tags=None
    )

    assert config == {"run_name": "chat:j1", "metadata": {"job_id": "j1"}, "tags": [], "callbacks": [handler]}


@pytest.mark.parametrize("intent", [Intent.WASTE, OlderIntent.WASTE], ids=["str_enum", "str_and_enum"])
def test_identifiers_become_strings(handler: Eco2CallbackHandler, intent: str) -> None:
    """Numbers, UUIDs and enums become the strings that LangSmith filters by."""
    job = UUID("00000000-0000-0000-0000-000000000001")

    config = run_config(handler, job_id=job, session_id=0, user_id=7, tenant_id=8, intent=intent)

    assert config["run_name"] == f"chat:{job}"
    assert config["configurable"] == {"thread_id": "0"}
    assert config["metadata"] == {
        "job_id": str(job),
        "session_id": "0",
        "user_id": "7",
        "tenant_id": "8",
        "intent": "waste",
    }
    assert {type(text) for text in config["metadata"].values()} == {str}


def test_an_argument_wins_over_the_same_metadata(handler: Eco2CallbackHandler) -> None:
    """A metadata key counts only where its argument is omitted."""
    config = run_config(handler, job_id="j1", user_id="u1", metadata={"job_id": "x", "user_id": "x", "intent": "waste"})

    assert config["metadata"] == {"job_id": "j1", "user_id": "u1", "intent": "waste"}


def test_later_changes_of_the_arguments_change_nothing(handler: Eco2CallbackHandler) -> None:
    """The config holds copies of containers and the application's own objects."""
    own = object()
    tags, metadata = ["beta"], {"channel": "app", "flags": {"fast": True}, "path": ["a", {"b": 1}], "own": own}
    config = run_config(handler, job_id="j1", tags=tags, metadata=metadata)

    tags.append("late")
    metadata["flags"]["fast"] = False
    metadata["path"][1]["b"] = 2
    metadata["path"].append("late")
    metadata.clear()

    assert config["tags"] == ["beta"]
    assert config["metadata"] == {
        "channel": "app",
        "flags": {"fast": True},
        "path": ["a", {"b": 1}],
        "own": own,
        "job_id": "j1",
    }


def test_two_configs_share_nothing_but_the_handler(handler: Eco2CallbackHandler) -> None:
    """A change to one request's config does not appear in the next one's."""
    telemetry = LangSmithTelemetry(handler, environment="production")
    first, second = telemetry.run_config(job_id="j1"), telemetry.run_config(job_id="j1")

    first["tags"].append("x")
    first["metadata"]["x"] = 1
    first["callbacks"].append(None)

    assert second == telemetry.run_config(job_id="j1")
    assert second["tags"] == ["env:production"]


@pytest.mark.parametrize("make", [run_config, LangSmithTelemetry], ids=["run_config", "port"])
def test_a_single_string_is_no_list_of_tags(handler: Eco2CallbackHandler, make: Any) -> None:
    """A single string would become one tag per letter, so it is refused."""
    arguments = {"job_id": "j1"} if make is run_config else {}

    with pytest.raises(ConfigError) as raised:
        make(handler, tags="beta", **arguments)

    assert str(raised.value) == "tags= is 'beta', wanted a list of texts; pass ['beta']."


async def test_metadata_and_tags_reach_every_run(handler: Eco2CallbackHandler, records: Records) -> None:
    """Request, node and model call carry intent, job, user and the environment's tag."""
    traced = RunCollectorCallbackHandler()
    config = LangSmithTelemetry(handler, environment="production", tags=["eco2"]).run_config(**CALLER, tags=["beta"])
    config["callbacks"].append(traced)

    await graph().ainvoke({}, config)

    (root,) = traced.traced_runs
    runs = list(runs_from(root))
    assert [run.name for run in runs] == ["chat:j1", "answer", "FakeModel"]
    for run in runs:
        assert run.metadata.items() >= CALLER.items()
        assert [tag for tag in run.tags if ":step:" not in tag] == ["env:production", "eco2", "beta"]
    for record in (records.call, records.request):
        assert record.metadata.items() >= CALLER.items()
        assert set(record.tags) >= {"env:production", "eco2", "beta"}
    request = records.request
    assert (request.job_id, request.session_id, request.user_id) == ("j1", "s1", "u1")
    assert (request.tenant_id, request.intent) == ("acme", "waste")


async def test_no_tag_names_the_intent(handler: Eco2CallbackHandler) -> None:
    """The intent may change while the graph runs, so only the handler tags it, at the end."""
    config = run_config(handler, job_id="j1", intent="waste")

    assert config["tags"] == []


async def test_the_session_is_the_checkpointer_s_thread(handler: Eco2CallbackHandler) -> None:
    """Two requests of one session share their state; another session has its own."""
    threads = graph(InMemorySaver())

    for job, session in (("j1", "s1"), ("j2", "s1"), ("j3", "s2")):
        state = await threads.ainvoke({}, run_config(handler, job_id=job, session_id=session))

    assert state["seen"] == 1
    assert threads.get_state({"configurable": {"thread_id": "s1"}}).values["seen"] == 2


def test_default_tags_come_first_and_once(handler: Eco2CallbackHandler) -> None:
    """The order is the environment, the application's tags, then the request's."""
    telemetry = LangSmithTelemetry(handler, environment="production", tags=("eco2", "chat"))

    config = telemetry.run_config(**CALLER, tags=["beta", "eco2"], metadata={"channel": "app"})

    assert config == run_config(
        handler, **CALLER, tags=["env:production", "eco2", "chat", "beta"], metadata={"channel": "app"}
    )


def test_without_an_environment_there_is_no_environment_tag(handler: Eco2CallbackHandler) -> None:
    """An unset ECO2_ENVIRONMENT gives no tag ``env:``."""
    assert LangSmithTelemetry(handler).run_config(job_id="j1")["tags"] == []


async def test_without_telemetry_a_graph_still_has_its_thread(records: Records) -> None:
    """NoTelemetry keeps name, thread and metadata, and sets no callback and no tag."""
    threads = graph(InMemorySaver())
    configs = [NoTelemetry().run_config(**CALLER, tags=["beta"], metadata={"channel": "app"}) for _ in range(3)]

    for config in configs[:2]:  # some versions of LangGraph change the config
        state = await threads.ainvoke({}, config)

    assert configs[2] == {
        "run_name": "chat:j1",
        "configurable": {"thread_id": "s1"},
        "metadata": {"channel": "app", **CALLER},
    }
    assert state["seen"] == 2
    assert records.all == []


def test_without_telemetry_a_parents_handler_still_measures(handler: Eco2CallbackHandler, records: Records) -> None:
    """NoTelemetry omits callbacks instead of setting None, so the handler of a parent run still measures."""

    def inner(text: str) -> Any:
        return FakeModel().invoke(text, NoTelemetry().run_config(job_id="j2"))

    RunnableLambda(inner).invoke("hello", run_config(handler, job_id="j1"))

    assert records.call.metadata["job_id"] == "j2"


@pytest.mark.parametrize("implementation", [LangSmithTelemetry, NoTelemetry])
def test_every_implementation_has_the_port_s_signature(implementation: type[Any]) -> None:
    """Every implementation has the port's signature, which is the function's without the handler."""
    wanted = inspect.signature(TelemetryConfig.run_config)

    assert inspect.signature(implementation.run_config) == wanted
    assert list(wanted.parameters)[1:] == list(inspect.signature(run_config).parameters)[1:]


def test_langchain_accepts_the_config(handler: Eco2CallbackHandler) -> None:
    """Each key is one that LangChain knows, with a value of the type that it expects."""
    config: RunnableConfig = run_config(handler, **CALLER)

    assert set(config) <= set(RunnableConfig.__annotations__)
    assert CallbackManager.configure(config["callbacks"]).handlers == [handler]
