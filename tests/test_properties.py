"""Whatever a provider or a proxy answers, the handler counts the call once, and no counter decreases."""

from __future__ import annotations

import math
import uuid
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import HumanMessage
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.support.examples import examples
from tests.support.record_sink import Records

numbers = st.one_of(
    st.integers(-10, 10**6), st.just(10**30), st.floats(), st.booleans(), st.none(), st.text(max_size=3)
)
arbitrary = st.recursive(
    numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
details = st.one_of(
    arbitrary,
    st.dictionaries(
        st.sampled_from(
            [
                *("cache_read", "cache_creation", "audio", "reasoning", "flex_cache_read", "priority_reasoning"),
                *("ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens", "flex", "unknown"),
            ]
        ),
        numbers,
        max_size=5,
    ),
)
usage = st.one_of(
    arbitrary,
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": numbers,
            "output_tokens": numbers,
            "total_tokens": numbers,
            "total_cost": numbers,
            "input_token_details": details,
            "output_token_details": details,
        },
    ),
)
block = st.fixed_dictionaries(
    {
        "type": st.sampled_from(
            [
                *("text", "web_search_call", "file_search_call", "code_interpreter_call", "image_generation_call"),
                *("server_tool_call", "image", "image_url", "non_standard"),
            ]
        )
    },
    optional=dict.fromkeys(
        ("id", "action", "args", "name", "value", "base64", "image_url", "extras", "container_id"), arbitrary
    ),
)
grounding = st.dictionaries(
    st.sampled_from(["web_search_queries", "grounding_chunks", "retrieval_queries", "image_search_queries"]), arbitrary
)
message = st.builds(
    SimpleNamespace,
    content=st.one_of(st.text(max_size=5), st.lists(st.one_of(block, arbitrary), max_size=3), arbitrary),
    usage_metadata=usage,
    response_metadata=st.one_of(
        arbitrary,
        st.fixed_dictionaries(
            {},
            optional={
                "model_name": st.one_of(
                    st.sampled_from(["gpt-5.2", "gpt-5.2gpt-5.2", "gemini-3-pro-image"]), arbitrary
                ),
                "service_tier": st.one_of(st.sampled_from(["flex", "default"]), arbitrary),
                "grounding_metadata": st.one_of(grounding, arbitrary),
            },
        ),
    ),
    additional_kwargs=st.one_of(arbitrary, st.fixed_dictionaries({"tool_outputs": st.lists(block, max_size=2)})),
    tool_calls=arbitrary,
)
choice = st.one_of(arbitrary, st.builds(SimpleNamespace, message=message, text=arbitrary))
answers = st.one_of(
    arbitrary,
    st.builds(
        SimpleNamespace,
        generations=st.one_of(arbitrary, st.lists(st.one_of(st.lists(choice, max_size=2), arbitrary), max_size=2)),
        llm_output=st.one_of(arbitrary, st.fixed_dictionaries({"token_usage": st.one_of(usage, arbitrary)})),
    ),
)
registry = CollectorRegistry()
records = Records()
handler = Eco2CallbackHandler(registry=registry, sinks=[records])


def counters() -> dict[Any, float]:
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in registry.collect()
        for sample in family.samples
        if family.type == "counter"
    }


def failures(state: dict[Any, float]) -> float:
    """Return the failures inside the handler; a value that is no identifier is none."""
    return sum(
        value
        for (name, *labels), value in state.items()
        if name == "eco2_callbacks_errors_total" and "attribution" not in str(labels)
    )


def calls(state: dict[Any, float]) -> float:
    return sum(value for (name, *_), value in state.items() if name == "llm_calls_total")


@settings(max_examples=examples(150), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    answer=answers,
    provider=st.sampled_from(["openai", "google_genai", "azure", "anthropic", "", "unknown"]),
    params=arbitrary,
    failed=st.booleans(),
)
def test_a_malformed_answer_is_counted_once(answer: Any, provider: str, params: Any, failed: bool) -> None:
    """The call is counted once, with a valid usage and cost or none, and no counter decreases."""
    before, emitted = counters(), len(records.calls)
    run_id = uuid.uuid4()
    metadata = {"ls_provider": provider, "ls_model_name": "gpt-5.2"}

    handler.on_chat_model_start(
        {}, [[HumanMessage("hello")]], run_id=run_id, metadata=metadata, invocation_params=params
    )
    if failed:
        handler.on_llm_error(ValueError("broken"), run_id=run_id, response=answer)
    else:
        handler.on_llm_end(answer, run_id=run_id)

    after = counters()
    assert all(after[series] >= value for series, value in before.items())
    assert all(math.isfinite(value) for value in after.values())
    assert calls(after) == calls(before) + 1
    assert failures(after) == failures(before)
    (call,) = records.calls[emitted:]
    assert call.usage is None or all(count >= 0 for name, count in call.usage.nonzero() if name != "image_sizes")
    if call.cost is None:
        assert call.unpriced_reason is not None
    else:
        assert call.cost.total_usd >= Decimal(0)
        assert sum(call.cost.parts.values()) == call.cost.total_usd


@settings(max_examples=examples(100), deadline=None, suppress_health_check=list(HealthCheck))
@given(
    metadata=st.one_of(
        st.none(), st.dictionaries(st.sampled_from(["intent", "tenant_id", "user_id", "thread_id"]), arbitrary)
    ),
    tags=st.one_of(st.none(), st.lists(st.text(max_size=5), max_size=2)),
    outputs=arbitrary,
    name=st.one_of(st.none(), st.text(max_size=5)),
)
def test_runs_with_arbitrary_metadata_are_measured(metadata: Any, tags: Any, outputs: Any, name: Any) -> None:
    """Requests, nodes, tools and retrievers with arbitrary metadata are measured without an error."""
    before = counters()
    root, node, tool = uuid.uuid4(), uuid.uuid4(), uuid.uuid4()
    inside = {**(metadata or {}), "langgraph_node": name or "node"}

    handler.on_chain_start({}, outputs, run_id=root, metadata=metadata, tags=tags, name=name)
    step = ["graph:step:1", *(tags or [])]
    handler.on_chain_start({}, {}, run_id=node, parent_run_id=root, metadata=inside, tags=step, name=name or "node")
    handler.on_tool_start(None, "", run_id=tool, parent_run_id=node, metadata=inside, tags=tags, name=name)  # type: ignore[arg-type]
    handler.on_tool_end(outputs, run_id=tool)
    handler.on_chain_end(outputs, run_id=node)
    handler.on_chain_end(outputs, run_id=root)

    assert failures(counters()) == failures(before)
    assert records.all[-1].trace_id == root
    assert registry.get_sample_value("eco2_callbacks_open_runs") == 0
