"""read_answer: model, tier and usage from what the official models give, and from anything else without harm."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import reduce
from operator import add
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import ChatGeneration, Generation, LLMResult

from eco2_callbacks import PriceBook, Rate, TokenUsage
from eco2_callbacks.extraction import Answer, messages_of, read_answer, read_usage
from eco2_callbacks.rates import PRICE_KEYS

AT = datetime(2026, 11, 1, tzinfo=UTC)
TOLD = {"input_tokens": 10, "output_tokens": 5, "total_tokens": 15}


def result(*messages: AIMessage, llm_output: dict[str, Any] | None = None) -> LLMResult:
    return LLMResult(generations=[[ChatGeneration(message=message) for message in messages]], llm_output=llm_output)


def answered(*messages: AIMessage, llm_output: dict[str, Any] | None = None, **asked: Any) -> Answer:
    return read_answer(
        result(*messages, llm_output=llm_output), **{"provider": "openai", "request_model": "asked"} | asked
    )


def test_an_answer_tells_model_tier_and_usage() -> None:
    """Model, tier and usage are those of the answer, not of the request."""
    message = AIMessage(
        "Hi",
        usage_metadata=TOLD,  # type: ignore[arg-type]
        response_metadata={"model_name": "gpt-5.2-2025-12-11", "service_tier": "default"},
    )

    assert answered(message, request_model="gpt-5.2") == Answer(
        model="gpt-5.2-2025-12-11",
        usage=TokenUsage(input_tokens=10, output_tokens=5),
        service_tier="default",
        from_cache=False,
        exact=True,
    )


@pytest.mark.parametrize(
    ("metadata", "llm_output", "model"),
    [
        ({"model_name": "gpt-5.2"}, {"model_name": "other"}, "gpt-5.2"),
        ({"model": "claude-opus-4-5"}, None, "claude-opus-4-5"),
        ({}, {"model_name": "gpt-5.2"}, "gpt-5.2"),
        ({"model_name": "models/gemini-2.5-flash"}, None, "gemini-2.5-flash"),
        ({}, None, "asked"),
        ({"model_name": ""}, {}, "asked"),
        ({"model_name": None}, {"model_name": None}, "asked"),
        ({"model_name": 7}, {"model_name": ["x"]}, "asked"),
    ],
    ids=["message_first", "anthropic_key", "llm_output", "models_prefix", "untold", "empty", "none", "no_text"],
)
def test_the_model_is_the_one_that_answered(
    metadata: dict[str, Any], llm_output: dict[str, Any] | None, model: str
) -> None:
    """The answer's model counts, and the one asked for where the answer names none."""
    assert answered(AIMessage("Hi", response_metadata=metadata), llm_output=llm_output).model == model


def test_the_asked_model_loses_its_prefix_too() -> None:
    """Where the request's model stands in, it is named without ``models/``."""
    assert answered(AIMessage("Hi"), request_model="models/gemini-2.5-flash").model == "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("metadata", "llm_output", "tier"),
    [
        ({"service_tier": "flex"}, {"service_tier": "default"}, "flex"),
        ({}, {"service_tier": "priority"}, "priority"),
        ({}, None, None),
        ({"service_tier": None}, None, None),
        ({"service_tier": 1}, None, None),
    ],
    ids=["message_first", "llm_output", "untold", "none", "no_text"],
)
def test_the_tier_is_the_answers(metadata: dict[str, Any], llm_output: dict[str, Any] | None, tier: str | None) -> None:
    """The service tier is the one of the answer, None where it tells none."""
    assert answered(AIMessage("Hi", response_metadata=metadata), llm_output=llm_output).service_tier == tier


def test_the_usage_of_several_choices_counts_once() -> None:
    """With n=3 the whole usage stands on every choice and is counted once."""
    choices = [AIMessage(text, usage_metadata=TOLD) for text in "abc"]  # type: ignore[arg-type]

    assert answered(*choices, llm_output={"model_name": "gpt-4o"}) == Answer(
        model="gpt-4o", usage=TokenUsage(input_tokens=10, output_tokens=5)
    )


