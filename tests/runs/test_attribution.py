"""Labels: read from metadata, endpoint and state, and bounded in number."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from typing import Any
from uuid import UUID

import pytest
from langchain_core.language_models import BaseChatModel
from langchain_core.load import dumpd
from langchain_google_genai import ChatGoogleGenerativeAI
from langchain_openai import AzureChatOpenAI, ChatOpenAI
from langgraph.types import Command
from pydantic import BaseModel

from eco2_callbacks import PriceBook, TokenUsage
from eco2_callbacks.prometheus.label_limiter import OTHER, LabelLimiter
from eco2_callbacks.runs.attribution import state_values
from eco2_callbacks.runs.text_values import identifier, text_of
from eco2_callbacks.usage import provider_of, request_model

AT = datetime(2026, 11, 1, tzinfo=UTC)


class Intent(StrEnum):
    SEARCH = "search"


class Colour(Enum):
    RED = "red"
    SEVEN = 7


@dataclass
class State:
    intent: object = None


class Model(BaseModel):
    intent: str = ""


@pytest.fixture
def overflows() -> list[str]:
    return []


@pytest.fixture
def guard(overflows: list[str]) -> LabelLimiter:
    return LabelLimiter(overflows.append)


def test_a_label_keeps_its_first_values_up_to_the_cap(guard: LabelLimiter, overflows: list[str]) -> None:
    """Values up to the cap stay, and every further one becomes ``other``."""
    admitted = [guard.admit("model", value, 3) for value in ("a", "b", "c", "d", "a", "c", "d", "e")]

    assert admitted == ["a", "b", "c", OTHER, "a", "c", OTHER, OTHER]
    assert overflows == ["model", "model"]


def test_each_label_has_a_cap_of_its_own(guard: LabelLimiter, overflows: list[str]) -> None:
    """A full label does not affect the others."""
    admitted = [guard.admit(label, value, 1) for label, value in (("a", "x"), ("b", "y"), ("a", "y"), ("b", "y"))]

    assert admitted == ["x", "y", OTHER, "y"]
    assert overflows == ["a"]


@pytest.mark.parametrize("value", ["", OTHER])
def test_empty_and_other_do_not_count_for_the_cap(guard: LabelLimiter, overflows: list[str], value: str) -> None:
    """An empty value and ``other`` itself are always admitted."""
    assert guard.admit("model", value, 0) == value
    assert overflows == []


def test_the_guard_keeps_a_bounded_number_of_values() -> None:
    """Past ten thousand refused values, a new one is reported each time instead of kept."""
    reported: list[str] = []
    guard = LabelLimiter(reported.append)
    for number in range(10_000):
        guard.admit("tenant", str(number), 0)
    reported.clear()

    values = [guard.admit("tenant", value, 0) for value in ("0", "new", "new")]

    assert values == [OTHER, OTHER, OTHER]
    assert reported == ["tenant", "tenant"]


def test_threads_share_one_cap(guard: LabelLimiter) -> None:
    """Values admitted from many threads at once never exceed the cap."""
    admitted: list[str] = []
    start = threading.Barrier(8)

    def admit(thread: int) -> None:
        start.wait()
        admitted.extend(guard.admit("model", f"{thread}-{number}", 10) for number in range(100))

    threads = [threading.Thread(target=admit, args=(thread,)) for thread in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(admitted) - {OTHER}) == 10
    assert len(admitted) == 800


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("search", "search"),
        (Intent.SEARCH, "search"),
        (Colour.RED, "red"),
        (Colour.SEVEN, ""),
        (None, ""),
        (7, ""),
        (True, ""),
        (["search"], ""),
        (b"search", ""),
    ],
    ids=["text", "str_enum", "enum", "number_enum", "none", "number", "bool", "list", "bytes"],
)
def test_only_strings_become_labels(value: object, text: str) -> None:
    """A label's value is a string or a string enum's value; anything else is empty."""
    assert text_of(value) == text
    assert type(text_of(value)) is str


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("u-1", "u-1"),
        (7, "7"),
        (0, "0"),
        (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ("", None),
        (None, None),
    ],
    ids=["text", "number", "zero", "uuid", "empty", "none"],
)
def test_an_identifier_is_a_string_or_none(value: object, expected: str | None) -> None:
    """An identifier of a user, session or job becomes a string, whatever its type."""
    assert identifier(value) == expected


def openai_at(url: str | None) -> ChatOpenAI:
    return ChatOpenAI(model="gpt-5.2", api_key="x", base_url=url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("model", "ls_provider", "provider", "expected_usd"),
    [
        # A million input tokens each: gpt-5.2 $1.75, gemini-2.5-flash $0.30.
        (lambda: openai_at(None), "openai", "openai", "1.75"),
        (lambda: openai_at("https://eco2.openai.azure.com/openai/v1/"), "openai", "azure", "1.75"),
        (lambda: openai_at("https://eco2.services.ai.azure.com/openai/v1/"), "openai", "azure", "1.75"),
        (lambda: openai_at("https://eco2.cognitiveservices.azure.com/openai/v1/"), "openai", "azure", "1.75"),
        (
            lambda: AzureChatOpenAI(
                model="gpt-5.2",
                azure_endpoint="https://eco2.openai.azure.com",
                azure_deployment="gpt-5.2",
                api_version="2025-03-01-preview",
                api_key="x",  # type: ignore[arg-type]
            ),
            "azure",
            "azure",
            "1.75",
        ),
        (
            lambda: ChatGoogleGenerativeAI(model="gemini-2.5-flash", api_key="x"),
            "google_genai",
            "google_genai",
            "0.3",
        ),
        (
            lambda: ChatGoogleGenerativeAI(model="gemini-2.5-flash", api_key="x", vertexai=True),
            "google_genai",
            "google_vertexai",
            "0.3",
        ),
        (
            lambda: ChatGoogleGenerativeAI(
                model="gemini-2.5-flash", api_key="x", base_url="https://europe-west1-aiplatform.googleapis.com"
            ),
            "google_genai",
            "google_vertexai",
            "0.3",
        ),
    ],
    ids=[
        "openai",
        "azure_v1",
        "azure_foundry",
        "azure_cognitive",
        "azure_class",
        "gemini",
        "vertex",
        "vertex_url",
    ],
)
def test_the_endpoint_decides_the_provider(model: Any, ls_provider: str, provider: str, expected_usd: str) -> None:
    """A model on Azure or Vertex belongs to that provider, whatever its class, and is priced there."""
    chat: BaseChatModel = model()

    found = provider_of({"ls_provider": ls_provider}, dumpd(chat))

    assert found == provider
    cost = PriceBook().price(
        TokenUsage(input_tokens=1_000_000),
        provider=found,
        model="gpt-5.2" if ls_provider != "google_genai" else "gemini-2.5-flash",
        at=AT,
    )
    assert cost.total_usd == Decimal(expected_usd)


@pytest.mark.parametrize(
    ("metadata", "serialized", "provider"),
    [
        ({"ls_provider": "openai"}, None, "openai"),
        ({"ls_provider": "openai"}, {}, "openai"),
        ({"ls_provider": "openai"}, {"kwargs": None}, "openai"),
        ({"ls_provider": "openai"}, {"kwargs": {"openai_api_base": 7}}, "openai"),
        ({"ls_provider": "google_genai"}, {"kwargs": {"base_url": None, "vertexai": None}}, "google_genai"),
        ({"ls_provider": "google_genai"}, {"kwargs": {"vertexai": False}}, "google_genai"),
        (
            {"ls_provider": "anthropic"},
            {"kwargs": {"openai_api_base": "https://a.openai.azure.com", "vertexai": True}},
            "anthropic",
        ),
        ({"ls_provider": None}, None, ""),
        ({}, {"kwargs": {"vertexai": True}}, ""),
    ],
    ids=[
        "not_serialized",
        "empty",
        "no_kwargs",
        "base_no_string",
        "nothing_set",
        "vertex_off",
        "other_provider",
        "none",
        "missing",
    ],
)
def test_without_an_endpoint_langchains_provider_counts(
    metadata: dict[str, Any], serialized: dict[str, Any] | None, provider: str
) -> None:
    """Where no endpoint can be read, the provider is LangChain's ls_provider."""
    assert provider_of(metadata, serialized) == provider


