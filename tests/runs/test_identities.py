"""On whose behalf a run spends: read from metadata, configurable and LangGraph's runtime context."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections import namedtuple
from dataclasses import dataclass
from enum import Enum
from typing import Any, TypedDict
from uuid import UUID

import msgspec
import pytest
from langchain.agents import create_agent
from langchain_core.runnables import RunnableLambda
from langchain_core.tools import tool
from langgraph.graph import START, MessagesState, StateGraph
from prometheus_client import CollectorRegistry
from pydantic import BaseModel

from eco2_callbacks import ConfigError, Eco2CallbackHandler, GraphRun, NodeRun, RetrieverCall, ToolCall
from eco2_callbacks.runs.text_values import field_of
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records, exposed
from tests.support.small_graphs import sample

PEOPLE = {
    "tenant_id": "acme",
    "user_id": "kim",
    "session_id": "s-1",
    "job_id": "j-1",
    "feature": "search",
    "prompt_version": "v7",
}
UUID_1 = UUID(int=1)


class Plan(Enum):
    PRO = "pro"


@dataclass
class Context:
    user_id: str = "kim"
    tenant_id: int = 7
    feature: str | None = None


@tool
def search(text: str) -> str:
    """Search."""
    return text


def people(record: Any) -> dict[str, Any]:
    return {key: getattr(record, key) for key in PEOPLE}


def asking(context_schema: Any = None) -> Any:
    """Return a graph with a node that calls a model and a tool."""

    def ask(state: MessagesState) -> dict[str, Any]:
        FakeModel().invoke("hello")
        search.invoke({"text": "x"})
        return {}

    return (
        StateGraph(MessagesState, context_schema=context_schema).add_node("ask", ask).add_edge(START, "ask").compile()
    )


def run(records: Records, handler: Eco2CallbackHandler, *, context: Any = None, **config: Any) -> list[Any]:
    schema = None if context is None else type(context)
    asking(schema).invoke({"messages": []}, {"callbacks": [handler], **config}, context=context)
    return records.all


@pytest.mark.parametrize("where", ["metadata", "configurable"])
def test_every_record_says_on_whose_behalf_it_spends(
    handler: Eco2CallbackHandler, records: Records, where: str
) -> None:
    """All fields stand on call, tool, node and request, from metadata or from configurable."""
    found = run(records, handler, **{where: PEOPLE})

    assert [type(record).__name__ for record in found] == ["LLMCall", "ToolCall", "NodeRun", "GraphRun"]
    assert [people(record) for record in found] == [PEOPLE] * 4


def test_the_runtime_context_is_read_last(handler: Eco2CallbackHandler, records: Records) -> None:
    """LangGraph's ``context=`` fills what metadata and configurable lack."""
    found = run(
        records,
        handler,
        context=Context(user_id="context", tenant_id=7, feature="context"),
        metadata={"user_id": "metadata"},
        configurable={"user_id": "configurable", "feature": "configurable"},
    )

    assert {(record.user_id, record.feature, record.tenant_id) for record in found} == {
        ("metadata", "configurable", "7")
    }


def test_an_agent_s_context_is_read(handler: Eco2CallbackHandler, records: Records) -> None:
    """create_agent with a context schema: the call knows the user of the context."""
    agent = create_agent(FakeModel(), [], context_schema=Context)
    agent.invoke({"messages": [("user", "x")]}, {"callbacks": [handler]}, context=Context())

    assert {(record.user_id, record.tenant_id) for record in records.all} == {("kim", "7")}


@pytest.mark.parametrize(
    ("value", "text"),
    [("kim", "kim"), (7, "7"), (0, "0"), (UUID_1, str(UUID_1)), (Plan.PRO, "pro"), (None, None), ("", None)],
    ids=["text", "integer", "zero", "uuid", "enum", "none", "empty"],
)
def test_integers_and_uuids_count_as_text(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, value: Any, text: str | None
) -> None:
    """A tenant that is a number or a UUID keeps its label, and nothing is counted as an error."""
    run(records, handler, metadata={"tenant_id": value, "user_id": value})

    call = records.call
    assert (call.tenant_id, call.user_id) == (text or "", text)
    labels = {"provider": "openai", "model": "gpt-5.2", "tenant_id": text or "", "token_type": "input"}
    assert sample(registry, "llm_tokens_total", **labels) == 1000
    assert exposed(registry, "eco2_callbacks_errors_total") == 0