def test_a_choice_without_usage_leaves_it_to_the_next() -> None:
    """Where the first choice tells no usage, the first that does counts."""
    choices = [AIMessage("a"), AIMessage("b", usage_metadata=TOLD)]  # type: ignore[arg-type]

    assert answered(*choices).usage == TokenUsage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize("times", [1, 2, 3, 5])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.2-2025-12-11", "o3-mini", "models/gemini-2.5-flash"])
def test_a_streamed_name_is_told_once(model: str, times: int) -> None:
    """Streamed choices that LangChain added up concatenate model and tier: both are told once."""
    chunks = [
        AIMessageChunk("a", response_metadata={"model_name": model, "service_tier": "default"}) for _ in range(times)
    ]

    answer = answered(reduce(add, chunks))

    assert (answer.model, answer.service_tier) == (model.removeprefix("models/"), "default")


@pytest.mark.parametrize("model", ["gpt-4o-4o", "aa", "gemini-2.5-flash-2.5", "llama-4-4"])
def test_a_name_that_repeats_little_stays(model: str) -> None:
    """A name that is no repetition of a whole name stays as it is."""
    assert answered(AIMessage("Hi", response_metadata={"model_name": model})).model == model


def test_an_answer_from_the_llm_cache_consumed_nothing() -> None:
    """A hit in LangChain's LLM cache tells the first answer's usage again and consumed nothing."""
    first = AIMessage("Hi", usage_metadata=TOLD, response_metadata={"model_name": "gpt-5.2"})  # type: ignore[arg-type]
    model = GenericFakeChatModel(messages=iter([first]), cache=InMemoryCache())

    # Read one after the other: a hit marks the very message that the cache holds.
    billed, hit = (
        read_answer(model.generate([[HumanMessage("hello")]]), provider="openai", request_model="asked")
        for _ in range(2)
    )

    assert billed == Answer("gpt-5.2", TokenUsage(input_tokens=10, output_tokens=5))
    assert hit == Answer("gpt-5.2", TokenUsage(), from_cache=True)


def test_a_search_model_from_the_cache_searched_nothing() -> None:
    """A cached answer of a model that always searches pays no search."""
    message = AIMessage("Hi", response_metadata={"model_name": "gpt-4o-search-preview"})
    message.usage_metadata = {**TOLD, "total_cost": 0}  # type: ignore[typeddict-item, typeddict-unknown-key]

    assert answered(message) == Answer("gpt-4o-search-preview", TokenUsage(), from_cache=True)


def test_no_usage_is_unknown_not_zero() -> None:
    """An answer that tells no usage has none, which is not a usage of nothing."""
    assert answered(AIMessage("Hi")) == Answer("asked", usage=None)