@pytest.mark.parametrize(
    ("metadata", "params", "model"),
    [
        ({"ls_model_name": "gpt-5.2"}, {"model": "other"}, "gpt-5.2"),
        ({}, {"model": "gpt-5.2", "model_name": "other"}, "gpt-5.2"),
        ({}, {"model_name": "gpt-5.2"}, "gpt-5.2"),
        ({}, {"_type": "fake-chat"}, "fake-chat"),
        ({"ls_model_name": "models/gemini-2.5-flash"}, {}, "gemini-2.5-flash"),
        ({"ls_model_name": ""}, {"model": None}, ""),
        ({"ls_model_name": 7}, {}, ""),
    ],
    ids=["metadata", "model", "model_name", "type", "models_prefix", "missing", "no_string"],
)
def test_the_requested_model(metadata: dict[str, Any], params: dict[str, Any], model: str) -> None:
    """The requested model is LangSmith's name for it, or the one in the parameters."""
    assert request_model(metadata, params) == model


class RaisingState:
    """A state whose property raises."""

    def __repr__(self) -> str:
        return "RaisingState()"  # without an address, so that every xdist worker gives the test the same id

    @property
    def intent(self) -> str:
        raise RuntimeError("not ready")


def test_a_commands_update_may_be_a_list_of_pairs() -> None:
    """An update given as pairs is read like a mapping."""
    assert state_values(Command(update=[("intent", "search")]), ("intent",)) == {"intent": "search"}