class Raises:
    def __str__(self) -> str:
        raise RuntimeError("no")

    __eq__ = __hash__ = __bool__ = __repr__ = __len__ = __str__  # type: ignore[assignment]


class Blocks:
    def __str__(self) -> str:
        threading.Event().wait()
        return ""

    __eq__ = __bool__ = __repr__ = __len__ = __str__  # type: ignore[assignment]
    __hash__ = object.__hash__


class BlockingText(str):
    __slots__ = ()

    def __str__(self) -> str:
        threading.Event().wait()
        return ""


@pytest.mark.parametrize(
    "value",
    [True, 1.5, [1], {"a": 1}, b"x", Raises(), Blocks(), "x" * 1_000_000, 10**6000],
    ids=["bool", "float", "list", "dict", "bytes", "raises", "blocks", "huge", "huge_integer"],
)
@pytest.mark.parametrize("where", ["metadata", "configurable", "context"])
def test_any_other_value_is_left_out_warned_about_and_counted_once(
    handler: Eco2CallbackHandler,
    records: Records,
    registry: CollectorRegistry,
    caplog: pytest.LogCaptureFixture,
    where: str,
    value: Any,
) -> None:
    """A value that is no identifier neither raises nor blocks: the records lack it, one warning says so."""
    for _ in range(2):
        if where == "context":
            run(records, handler, context={"user_id": value})
        else:
            run(records, handler, **{where: {"user_id": value}})

    assert {record.user_id for record in records.all} == {None}
    assert len(records.all) == 8
    # Once a request; LangChain copies a dict inside the metadata for the node's run, which is then a value of its own.
    counted = 4 if where == "metadata" and type(value) is dict else 2
    assert sample(registry, "eco2_callbacks_errors_total", callback="attribution") == counted
    assert [line for line in caplog.messages if "user_id is" in line and "wanted a text" in line] == caplog.messages
    assert len(caplog.messages) == 1


def test_no_unreadable_value_is_kept_alive(handler: Eco2CallbackHandler) -> None:
    """An object that is no identifier is free once its request has ended, however many ended runs are remembered."""

    class Large:
        pass

    large = Large()
    reference = weakref.ref(large)
    asking().invoke({"messages": []}, {"callbacks": [handler], "configurable": {"user_id": large}})
    handler.flush()
    del large
    gc.collect()

    assert reference() is None


def test_a_text_of_a_class_of_its_own_is_read_without_its_code(handler: Eco2CallbackHandler, records: Records) -> None:
    """A subclass of str counts as its text; its own methods are not called."""
    run(records, handler, metadata={"user_id": BlockingText("kim")})

    assert records.call.user_id == "kim"
    assert type(records.call.user_id) is str


def test_the_keys_can_be_chosen(registry: CollectorRegistry, records: Records) -> None:
    """Of several keys the first with a value counts; a field that is not named keeps its key."""
    keys = {"user_id": "customer", "tenant_id": ["org", "tenant_id"], "session_id": ["conversation"]}
    handler = Eco2CallbackHandler(registry=registry, sinks=[records], attribution_keys=keys)

    run(
        records,
        handler,
        metadata={"customer": 7, "tenant_id": "acme", "user_id": "ignored", "job_id": "j"},
        configurable={"thread_id": "t"},
    )

    call = records.call
    assert (call.user_id, call.tenant_id, call.session_id, call.job_id) == ("7", "acme", None, "j")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("user_id", "attribution_keys is 'user_id', wanted a mapping"),
        ({"customer": "x"}, "attribution_keys has the field 'customer', wanted some of \\['tenant_id', 'user_id'"),
        ({"user_id": 7}, "attribution_keys\\['user_id'\\] is 7, wanted the name of a key"),
        ({"user_id": [""]}, "attribution_keys\\['user_id'\\] is \\[''\\], wanted the name of a key"),
    ],
    ids=["text", "unknown_field", "number", "empty"],
)
def test_wrong_keys_are_refused(keys: Any, message: str) -> None:
    """A misspelt field or a key that is no text raises at construction."""
    with pytest.raises(ConfigError, match=message):
        Eco2CallbackHandler(registry=CollectorRegistry(), attribution_keys=keys)