@pytest.mark.parametrize(
    ("llm_output", "usage"),
    [
        ({"token_usage": {"prompt_tokens": 7, "completion_tokens": 3}}, TokenUsage(input_tokens=7, output_tokens=3)),
        ({"usage": {"input_tokens": 7, "output_tokens": 3}}, TokenUsage(input_tokens=7, output_tokens=3)),
        ({"token_usage": {}}, TokenUsage()),
        ({"token_usage": None}, None),
        ({}, None),
        (None, None),
    ],
    ids=["openai", "anthropic", "on_a_sibling", "none", "no_usage", "no_output"],
)
def test_a_text_completion_tells_its_usage_beside_the_text(
    llm_output: dict[str, Any] | None, usage: TokenUsage | None
) -> None:
    """A completion model has no message: its usage stands in the llm_output, an empty one in a sibling's."""
    completion = LLMResult(generations=[[Generation(text="Hi")]], llm_output=llm_output)

    assert read_answer(completion, provider="openai", request_model="gpt-3.5-turbo-instruct").usage == usage


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (
            TOLD
            | {
                "input_token_details": {"cache_read": 4, "audio": 3},
                "output_token_details": {"reasoning": 2, "audio": 1},
            },
            TokenUsage(
                input_tokens=10,
                output_tokens=5,
                cache_read_tokens=4,
                input_audio_tokens=3,
                reasoning_tokens=2,
                output_audio_tokens=1,
            ),
        ),
        (
            TOLD
            | {
                "input_token_details": {"flex_cache_read": 4, "flex": 6},
                "output_token_details": {"flex_reasoning": 2, "flex": 3},
            },
            TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2),
        ),
        (
            TOLD
            | {
                "input_token_details": {"priority_cache_read": 4, "priority": 6},
                "output_token_details": {"priority_reasoning": 2, "priority": 3},
            },
            TokenUsage(input_tokens=10, output_tokens=5, cache_read_tokens=4, reasoning_tokens=2),
        ),
        (
            TOLD | {"input_token_details": {"cache_read": 0, "cache_creation": 0}, "output_token_details": {}},
            TokenUsage(input_tokens=10, output_tokens=5),
        ),
        (
            TOLD | {"input_token_details": {"cache_creation": 6}},
            TokenUsage(input_tokens=10, output_tokens=5, cache_creation_tokens=6),
        ),
        (
            # langchain-anthropic sets cache_creation to 0 where it tells the lifetimes.
            TOLD
            | {
                "input_token_details": {
                    "cache_read": 1,
                    "cache_creation": 0,
                    "ephemeral_5m_input_tokens": 4,
                    "ephemeral_1h_input_tokens": 3,
                }
            },
            TokenUsage(
                input_tokens=10,
                output_tokens=5,
                cache_read_tokens=1,
                cache_creation_tokens=7,
                cache_creation_5m_tokens=4,
                cache_creation_1h_tokens=3,
            ),
        ),
        (
            # 8 cached and 5 audio of 10: at least 3 are both.
            TOLD | {"input_token_details": {"cache_read": 8, "audio": 5}},
            TokenUsage(
                input_tokens=10, output_tokens=5, cache_read_tokens=8, input_audio_tokens=5, cache_read_audio_tokens=3
            ),
        ),
        ({"input_tokens": 10.0, "output_tokens": 5.0}, TokenUsage(input_tokens=10, output_tokens=5)),
        ({"input_tokens": 10}, TokenUsage(input_tokens=10)),
        ({"output_tokens": 0}, TokenUsage()),
    ],
    ids=[
        "plain_details",
        "openai_flex",
        "openai_priority",
        "zero_details",
        "cache_write",
        "anthropic_cache_write",
        "cached_audio",
        "whole_floats",
        "input_only",
        "told_zero",
    ],
)
def test_usage_metadata_is_read_in_every_dialect(raw: dict[str, Any], expected: TokenUsage) -> None:
    """Every dialect of usage_metadata becomes the same counts."""
    assert read_usage(raw) == expected


def test_anthropic_cache_writes_cost_their_lifetime() -> None:
    """A cache write of an hour costs the hour's rate although LangChain tells a cache_creation of 0."""
    usage = read_usage(
        {
            "input_tokens": 10_000,
            "output_tokens": 100,
            "input_token_details": {
                "cache_read": 2000,
                "cache_creation": 0,
                "ephemeral_5m_input_tokens": 3000,
                "ephemeral_1h_input_tokens": 1000,
            },
        }
    )

    assert usage is not None
    cost = PriceBook().price(usage, provider="anthropic", model="claude-sonnet-4-5", at=AT)

    # $3 input, $0.30 read, $3.75 written for 5 minutes, $6 for an hour, $15 output:
    # 4000 x 3 + 2000 x 0.3 + 3000 x 3.75 + 1000 x 6 + 100 x 15 = 12000 + 600 + 11250 + 6000 + 1500
    assert cost.total_usd == Decimal("0.03135")


