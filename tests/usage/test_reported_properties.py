"""Whatever a result holds, read_answer and read_usage neither raise nor return inconsistent counts."""

from __future__ import annotations

from datetime import date
from decimal import Decimal
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from langchain_core.outputs import ChatGeneration, LLMResult
from msgspec.structs import fields

from eco2_callbacks import PriceBook, Rate, TokenUsage
from eco2_callbacks.pricing.rates import PRICE_KEYS
from eco2_callbacks.usage import read_usage
from tests.support.answers import AT
from tests.support.examples import examples
from tests.support.reading import read_answer

NUMBERS = (
    st.none()
    | st.booleans()
    | st.integers(-5, 300)
    | st.integers()
    | st.floats()
    | st.sampled_from([0, 1, 10**12, 10**12 + 1, 10**30, 100.0, float("nan"), float("-inf")])
)


LEAVES = NUMBERS | st.text(max_size=6) | st.binary(max_size=20)


DETAILS = [
    "cache_read",
    "cache_creation",
    "audio",
    "reasoning",
    "ephemeral_5m_input_tokens",
    "ephemeral_1h_input_tokens",
    "flex_cache_read",
    "priority_reasoning",
    "flex_audio",
]


WORDS = st.sampled_from(
    [
        "web_search_call",
        "file_search_call",
        "code_interpreter_call",
        "image_generation_call",
        "server_tool_call",
        "image",
        "image_url",
        "audio",
        "search",
        "iVBORw0KGgoAAAANSUhEUgAABAAAAAQACAIAAADwf7zU",
        "gemini-3-pro-image-preview",
    ]
)


KEYS = st.sampled_from(
    [
        *("type", "id", "name", "action", "args", "container_id", "extras", "size", "value", "base64", "image_url"),
        *("data", "mime_type", "web_search_queries", "grounding_chunks", "maps", "retrieval_queries"),
    ]
)


NESTED = st.recursive(
    LEAVES | WORDS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=8
)


PLAUSIBLE = st.dictionaries(st.sampled_from(DETAILS), st.integers(0, 300), max_size=6)


DETAIL = PLAUSIBLE | st.dictionaries(st.sampled_from(DETAILS) | st.text(max_size=3), NUMBERS, max_size=5) | NESTED


RAW = (
    st.fixed_dictionaries(
        {},
        optional={
            "input_tokens": st.integers(0, 300) | NUMBERS,
            "output_tokens": st.integers(0, 3000) | NUMBERS,
            "total_tokens": NUMBERS,
            "total_cost": NUMBERS,
            "input_token_details": DETAIL,
            "output_token_details": DETAIL,
        },
    )
    | NESTED
)


NAMES = st.sampled_from(
    [
        "gpt-5.2",
        "gpt-4o-search-preview",
        "gemini-2.5-flash",
        "gemini-3-pro-image-preview",
        "gemini-2.5-flash-preview-tts",
        "gemini-3-pro-image-tts",
        "",
    ]
)


BLOCK = st.dictionaries(KEYS, NESTED, max_size=5) | st.fixed_dictionaries(
    {"type": WORDS}, optional={"id": LEAVES, "container_id": NESTED, "action": NESTED, "base64": LEAVES | WORDS}
)


CONTENT = st.lists(BLOCK | LEAVES, max_size=4) | NESTED


METADATA = (
    st.fixed_dictionaries(
        {},
        optional={
            "model_name": NAMES | NESTED,
            "model": NESTED,
            "service_tier": NESTED,
            "grounding_metadata": st.fixed_dictionaries(
                {}, optional={"web_search_queries": NESTED, "grounding_chunks": NESTED, "retrieval_queries": NESTED}
            )
            | NESTED,
        },
    )
    | NESTED
)


# A model with a price for every unit, so that every count is part of the sums. Only reasoning has no price here, since
# audio may include it; sonar-deep-research has one.
BOOK = PriceBook(
    [
        Rate(
            "any",
            "any",
            date(2026, 1, 1),
            "every unit",
            {key: Decimal(1) for key in PRICE_KEYS - {"output_reasoning_mtok"}},
        )
    ],
)


@st.composite
def messages(draw: st.DrawFn) -> AIMessage:
    """Draw a message with arbitrary values in every field that LangChain would validate."""
    return AIMessage.model_construct(
        content=draw(CONTENT),
        usage_metadata=draw(RAW),
        response_metadata=draw(METADATA),
        additional_kwargs=draw(st.fixed_dictionaries({"tool_outputs": CONTENT}) | NESTED),
    )


def assert_consistent(usage: TokenUsage) -> None:
    """Assert that no count is negative and that no part exceeds its whole."""
    assert min(getattr(usage, field.name) for field in fields(usage) if field.name != "image_sizes") >= 0
    assert usage.cache_read_tokens + usage.cache_creation_tokens <= usage.input_tokens
    assert usage.cache_creation_5m_tokens + usage.cache_creation_1h_tokens <= usage.cache_creation_tokens
    assert usage.input_audio_tokens <= usage.input_tokens
    assert usage.cache_read_audio_tokens <= min(usage.cache_read_tokens, usage.input_audio_tokens)
    assert usage.output_audio_tokens + usage.output_image_tokens <= usage.output_tokens
    assert usage.reasoning_tokens <= usage.output_tokens
    for provider, model in (("any", "any"), ("perplexity", "sonar-deep-research"), ("google", "gemini-2.5-flash")):
        cost = BOOK.price(usage, provider=provider, model=model, at=AT)
        assert sum(cost.parts.values()) == cost.total_usd >= 0


@settings(max_examples=examples(300), deadline=None, derandomize=True)
@given(RAW)
def test_any_usage_metadata_is_read(raw: object) -> None:
    """Any usage_metadata gives no usage or consistent counts."""
    usage = read_usage(raw)

    if usage is not None:
        assert_consistent(usage)


@settings(max_examples=examples(400), deadline=None, derandomize=True)
@given(
    choices=st.lists(messages(), max_size=2),
    prompt=st.lists(messages(), max_size=2),
    llm_output=st.fixed_dictionaries(
        {}, optional={"token_usage": RAW, "usage": RAW, "model_name": NESTED, "service_tier": NESTED}
    )
    | NESTED,
    provider=st.sampled_from(["openai", "azure", "google_genai", "google_vertexai", "anthropic", ""]),
    request_model=NAMES,
    params=st.dictionaries(st.just("tools"), NESTED, max_size=1),
)
def test_any_result_is_read(
    choices: list[AIMessage],
    prompt: list[AIMessage],
    llm_output: Any,
    provider: str,
    request_model: str,
    params: dict[str, Any],
) -> None:
    """Any result gives an answer that can be priced, or one without usage."""
    broken = LLMResult.model_construct(
        generations=[[ChatGeneration.model_construct(message=message) for message in choices]], llm_output=llm_output
    )

    answer = read_answer(broken, provider=provider, request_model=request_model, prompt=prompt, params=params)

    assert isinstance(answer.model, str)
    assert isinstance(answer.service_tier, str | None)
    if answer.usage is not None:
        assert_consistent(answer.usage)
