"""Arguments of public constructors and functions: a mistake is refused at once, with what came and what to do."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import (
    ConfigError,
    Eco2CallbackHandler,
    Feature,
    LangSmithTelemetry,
    NoTelemetry,
    PriceBook,
    Rate,
    RatesFileError,
    Settings,
    TokenUsage,
    run_config,
)
from tests.support.fake_model import FakeModel
from tests.support.record_sink import Records


class NoSink:
    """An object without the method of a sink."""


_HANDLER_MISTAKES: dict[str, tuple[Mapping[str, Any], str]] = {
    "one_state_label": (
        {"state_labels": "intent"},
        "state_labels= is 'intent', wanted a list of texts; pass ['intent'].",
    ),
    "no_state_labels": ({"state_labels": None}, "state_labels= is None, wanted a list of texts; pass a list."),
    "a_number_as_label": ({"state_labels": [1]}, "state_labels= holds 1, wanted texts that are not empty"),
    "one_subagent": ({"subagents": "answer"}, "subagents= is 'answer', wanted a list of texts; pass ['answer']."),
    "an_empty_subagent": ({"subagents": [""]}, "subagents= holds '', wanted texts that are not empty"),
    "misspelt_budget": (
        {"budgets": {"acme": {"montly_usd": 1}}},
        "budgets['acme'] has the key 'montly_usd', wanted ['daily_usd', 'monthly_usd']; correct the key.",
    ),
    "negative_budget": (
        {"budgets": {"acme": {"monthly_usd": -5}}},
        "budgets['acme']['monthly_usd'] is -5, wanted dollars of 0 or more; pass a number.",
    ),
    "boolean_budget": ({"budgets": {"acme": {"monthly_usd": True}}}, "is True, wanted dollars of 0 or more"),
    "nan_budget": ({"budgets": {"acme": {"daily_usd": math.nan}}}, "is nan, wanted dollars of 0 or more"),
    "infinite_budget": ({"budgets": {"acme": {"daily_usd": math.inf}}}, "is inf, wanted dollars of 0 or more"),
    "text_budget": ({"budgets": {"acme": {"daily_usd": "5"}}}, "is '5', wanted dollars of 0 or more"),
    "bare_budget": ({"budgets": {"acme": 100}}, "budgets['acme'] is 100, wanted a mapping; pass {'monthly_usd'"),
    "empty_budget": ({"budgets": {"acme": {}}}, "budgets['acme'] is {}, wanted one of ['daily_usd', 'monthly_usd']"),
    "list_of_budgets": ({"budgets": ["acme"]}, "budgets= is ['acme'], wanted a mapping; pass a dict."),
    "budget_of_a_number": (
        {"budgets": {7: {"daily_usd": 1}}},
        "budgets= has the key 7, wanted texts as keys; write it",
    ),
    "list_of_features": ({"features": ["a"]}, "features= is ['a'], wanted a mapping; pass a dict."),
    "feature_without_name": ({"features": {"waste": {}}}, "features['waste'] is {}, wanted a name or a mapping"),
    "list_of_feedback": ({"feedback": ["a"]}, "feedback= is ['a'], wanted a mapping; pass a dict."),
    "feedback_without_key": ({"feedback": {"node": "score"}}, "feedback['node']= is 'score', wanted a mapping"),
    "feedback_without_path": ({"feedback": {"node": {"key": 1}}}, "feedback['node']['key']= is 1, wanted a text"),
    "mapping_of_prices": ({"prices": {}}, "prices= is {}, wanted a PriceBook or the path of a rates file; pass one."),
    "number_as_prices": ({"prices": 3}, "prices= is 3, wanted a PriceBook or the path of a rates file; pass one."),
    "no_registry": ({"registry": None}, "registry= is None, wanted a CollectorRegistry; leave it out for"),
    "one_sink": ({"sinks": NoSink()}, "wanted a list of sinks; pass a list."),
    "no_sinks": ({"sinks": None}, "sinks= is None, wanted a list of sinks; pass a list."),
    "class_as_sink": ({"sinks": [Records]}, "Records'>, wanted an object; pass Records()."),
    "object_as_sink": ({"sinks": [NoSink()]}, "wanted objects with a plain method emit(record); pass those."),
    "clock_with_an_argument": (
        {"clock": lambda moment: moment},
        "wanted a function without arguments; pass one such as time.monotonic.",
    ),
    "now_with_an_argument": (
        {"now": lambda moment: moment},
        "wanted a function without arguments; pass one such as l",
    ),
    "number_as_clock": (
        {"clock": 1.0},
        "clock= is 1.0, wanted a function without arguments; pass one such as time.mono",
    ),
    "number_as_now": ({"now": 1.0}, "now= is 1.0, wanted a function without arguments; pass one such as"),
    "naive_now": ({"now": datetime.now}, "wanted a datetime with a time zone; pass datetime.now(UTC)."),
    "text_as_cap": (
        {"max_label_values": "100"},
        "max_label_values= is '100', wanted a whole number of 1 or more; pass",
    ),
    "no_values": ({"max_label_values": 0}, "max_label_values= is 0, wanted a whole number of 1 or more"),
    "boolean_cap": ({"max_label_values": True}, "max_label_values= is True, wanted a whole number of 1 or more"),
    "text_as_tenant_cap": ({"max_tenants": "9"}, "max_tenants= is '9', wanted a whole number of 1 or more"),
    "no_agent_name": ({"agent_name": None}, "agent_name= is None, wanted a text; pass one."),
}


@pytest.mark.parametrize(("arguments", "message"), _HANDLER_MISTAKES.values(), ids=list(_HANDLER_MISTAKES))
def test_a_mistake_in_the_handlers_arguments_is_refused(
    registry: CollectorRegistry, arguments: dict[str, Any], message: str
) -> None:
    """The constructor refuses it, and leaves the registry as it was."""
    with pytest.raises(ConfigError) as raised:
        Eco2CallbackHandler(**{"registry": registry, **arguments})

    assert message in str(raised.value)
    assert list(registry.collect()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"subagents": ("answer",), "state_labels": ["intent", "tenant_id"]},
        {"budgets": {"acme": {"monthly_usd": Decimal(5), "daily_usd": 0}}},
        {"features": {"waste": "rag", "other": Feature(feature="chat")}, "feedback": {}},
        {"max_label_values": 1, "max_tenants": 1, "agent_name": ""},
        {"sinks": [Records()], "prices": PriceBook()},
    ],
    ids=["names", "budgets", "features", "caps", "sinks"],
)
def test_right_arguments_are_taken(registry: CollectorRegistry, arguments: dict[str, Any]) -> None:
    """What the docstring names is accepted."""
    Eco2CallbackHandler(registry=registry, **arguments).close()


@pytest.mark.parametrize("handler", [None, [], Eco2CallbackHandler, "handler"], ids=["none", "list", "class", "text"])
@pytest.mark.parametrize("make", [lambda handler: run_config(handler, job_id="j1"), LangSmithTelemetry])
def test_what_is_no_handler_is_refused(make: Callable[[Any], Any], handler: Any) -> None:
    """A config with something else than a handler would measure nothing, or fail inside the request."""
    with pytest.raises(ConfigError, match=r"^handler=? is .*, wanted an? (BaseCallbackHandler|object); pass "):
        make(handler)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"job_id": object()}, "job_id= is a object, wanted a text, an integer or a UUID; pass its id as text."),
        ({"job_id": "j1", "tenant_id": 1.5}, "tenant_id= is a float, wanted a text, an integer or a UUID"),
        ({"job_id": "j1", "user_id": True}, "user_id= is a bool, wanted a text, an integer or a UUID"),
        ({"job_id": "j1", "session_id": ["s"]}, "session_id= is a list, wanted a text, an integer or a UUID"),
        ({"job_id": "j1", "intent": 7.5}, "intent= is a float, wanted a text"),
        ({"job_id": "j1", "tags": [1]}, "tags= holds 1, wanted texts that are not empty; correct that item."),
        ({"job_id": "j1", "metadata": ["a"]}, "metadata= is ['a'], wanted a mapping; pass a dict."),
    ],
    ids=["job", "tenant", "user", "session", "intent", "tags", "metadata"],
)
def test_a_mistake_in_a_requests_config_is_refused(
    handler: Eco2CallbackHandler, arguments: dict[str, Any], message: str
) -> None:
    """All makers of configs refuse the same arguments."""
    for make in (
        lambda: run_config(handler, **arguments),
        lambda: LangSmithTelemetry(handler).run_config(**arguments),
        lambda: NoTelemetry().run_config(**arguments),
    ):
        with pytest.raises(ConfigError) as raised:
            make()
        assert message in str(raised.value)


def test_a_port_needs_an_environment_as_text(handler: Eco2CallbackHandler) -> None:
    """The environment becomes a tag."""
    with pytest.raises(ConfigError, match="environment= is 3, wanted a text"):
        LangSmithTelemetry(handler, environment=3)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"prices": 3}, "prices="),
        ({"environment": None}, "environment="),
        ({"tracing": "true"}, "tracing="),
        ({"project": ""}, "project="),
        ({"otel": "both"}, "otel="),
        ({"langsmith_api_key": 3}, "langsmith_api_key="),
        ({"langsmith_endpoint": None}, "langsmith_endpoint="),
        ({"otlp_endpoint": b"x"}, "otlp_endpoint="),
    ],
)
def test_a_mistake_in_settings_is_refused(fields: dict[str, Any], name: str) -> None:
    """Settings made by hand are checked as those from the environment."""
    with pytest.raises(ConfigError) as raised:
        Settings(**fields)

    assert str(raised.value).startswith(name)


def test_a_secret_of_the_wrong_type_is_not_shown() -> None:
    """The message on a key names its type only."""
    with pytest.raises(ConfigError) as raised:
        Settings(langsmith_api_key=b"lsv2_pt_secret")  # type: ignore[arg-type]

    assert "secret" not in str(raised.value)


RATE: dict[str, Any] = {
    "provider": "openai",
    "model": "gpt-5.2",
    "start": date(2026, 1, 1),
    "source": "contract 7",
    "prices": {"input_mtok": Decimal(1)},
}


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"provider": ""}, "provider= is '', wanted a text that is not empty"),
        ({"model": None}, "model= is None, wanted a text that is not empty"),
        ({"source": 7}, "source= is 7, wanted a text that is not empty"),
        ({"start": "2026-01-01"}, "start= is '2026-01-01', wanted the first day; pass a datetime.date."),
        ({"start": datetime(2026, 1, 1, tzinfo=UTC)}, "wanted the first day; pass a datetime.date."),
        ({"prices": {"input": Decimal(1)}}, "prices= has unknown keys ['input']; known are "),
        ({"prices": {"input_mtok": 1.5}}, "prices['input_mtok'] is 1.5, wanted a Decimal of 0 or more"),
        ({"prices": {"input_mtok": Decimal("1e400")}}, "is Decimal('1E+400'), wanted a Decimal of 0 or more"),
        ({"context": {"colour": "red"}}, "context= has unknown keys ['colour']; known are "),
        ({"token_factor": -1}, "token_factor= is -1, wanted a Decimal of 0 or more"),
        ({"service_tier": 1}, "service_tier= is 1, wanted a text"),
    ],
)
def test_a_mistake_in_a_rate_is_refused(changed: dict[str, Any], message: str) -> None:
    """A rate made by hand is checked as those of a file."""
    with pytest.raises(ConfigError) as raised:
        Rate(**{**RATE, **changed})

    assert message in str(raised.value)


@pytest.mark.parametrize("rates", ["rates.toml", Path("rates.toml"), 3, {"a": 1}, ["gpt-5.2"]])
def test_a_price_book_takes_rates_only(rates: Any) -> None:
    """A path is for from_toml()."""
    with pytest.raises(ConfigError, match=r"^rates= (is|holds)?"):
        PriceBook(rates)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"usage": {"input_tokens": 1}}, "usage= is {'input_tokens': 1}, wanted a TokenUsage; pass TokenUsage("),
        ({"provider": None}, "provider= is None, wanted a text"),
        ({"model": 3}, "model= is 3, wanted a text"),
        ({"context": "flex"}, "context= is 'flex', wanted a mapping"),
        ({"at": date(2026, 1, 1)}, "wanted a datetime; pass one with a time zone."),
    ],
    ids=["usage", "provider", "model", "context", "at"],
)
def test_a_mistake_in_price_is_refused(arguments: dict[str, Any], message: str) -> None:
    """PriceBook.price() names the argument that has the wrong type."""
    usage = TokenUsage(input_tokens=1)
    with pytest.raises(ConfigError) as raised:
        PriceBook().price(**{"usage": usage, "provider": "openai", "model": "gpt-5.2", **arguments})

    assert message in str(raised.value)


@pytest.mark.parametrize("seconds", ["10", -1, math.nan, math.inf, None, True])
def test_flush_takes_seconds_only(handler: Eco2CallbackHandler, seconds: Any) -> None:
    """Anything else would fail later, inside a wait."""
    with pytest.raises(ConfigError, match="timeout_seconds= is"):
        handler.flush(seconds)


ABOUT = 'provider = "openai"\nmodel = "gpt-5.2"\nstart = 2026-01-01\nsource = "contract 7"\n'


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            f"[[rates]]\n{ABOUT}input_mtok = 1e400\n",
            "has input_mtok = Decimal('1E+400'), wanted dollars of 0 or more, 1,0",
        ),
        (
            f"[[rates]]\n{ABOUT}input_mtok = '1e400'\n",
            "has input_mtok = '1e400', wanted dollars of 0 or more, 1,000,000",
        ),
        (f"[[rates]]\n{ABOUT}token_factor = 1e400\n", "has token_factor = Decimal('1E+400'), wanted dollars"),
        (f"[[rates]]\n{ABOUT}input_mtok = 1{'0' * 400}\n", "wanted dollars of 0 or more, 1,000,000,000 at most."),
        (f"[[rates]]\n{ABOUT}input_mtok = 1{'0' * 9000}\n", "no valid TOML"),
        (f"rates = {'[' * 3000}{']' * 3000}\n", "brackets are nested too deep"),
        (f"rates = {'{a = ' * 3000}1{'}' * 3000}\n", "brackets are nested too deep"),
        ("rates = 2026-99-99\n", "no valid TOML"),
    ],
    ids=["exponent", "text", "factor", "digits", "too_many_digits", "brackets", "tables", "date"],
)
def test_a_rates_file_that_no_price_can_come_from_is_refused(tmp_path: Path, text: str, message: str) -> None:
    """Infinite dollars and nested brackets are refused when the file is read, and named with the file."""
    path = tmp_path / "rates.toml"
    path.write_text(text)

    with pytest.raises(RatesFileError) as raised:
        Eco2CallbackHandler(registry=CollectorRegistry(), prices=path)

    assert str(raised.value).startswith(f"Rates file {str(path)!r}: ")
    assert message in str(raised.value)
    assert len(str(raised.value)) < 500


def test_a_path_that_cannot_be_opened_is_refused() -> None:
    """A null byte in a path is no TypeError."""
    with pytest.raises(RatesFileError):
        PriceBook.from_toml("rates\0.toml")


@pytest.mark.parametrize(
    ("provider", "warned"),
    [("opneai", True), ("opn*", True), ("openai", False), ("*", False), ("open*", False), ("google_genai", False)],
)
def test_a_rate_for_an_unknown_provider_is_warned_about_once(
    caplog: pytest.LogCaptureFixture, provider: str, warned: bool
) -> None:
    """A misspelt provider is named once, since its rate is never used."""
    for _ in range(2):
        PriceBook([Rate(**{**RATE, "provider": provider})])

    lines = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(lines) == warned
    if warned:
        assert f"Unknown provider {provider!r} in the custom rates: the rate is not used" in lines[0].getMessage()


def test_the_handler_reads_the_rates_file_of_the_environment(
    tmp_path: Path, records: Records, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without prices= the file named by ECO2_PRICES holds; a price book of one's own wins over it."""
    path = tmp_path / "rates.toml"
    path.write_text(f"[[rates]]\n{ABOUT}input_mtok = 1000\noutput_mtok = 0\n")
    monkeypatch.setenv("ECO2_PRICES", str(path))

    for prices in (None, PriceBook()):
        handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records], prices=prices)
        FakeModel().invoke("hello", {"callbacks": [handler]})

    # 1000 tokens at 1000 USD per million, then at the public rates of gpt-5.2
    assert [call.cost and call.cost.total_usd for call in records.calls] == [Decimal(1), Decimal("0.00315")]


def test_a_missing_rates_file_of_the_environment_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """A wrong ECO2_PRICES is refused by the handler as by the settings."""
    monkeypatch.setenv("ECO2_PRICES", "/nowhere")

    with pytest.raises(ConfigError) as raised:
        Eco2CallbackHandler(registry=CollectorRegistry())

    assert str(raised.value) == "ECO2_PRICES is '/nowhere', wanted an existing file; correct it or unset it."


@pytest.mark.parametrize(
    "fields",
    [{"feature": "rag", "subagents": [1]}, {"feature": "rag", "parallel": "no"}, {"feature": "rag", "description": 3}],
    ids=["subagents", "parallel", "description"],
)
def test_a_mistake_in_a_feature_is_refused(fields: dict[str, Any]) -> None:
    """A feature's fields are checked when it is made."""
    with pytest.raises(ConfigError, match="of 'rag'= "):
        Feature(**fields)
