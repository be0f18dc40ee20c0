"""Whatever stands in an answer's metadata: the bill is right, marked or unpriced, and nothing raises."""

from __future__ import annotations

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
from tests.support.record_sink import Records, exposed

PROVIDERS = (
    *("openai", "azure", "anthropic", "anthropicvertex", "anthropic-bedrock", "amazon_bedrock", "google_genai"),
    *("google_vertexai", "mistral", "xai", "perplexity", "openrouter", "cohere", "deepseek", "groq", "ollama"),
)
MODELS = ("gpt-5.2", "claude-sonnet-4-5", "claude-opus-4-8", "grok-4.3", "sonar", "sonar-deep-research", "command-r")
numbers = st.one_of(
    st.integers(-10, 10**6), st.just(10**30), st.floats(), st.booleans(), st.none(), st.text(max_size=3)
)
rubbish = st.recursive(
    numbers,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
counts = (
    *("input_tokens", "output_tokens", "total_tokens", "prompt_tokens", "completion_tokens", "num_cached_tokens"),
    *("cached_tokens", "prompt_cache_hit_tokens", "cache_read_input_tokens", "cache_creation_input_tokens", "cost"),
    *("cost_in_usd_ticks", "citation_tokens", "reasoning_tokens", "num_search_queries", "is_byok"),
)
iteration = st.fixed_dictionaries(
    {"type": st.sampled_from(["message", "compaction", "advisor_message", "fallback_message"])},
    optional={"input_tokens": numbers, "output_tokens": numbers, "model": st.sampled_from([*MODELS, ""]) | rubbish},
)
reported = st.one_of(
    rubbish,
    st.fixed_dictionaries(
        {},
        optional={
            **dict.fromkeys(counts, numbers | rubbish),
            "cache_creation": rubbish
            | st.dictionaries(st.sampled_from(["ephemeral_5m_input_tokens", "ephemeral_1h_input_tokens"]), numbers),
            "prompt_tokens_details": rubbish | st.fixed_dictionaries({"cached_tokens": numbers}),
            "iterations": rubbish | st.lists(iteration, max_size=3),
            "server_tool_use": rubbish | st.fixed_dictionaries({"web_search_requests": numbers}),
            "server_side_tool_usage_details": rubbish | st.fixed_dictionaries({"x_search_calls": numbers}),
            "service_tier": st.sampled_from(["standard", "batch", "priority"]) | rubbish,
            "speed": st.sampled_from(["fast", "standard"]) | rubbish,
            "inference_geo": st.sampled_from(["us", "global"]) | rubbish,
            "cost": numbers | rubbish | st.fixed_dictionaries({"total_cost": numbers}),
        },
    ),
)
metadata = st.fixed_dictionaries(
    {"model_name": st.sampled_from(MODELS)},
    optional={
        "usage": reported,
        "token_usage": reported,
        "token_count": reported,
        "usage_metadata": reported,
        "cost": numbers | rubbish,
        "cost_details": rubbish | st.fixed_dictionaries({"upstream_inference_cost": numbers}),
        "search_context_size": st.sampled_from(["low", "high"]) | rubbish,
        "num_search_queries": numbers,
        "serviceTier": rubbish | st.fixed_dictionaries({"type": st.sampled_from(["flex", "default"]) | rubbish}),
        "service_tier": rubbish,
        "id": rubbish,
    },
)
block = st.fixed_dictionaries(
    {
        "type": rubbish
        | st.sampled_from(
            [
                *("web_search_tool_result", "server_tool_result", "server_tool_call", "compaction", "custom_tool_call"),
                *("x_search_call", "code_interpreter_call", "advisor_tool_result", "tool_use", "web_search_call"),
            ]
        )
    },
    optional=dict.fromkeys(("id", "name", "content", "status", "value", "tool_call_id", "output"), rubbish),
)
usage = st.fixed_dictionaries(
    {"input_tokens": st.integers(0, 10**6), "output_tokens": st.integers(0, 10**5)},
    optional={
        "total_tokens": st.integers(0, 2 * 10**6),
        "input_token_details": st.dictionaries(st.sampled_from(["cache_read", "cache_creation", "audio"]), numbers),
        "output_token_details": st.dictionaries(st.sampled_from(["reasoning", "citation_tokens", "audio"]), numbers),
    },
)


@settings(max_examples=examples(300), deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    provider=st.sampled_from(PROVIDERS),
    metadata=metadata,
    content=st.text(max_size=3) | st.lists(block | rubbish, max_size=3),
    usage=usage | st.none(),
    kwargs=st.dictionaries(st.sampled_from(["betas", "speed", "model_kwargs", "base_model_id", "endpoint"]), rubbish),
    params=st.dictionaries(st.sampled_from(["tools", "speed", "extra_headers", "web_search_options"]), rubbish),
)
def test_a_bill_is_right_marked_or_unpriced(
    provider: str, metadata: dict[str, Any], content: Any, usage: Any, kwargs: dict[str, Any], params: dict[str, Any]
) -> None:
    """One record comes of it; its dollars are whole and not below 0, or it says why there are none."""
    records, registry = Records(), CollectorRegistry()
    handler = Eco2CallbackHandler(registry=registry, sinks=[records])
    run_id = uuid.uuid4()
    message = SimpleNamespace(
        content=content, usage_metadata=usage, response_metadata=metadata, additional_kwargs={}, tool_calls=[]
    )
    handler.on_chat_model_start(
        {"kwargs": kwargs},
        [[HumanMessage("hello")]],
        run_id=run_id,
        metadata={"ls_provider": provider, "ls_model_name": "gpt-5.2"},
        invocation_params=params,
    )

    handler.on_llm_end(SimpleNamespace(generations=[[SimpleNamespace(message=message)]]), run_id=run_id)  # type: ignore[arg-type]
    handler.flush()

    call = records.call
    assert exposed(registry, "eco2_callbacks_errors_total") == 0
    if call.cost is None:
        assert call.unpriced_reason is not None
    else:
        assert min(call.cost.input_usd, call.cost.output_usd, *call.cost.parts.values(), Decimal(0)) >= 0
        assert not call.cost.parts or sum(call.cost.parts.values()) == call.cost.total_usd
        assert call.cost_source == "provider" or call.usage is not None