def test_a_flex_answer_costs_flex() -> None:
    """An answer in the flex tier is read and priced as one: half of every rate."""
    message = AIMessage("Hi", response_metadata={"model_name": "gpt-5.2-2025-12-11", "service_tier": "flex"})
    message.usage_metadata = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_token_details": {"flex_cache_read": 400, "flex": 600},  # type: ignore[typeddict-unknown-key]
        "output_token_details": {"flex_reasoning": 40, "flex": 60},  # type: ignore[typeddict-unknown-key]
    }

    answer = answered(message)

    assert answer.usage is not None
    cost = PriceBook().price(
        answer.usage, provider="openai", model=answer.model, service_tier=answer.service_tier, at=AT
    )
    # $0.875 input, $0.0875 cached, $7 output: 600 x 0.875 + 400 x 0.0875 + 100 x 7 = 525 + 35 + 700
    assert cost.total_usd == Decimal("0.00126")


@pytest.mark.parametrize(
    ("details", "expected"),
    [
        ({"cache_read": 9}, TokenUsage(input_tokens=10, cache_read_tokens=9)),
        ({"cache_read": 10}, TokenUsage(input_tokens=10, cache_read_tokens=10)),
        ({"cache_read": 11}, TokenUsage(input_tokens=10, cache_read_tokens=10)),
        (
            {"cache_read": 6, "cache_creation": 6},
            TokenUsage(input_tokens=10, cache_read_tokens=6, cache_creation_tokens=4),
        ),
        (
            {"cache_creation": 4, "ephemeral_1h_input_tokens": 11},
            TokenUsage(input_tokens=10, cache_creation_tokens=10, cache_creation_1h_tokens=10),
        ),
    ],
    ids=["one_below", "at", "one_above", "together", "lifetime"],
)
def test_a_detail_is_never_more_than_its_whole(details: dict[str, int], expected: TokenUsage) -> None:
    """A detail beyond the count it lies in is cut to it."""
    assert read_usage({"input_tokens": 10, "input_token_details": details}) == expected


def test_thinking_may_be_spoken() -> None:
    """OpenAI counts some output as both reasoning and audio: each is kept as told, and billed as audio once."""
    usage = read_usage({"output_tokens": 10, "output_token_details": {"reasoning": 7, "audio": 10}})

    assert usage == TokenUsage(output_tokens=10, reasoning_tokens=7, output_audio_tokens=10)
    # gpt-audio: $64 audio output for a million tokens
    assert PriceBook().price(usage, provider="openai", model="gpt-audio", at=AT).total_usd == Decimal("0.00064")


@pytest.mark.parametrize(
    ("count", "read"),
    [
        (10**12, 10**12),
        (10**12 + 1, None),
        (0, 0),
        (-1, None),
        (True, None),
        ("5", None),
        (5.5, None),
        (float("nan"), None),
        (float("inf"), None),
        (Decimal(5), None),
        (None, None),
        ([5], None),
    ],
    ids=["most", "one_above", "zero", "negative", "bool", "text", "half", "nan", "inf", "decimal", "none", "list"],
)
def test_only_a_plausible_whole_number_is_a_count(count: object, read: int | None) -> None:
    """A count is a whole number from 0 to 10^12; anything else tells nothing."""
    assert read_usage({"input_tokens": count}) == (None if read is None else TokenUsage(input_tokens=read))


@pytest.mark.parametrize("raw", [None, {}, [], "x", 7, {"input_tokens": None}], ids=str)
def test_rubbish_tells_no_usage(raw: object) -> None:
    """What holds no count is no usage."""
    assert read_usage(raw) is None


