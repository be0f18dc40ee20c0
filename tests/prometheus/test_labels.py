"""Labels: texts never become one, declared names always do, and a model is one series."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langgraph.graph import START, MessagesState, StateGraph
from prometheus_client import CollectorRegistry, generate_latest

from eco2_callbacks import ConfigError, Eco2CallbackHandler, LLMCall, TokenUsage
from eco2_callbacks.prometheus.label_texts import is_text
from eco2_callbacks.prometheus.model_labels import model_label
from tests.support.examples import examples
from tests.support.fake_model import FakeModel
from tests.support.record_sink import exposed
from tests.support.small_graphs import sample


def emit(handler: Eco2CallbackHandler, **labels: Any) -> None:
    handler.emit(
        LLMCall(
            run_id=uuid.uuid4(),
            trace_id=uuid.uuid4(),
            provider="openai",
            model="gpt-5.2",
            started_at=datetime.now(UTC),
            duration_seconds=1.0,
            usage=TokenUsage(input_tokens=10),
            **labels,
        )
    )


def values(registry: CollectorRegistry, label: str) -> set[str]:
    return {line.labels[label] for family in registry.collect() for line in family.samples if label in line.labels}


@pytest.mark.parametrize(
    ("label", "value", "wanted"),
    [
        ("intent", "waste", False),
        ("intent", "bulk_waste.v2", False),
        ("intent", "재활용", False),
        ("intent", "x" * 64, False),
        ("intent", "x" * 65, True),
        ("intent", "where is the bin", True),
        ("intent", "01012345678", True),
        ("intent", "010-1234-5678", True),
        ("intent", "kim@example.com", True),
        ("intent", "a\nb", True),
        ("agent_name", "research-agent", False),
        ("agent_name", "ask my agent", True),
        ("tenant_id", "acme", False),
        ("tenant_id", "12345678901", False),
        ("tenant_id", "0190c5b2-8d3e-7c40-b2f0-5b1f2f4f3c11", False),
        ("tenant_id", "+82 10 1234 5678", True),
        ("tenant_id", "+821012345678", True),
        ("tenant_id", "010-1234-5678", True),
        ("tenant_id", "call me", True),
        ("tenant_id", "x" * 65, True),
        ("node", "Call the Model", False),
        ("node", "what the user wrote to us", True),
        ("model", "models/gemini-2.5-flash", False),
        ("node", "call 010-1234-5678", True),
        ("model", "two\nlines", True),
        ("model", "gpt-4-0613", False),
        ("model", "gpt-4o-2024-08-06", False),
    ],
)
def test_what_looks_like_a_text(label: str, value: str, *, wanted: bool) -> None:
    """A name passes, and a sentence, a phone number or an address does not."""
    assert is_text(label, value) is wanted


def test_a_text_as_intent_becomes_other_and_is_counted(registry: CollectorRegistry) -> None:
    """What a user wrote stands nowhere in the exposition, and its tokens are not lost."""
    handler = Eco2CallbackHandler(registry=registry)

    for _ in range(2):
        emit(handler, intent="my number is 010-1234-5678")

    page = generate_latest(registry).decode()
    assert "1234" not in page
    labels = {"node": "", "agent_name": "", "provider": "openai", "model": "gpt-5.2", "token_type": "input"}
    assert sample(registry, "graph_node_tokens_total", intent="other", **labels) == 20
    assert sample(registry, "eco2_callbacks_label_overflow_total", label="intent") == 1


def test_tenants_that_are_named_keep_their_label(registry: CollectorRegistry) -> None:
    """However many tenants came before, a tenant of tenants= and one with a budget have their series."""
    handler = Eco2CallbackHandler(
        registry=registry, max_tenants=3, tenants=["Acme Corp"], budgets={"beta": {"monthly_usd": 100}}
    )
    for number in range(100):
        emit(handler, tenant_id=f"garbage-{number}")

    for tenant in ("Acme Corp", "beta", "late"):
        emit(handler, tenant_id=tenant)

    labels = {"provider": "openai", "model": "gpt-5.2", "token_type": "input"}
    counted = {
        tenant: sample(registry, "llm_tokens_total", tenant_id=tenant, **labels)
        for tenant in ("Acme Corp", "beta", "late", "other")
    }
    # 97 of the 100, and "late".
    assert counted == {"Acme Corp": 10, "beta": 10, "late": None, "other": 980}
    assert sample(registry, "eco2_callbacks_label_overflow_total", label="tenant_id") == 98


@pytest.mark.parametrize(
    ("tenants", "message"),
    [
        ("acme", "tenants is 'acme', wanted a list of tenants; pass \\['acme'\\]"),
        ([1.5], "tenants holds a float, wanted texts, integers or UUIDs"),
        (7, "tenants is 7, wanted a list of tenants"),
    ],
    ids=["text", "float", "number"],
)
def test_wrong_tenants_are_refused(tenants: Any, message: str) -> None:
    """A single text is not taken letter by letter, and a tenant of another type is named."""
    with pytest.raises(ConfigError, match=message):
        Eco2CallbackHandler(registry=CollectorRegistry(), tenants=tenants)


def test_more_budgets_than_the_cap_keep_their_labels(registry: CollectorRegistry) -> None:
    """150 tenants with a budget are 150 budgets, none of them ``other``."""
    budgets: Any = {f"tenant-{number}": {"monthly_usd": number} for number in range(150)}

    Eco2CallbackHandler(registry=registry, budgets=budgets)

    assert exposed(registry, "tenant_monthly_budget_usd") == sum(range(150))
    assert {t for t in values(registry, "tenant_id") if t} == set(budgets)


@pytest.mark.parametrize(
    ("model", "request_model", "label"),
    [
        ("gpt-5.2-2025-12-11", "gpt-5.2", "gpt-5.2"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5", "claude-sonnet-4-5"),
        ("gpt-4-0613", "gpt-4", "gpt-4"),
        ("gemini-2.0-flash-001", "gemini-2.0-flash", "gemini-2.0-flash"),
        ("gemini-2.5-flash-preview-09-2025", "gemini-2.5-flash", "gemini-2.5-flash"),
        ("anthropic.claude-sonnet-4-20250514-v1:0", "anthropic.claude-sonnet-4", "anthropic.claude-sonnet-4"),
        ("claude-sonnet-4@20250514", "claude-sonnet-4", "claude-sonnet-4"),
        ("gpt-5.2", "gpt-5.2", "gpt-5.2"),
        ("gpt-4o-mini", "gpt-4o", "gpt-4o-mini"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o", "gpt-4o-mini-2024-07-18"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4", "claude-sonnet-4-5-20250929"),
        ("gpt-5.2", "gpt-5.2-2025-12-11", "gpt-5.2"),
        ("gpt-5.2", "", "gpt-5.2"),
        ("mistral-large-2411", "mistral-large-latest", "mistral-large-2411"),
    ],
)
def test_a_dated_model_is_one_series_with_the_requested_one(model: str, request_model: str, label: str) -> None:
    """An answer that adds a date or version counts under the requested name; another model does not."""
    assert model_label(model, request_model) == label


def test_the_exposition_has_no_creation_times(registry: CollectorRegistry) -> None:
    """No ``_created`` sample stands in the exposition, in either format."""
    emit(Eco2CallbackHandler(registry=registry))

    assert "_created" not in generate_latest(registry).decode()


def test_the_age_of_the_price_data_is_shown(registry: CollectorRegistry) -> None:
    """The gauge is the time since the price data was current; it is known from the start."""
    Eco2CallbackHandler(registry=registry, now=lambda: datetime(2036, 1, 1, tzinfo=UTC))

    age_seconds = registry.get_sample_value("eco2_callbacks_prices_age_seconds")

    assert age_seconds is not None
    assert age_seconds > 8 * 365 * 86400


MARK = "sésame"
TEXTS = st.text(max_size=40).map(lambda text: f"{text} {MARK} 010-1234-5678 {text}")
ANYTHING = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary(max_size=9)
    | st.uuids()
    | st.decimals(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
KEYS = st.sampled_from(
    [
        *("intent", "tenant_id", "user_id", "session_id", "thread_id", "job_id", "feature", "prompt_version"),
        *("lc_agent_name", "lc_source", "langgraph_checkpoint_ns", "langgraph_node", "run_name", "question"),
    ]
)
VALUES = st.dictionaries(KEYS, ANYTHING, max_size=5)


def _ask(state: MessagesState) -> dict[str, Any]:
    FakeModel().invoke("hello")
    return {}


GRAPH = StateGraph(MessagesState, context_schema=dict).add_node("ask", _ask).add_edge(START, "ask").compile()


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(metadata=VALUES, configurable=VALUES, context=VALUES, name=st.none() | TEXTS)
def test_no_value_can_raise_or_leak_into_a_label(
    metadata: dict[str, Any], configurable: dict[str, Any], context: dict[str, Any], name: str | None
) -> None:
    """Whatever an application puts there, all records are counted and no text is in the exposition."""
    registry = CollectorRegistry()
    with Eco2CallbackHandler(registry=registry) as handler:
        config: dict[str, Any] = {"callbacks": [handler], "metadata": metadata, "configurable": dict(configurable)}
        # LangGraph itself reads these two.
        config["configurable"].pop("thread_id", None)
        config["configurable"].pop("langgraph_checkpoint_ns", None)
        if name is not None:
            config["run_name"] = name
        GRAPH.invoke({"messages": []}, config, context=context)  # type: ignore[call-overload]
        page = generate_latest(registry).decode()

    assert MARK not in page
    assert "010-1234" not in page
    assert exposed(registry, "llm_calls_total") == 1
    assert exposed(registry, "graph_node_runs_total") == 1
    assert exposed(registry, "chat_requests_total") == 1
    errors = {
        line.labels["callback"]
        for family in registry.collect()
        for line in family.samples
        if line.name == "eco2_callbacks_errors_total" and line.value
    }
    assert errors <= {"attribution"}