def test_a_state_may_have_a_field_named_update() -> None:
    """Only a ``Command`` carries its update inside; a state with such a field is the state itself."""

    class Updated(BaseModel):
        intent: str = "waste"
        update: str = "today"

    assert state_values(Updated(), ("intent",)) == {"intent": "waste"}


@pytest.mark.parametrize("value", ["waste\ud83d", "x" * 500], ids=["lone_surrogate", "long"])
def test_an_invalid_label_value_is_sanitised(value: str) -> None:
    """A lone surrogate is replaced and a long value is cut, so that every scrape works."""
    admitted = LabelLimiter(lambda label: None).admit("model", value, 10)

    assert admitted.encode() == (value.replace("\ud83d", "?")[:120]).encode()


@pytest.mark.parametrize(
    "outputs",
    [
        {"intent": "search"},
        {"intent": Intent.SEARCH},
        State("search"),
        Model(intent="search"),
        Command(update={"intent": "search"}, goto="next"),
        Command(update=State("search")),
        [{"other": 1}, Command(update={"intent": "search"})],
        [{"intent": "answer"}, {"intent": "search"}],
    ],
    ids=["dict", "enum", "dataclass", "pydantic", "command", "command_object", "list", "last_of_several"],
)
def test_a_value_is_found_in_whatever_a_node_returns(outputs: object) -> None:
    """A key is found in a mapping, an object, a command's update or a list of these; the last value counts."""
    assert state_values(outputs, ("intent", "tenant_id")) == {"intent": "search"}


@pytest.mark.parametrize(
    "outputs",
    [
        None,
        "search",
        7,
        [],
        [None],
        {},
        {"intent": None},
        {"intent": ""},
        {"intent": 7},
        State(),
        Command(goto="next"),
        Command(update=[("intent",)]),
        [RaisingState()],
    ],
    ids=str,
)
def test_a_node_that_returns_no_string_sets_nothing(outputs: object) -> None:
    """A key without a string value is left out."""
    assert state_values(outputs, ("intent",)) == {}