@pytest.mark.parametrize(
    ("provider", "searches"),
    [("openai", 1), ("azure", 1), ("anthropic", 1), ("google_genai", 0)],
)
def test_tool_calls_are_counted_for_whoever_bills_them_so(provider: str, searches: int) -> None:
    """Searches are counted from the message's blocks, except for Gemini, which tells them in its grounding."""
    message = AIMessage(
        [{"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}],
        usage_metadata=TOLD,  # type: ignore[arg-type]
    )

    usage = answered(message, provider=provider).usage

    assert usage is not None
    assert usage.web_searches == searches


@pytest.mark.parametrize(("provider", "searches"), [("google_genai", 2), ("google_vertexai", 2), ("openai", 0)])
def test_grounding_counts_for_gemini_only(provider: str, searches: int) -> None:
    """Grounding is billed for Gemini, on Vertex as well, by the rules of the model that answered."""
    message = AIMessage(
        "Hi",
        usage_metadata=TOLD,  # type: ignore[arg-type]
        response_metadata={
            "model_name": "models/gemini-3-pro-preview",
            "grounding_metadata": {"web_search_queries": ["a", "b"]},
        },
    )

    usage = answered(message, provider=provider).usage

    assert usage is not None
    assert usage.web_searches == searches


def test_the_tools_of_the_request_are_heeded() -> None:
    """A container that the request's tools name is not billed."""
    call = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
    message = AIMessage([call], usage_metadata=TOLD)  # type: ignore[arg-type]
    params = {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}

    answers = [answered(message), answered(message, params=params)]

    assert [answer.usage and answer.usage.code_interpreter_sessions for answer in answers] == [1, 0]


def test_a_generated_image_is_not_exact() -> None:
    """An answer with an image of OpenAI's tool does not tell the whole bill."""
    message = AIMessage([{"type": "image_generation_call", "id": "ig_1"}], usage_metadata=TOLD)  # type: ignore[arg-type]

    assert not answered(message).exact


def test_sound_in_the_prompt_is_not_exact() -> None:
    """An answer to a prompt with sound does not tell how much of the input that was."""
    prompt = [HumanMessage([{"type": "audio", "url": "https://example.org/a.mp3"}])]
    message = AIMessage("Hi", usage_metadata=TOLD)  # type: ignore[arg-type]

    assert not answered(message, provider="google_genai", prompt=prompt).exact
    assert answered(message, provider="openai", prompt=prompt).exact


@pytest.mark.parametrize(
    "broken",
    [
        None,
        SimpleNamespace(),
        SimpleNamespace(generations=None, llm_output=7),
        SimpleNamespace(generations=[None, [], [None], [SimpleNamespace(message=None)]], llm_output=None),
        LLMResult(generations=[]),
        LLMResult(generations=[[]]),
    ],
    ids=["none", "bare", "wrong_types", "nothing_inside", "no_generations", "no_choices"],
)
def test_a_result_without_messages_tells_nothing(broken: Any) -> None:
    """Where there is no message, the asked model is all that is known."""
    assert messages_of(broken) == []
    assert read_answer(broken, provider="openai", request_model="asked") == Answer("asked")


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
# A model with a price for every unit: no count is left out of the sums that have to fit. Reasoning alone has none,
# since it may lie inside audio as well; sonar-deep-research has one.
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
    """Draw a message of which every field LangChain would have checked holds anything at all."""
    return AIMessage.model_construct(
        content=draw(CONTENT),
        usage_metadata=draw(RAW),
        response_metadata=draw(METADATA),
        additional_kwargs=draw(st.fixed_dictionaries({"tool_outputs": CONTENT}) | NESTED),
    )


def assert_consistent(usage: TokenUsage) -> None:
    """Assert that no count is negative and that all parts fit into their wholes."""
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


@settings(max_examples=300, deadline=None, derandomize=True)
@given(RAW)
def test_no_usage_metadata_breaks_the_reading(raw: object) -> None:
    """Whatever stands in usage_metadata, it is read as no usage or as counts that fit into each other."""
    usage = read_usage(raw)

    if usage is not None:
        assert_consistent(usage)


@settings(max_examples=400, deadline=None, derandomize=True)
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
def test_no_result_breaks_the_reading(
    choices: list[AIMessage],
    prompt: list[AIMessage],
    llm_output: Any,
    provider: str,
    request_model: str,
    params: dict[str, Any],
) -> None:
    """Whatever stands in a result, it is read as an answer that can be priced or that tells no usage."""
    broken = LLMResult.model_construct(
        generations=[[ChatGeneration.model_construct(message=message) for message in choices]], llm_output=llm_output
    )

    answer = read_answer(broken, provider=provider, request_model=request_model, prompt=prompt, params=params)

    assert isinstance(answer.model, str)
    assert isinstance(answer.service_tier, str | None)
    if answer.usage is not None:
        assert_consistent(answer.usage)