def test_a_node_s_own_metadata_wins_for_its_call_alone(handler: Eco2CallbackHandler, records: Records) -> None:
    """Metadata given to one call holds for that call; node and request keep their own."""

    def ask(state: MessagesState) -> dict[str, Any]:
        FakeModel().invoke("a", {"metadata": {"user_id": "lee", "tenant_id": "beta"}})
        FakeModel().invoke("b")
        return {}

    graph = StateGraph(MessagesState).add_node("ask", ask).add_edge(START, "ask").compile()
    graph.invoke({"messages": []}, {"callbacks": [handler], "metadata": {"user_id": "kim", "tenant_id": "acme"}})

    assert [(record.user_id, record.tenant_id) for record in records.all] == [
        ("lee", "beta"),
        ("kim", "acme"),
        ("kim", "acme"),
        ("kim", "acme"),
    ]


def test_a_chain_s_configurable_is_read(handler: Eco2CallbackHandler, records: Records) -> None:
    """Outside a graph, configurable is known from the first run inside the chain on."""
    chain = RunnableLambda(lambda text: text) | FakeModel()
    chain.invoke("x", {"callbacks": [handler], "configurable": {"user_id": "kim"}})

    assert [record.user_id for record in records.all] == ["kim", "kim"]


def test_two_requests_at_once_do_not_mix(handler: Eco2CallbackHandler, records: Records) -> None:
    """Requests in parallel threads keep their own users."""
    graph = asking()

    def request(user: str) -> None:
        for _ in range(20):
            graph.invoke({"messages": []}, {"callbacks": [handler], "configurable": {"user_id": user}})

    threads = [threading.Thread(target=request, args=(user,)) for user in ("kim", "lee", "park")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    by_trace: dict[UUID, set[str]] = {}
    for record in records.all:
        by_trace.setdefault(record.trace_id, set()).add(record.user_id)
    assert sorted(users for (users,) in map(tuple, by_trace.values())) == sorted(["kim", "lee", "park"] * 20)


class Typed(TypedDict):
    user_id: str


class Slotted:
    __slots__ = ("other", "user_id")

    def __init__(self) -> None:
        self.user_id = "kim"


class Property:
    @property
    def user_id(self) -> str:
        time.sleep(3600)
        return "kim"

    def __getattr__(self, name: str) -> str:
        raise AssertionError(name)


class Model(BaseModel):
    user_id: str = "kim"


class Struct(msgspec.Struct):
    user_id: str = "kim"


class Constant:
    user_id = "kim"


Pair = namedtuple("Pair", ["user_id", "x"])


@pytest.mark.parametrize(
    ("holder", "wanted"),
    [
        (Typed(user_id="kim"), "kim"),
        (Context(), "kim"),
        (Model(), "kim"),
        (Struct(), "kim"),
        (Slotted(), "kim"),
        (Pair("kim", 1), "kim"),
        (Constant(), "kim"),
        (Property(), None),
        (object(), None),
        (None, None),
        ("kim", None),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_context_s_data_is_read_and_its_code_is_not(holder: Any, wanted: str | None) -> None:
    """Stored fields of any usual class are read; a property, which may wait for ever, is not called."""
    assert field_of(holder, "user_id") == wanted


def test_a_slot_that_was_never_set_holds_nothing() -> None:
    """An unset slot is no error."""
    assert field_of(Slotted(), "other") is None


def test_the_records_of_all_kinds_have_the_fields() -> None:
    """Tool, retriever, node and request have the same fields as a call."""
    for kind in (ToolCall, RetrieverCall, NodeRun, GraphRun):
        assert set(PEOPLE) <= set(kind.__struct_fields__)
