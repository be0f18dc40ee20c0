"""read_answer: model, tier and usage of what the official models return."""

from __future__ import annotations

from decimal import Decimal
from functools import reduce
from operator import add
from types import SimpleNamespace
from typing import Any

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.language_models import GenericFakeChatModel
from langchain_core.messages import AIMessage, AIMessageChunk, HumanMessage
from langchain_core.outputs import Generation, LLMResult

from eco2_callbacks import PriceBook, TokenUsage
from eco2_callbacks.usage import messages_of
from tests.support.answers import AT, REPORTED, answer_of
from tests.support.reading import Answer, read_answer


def test_an_answer_reports_model_tier_and_usage() -> None:
    """Model, tier and usage are those of the answer, not of the request."""
    message = AIMessage(
        "Hi",
        usage_metadata=REPORTED,  # type: ignore[arg-type]
        response_metadata={"model_name": "gpt-5.2-2025-12-11", "service_tier": "default"},
    )

    assert answer_of(message, request_model="gpt-5.2") == Answer(
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
        ({}, None, "requested"),
        ({"model_name": ""}, {}, "requested"),
        ({"model_name": None}, {"model_name": None}, "requested"),
        ({"model_name": 7}, {"model_name": ["x"]}, "requested"),
    ],
    ids=["message_first", "anthropic_key", "llm_output", "models_prefix", "unreported", "empty", "none", "no_string"],
)
def test_the_model_is_the_one_that_answered(
    metadata: dict[str, Any], llm_output: dict[str, Any] | None, model: str
) -> None:
    """The answering model counts, or the requested model where the answer names none."""
    assert answer_of(AIMessage("Hi", response_metadata=metadata), llm_output=llm_output).model == model


def test_the_requested_model_loses_its_prefix() -> None:
    """The requested model is named without ``models/``."""
    assert answer_of(AIMessage("Hi"), request_model="models/gemini-2.5-flash").model == "gemini-2.5-flash"


@pytest.mark.parametrize(
    ("metadata", "llm_output", "tier"),
    [
        ({"service_tier": "flex"}, {"service_tier": "default"}, "flex"),
        ({}, {"service_tier": "priority"}, "priority"),
        ({}, None, None),
        ({"service_tier": None}, None, None),
        ({"service_tier": 1}, None, None),
    ],
    ids=["message_first", "llm_output", "unreported", "none", "no_string"],
)
def test_the_tier_is_the_answers(metadata: dict[str, Any], llm_output: dict[str, Any] | None, tier: str | None) -> None:
    """The service tier is that of the answer, None where it reports none."""
    assert answer_of(AIMessage("Hi", response_metadata=metadata), llm_output=llm_output).service_tier == tier


def test_the_usage_of_several_choices_counts_once() -> None:
    """With n=3 the whole usage is on every choice and is counted once."""
    choices = [AIMessage(text, usage_metadata=REPORTED) for text in "abc"]  # type: ignore[arg-type]

    assert answer_of(*choices, llm_output={"model_name": "gpt-4o"}) == Answer(
        model="gpt-4o", usage=TokenUsage(input_tokens=10, output_tokens=5)
    )


def test_the_first_choice_with_usage_counts() -> None:
    """Where the first choice reports no usage, the first one that does counts."""
    choices = [AIMessage("a"), AIMessage("b", usage_metadata=REPORTED)]  # type: ignore[arg-type]

    assert answer_of(*choices).usage == TokenUsage(input_tokens=10, output_tokens=5)


@pytest.mark.parametrize("times", [1, 2, 3, 5])
@pytest.mark.parametrize("model", ["gpt-4o", "gpt-5.2-2025-12-11", "o3-mini", "models/gemini-2.5-flash"])
def test_a_streamed_name_is_reported_once(model: str, times: int) -> None:
    """LangChain concatenates model and tier of streamed choices; each is reported once."""
    chunks = [
        AIMessageChunk("a", response_metadata={"model_name": model, "service_tier": "default"}) for _ in range(times)
    ]

    answer = answer_of(reduce(add, chunks))

    assert (answer.model, answer.service_tier) == (model.removeprefix("models/"), "default")


@pytest.mark.parametrize("model", ["gpt-4o-4o", "aa", "gemini-2.5-flash-2.5", "llama-4-4"])
def test_a_name_with_a_repeated_part_stays(model: str) -> None:
    """A name that does not repeat as a whole stays unchanged."""
    assert answer_of(AIMessage("Hi", response_metadata={"model_name": model})).model == model


def test_an_answer_from_the_llm_cache_consumed_nothing() -> None:
    """A hit in LangChain's cache repeats the first answer's usage but consumed nothing."""
    first = AIMessage("Hi", usage_metadata=REPORTED, response_metadata={"model_name": "gpt-5.2"})  # type: ignore[arg-type]
    model = GenericFakeChatModel(messages=iter([first]), cache=InMemoryCache())

    # Read one after the other: a hit marks the message object in the cache.
    billed, hit = (
        read_answer(model.generate([[HumanMessage("hello")]]), provider="openai", request_model="requested")
        for _ in range(2)
    )

    assert billed == Answer("gpt-5.2", TokenUsage(input_tokens=10, output_tokens=5))
    assert hit == Answer("gpt-5.2", TokenUsage(), from_cache=True)


def test_a_search_model_from_the_cache_searched_nothing() -> None:
    """A cached answer of a model that always searches pays for no search."""
    message = AIMessage("Hi", response_metadata={"model_name": "gpt-4o-search-preview"})
    message.usage_metadata = {**REPORTED, "total_cost": 0}  # type: ignore[typeddict-item, typeddict-unknown-key]

    assert answer_of(message) == Answer("gpt-4o-search-preview", TokenUsage(), from_cache=True)


def test_no_usage_is_unknown_not_zero() -> None:
    """An answer without usage has no usage, not a usage of zero."""
    assert answer_of(AIMessage("Hi")) == Answer("requested", usage=None)


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
def test_a_text_completion_reports_its_usage_in_llm_output(
    llm_output: dict[str, Any] | None, usage: TokenUsage | None
) -> None:
    """A text completion has no message: its usage is in llm_output, or empty there for a further prompt."""
    completion = LLMResult(generations=[[Generation(text="Hi")]], llm_output=llm_output)

    assert read_answer(completion, provider="openai", request_model="gpt-3.5-turbo-instruct").usage == usage


def test_a_flex_answer_costs_flex() -> None:
    """An answer in the flex tier is read and priced as flex: half of every rate."""
    message = AIMessage("Hi", response_metadata={"model_name": "gpt-5.2-2025-12-11", "service_tier": "flex"})
    message.usage_metadata = {
        "input_tokens": 1000,
        "output_tokens": 100,
        "total_tokens": 1100,
        "input_token_details": {"flex_cache_read": 400, "flex": 600},  # type: ignore[typeddict-unknown-key]
        "output_token_details": {"flex_reasoning": 40, "flex": 60},  # type: ignore[typeddict-unknown-key]
    }

    answer = answer_of(message)

    assert answer.usage is not None
    cost = PriceBook().price(
        answer.usage, provider="openai", model=answer.model, service_tier=answer.service_tier, at=AT
    )
    # $0.875 input, $0.0875 cached, $7 output: 600 x 0.875 + 400 x 0.0875 + 100 x 7 = 525 + 35 + 700
    assert cost.total_usd == Decimal("0.00126")


@pytest.mark.parametrize(
    ("provider", "searches"),
    [("openai", 1), ("azure", 1), ("anthropic", 0), ("google_genai", 0)],
)
def test_tool_calls_are_counted_for_whoever_bills_them_so(provider: str, searches: int) -> None:
    """Searches are counted from the provider's own blocks; Gemini reports them in its grounding."""
    message = AIMessage(
        [{"type": "web_search_call", "id": "ws_1", "action": {"type": "search"}}],
        usage_metadata=REPORTED,  # type: ignore[arg-type]
    )

    usage = answer_of(message, provider=provider).usage

    assert usage is not None
    assert usage.web_searches == searches


@pytest.mark.parametrize(("provider", "searches"), [("google_genai", 2), ("google_vertexai", 2), ("openai", 0)])
def test_grounding_counts_for_gemini_only(provider: str, searches: int) -> None:
    """Grounding is billed for Gemini, on Vertex as well, by the rules of the answering model."""
    message = AIMessage(
        "Hi",
        usage_metadata=REPORTED,  # type: ignore[arg-type]
        response_metadata={
            "model_name": "models/gemini-3-pro-preview",
            "grounding_metadata": {"web_search_queries": ["a", "b"]},
        },
    )

    usage = answer_of(message, provider=provider).usage

    assert usage is not None
    assert usage.web_searches == searches


def test_a_container_that_the_request_names_is_not_billed() -> None:
    """A container that the request's tools name is not billed."""
    call = {"type": "code_interpreter_call", "id": "ci_1", "container_id": "cntr_1"}
    message = AIMessage([call], usage_metadata=REPORTED)  # type: ignore[arg-type]
    params = {"tools": [{"type": "code_interpreter", "container": "cntr_1"}]}

    answers = [answer_of(message), answer_of(message, params=params)]

    assert [answer.usage and answer.usage.code_interpreter_sessions for answer in answers] == [1, 0]


def test_a_generated_image_is_not_exact() -> None:
    """An answer with an image of OpenAI's tool does not report the whole bill."""
    message = AIMessage([{"type": "image_generation_call", "id": "ig_1"}], usage_metadata=REPORTED)  # type: ignore[arg-type]

    assert not answer_of(message).exact


def test_sound_in_the_prompt_is_not_exact() -> None:
    """Gemini does not report how much of the input was audio, so the usage is not exact."""
    prompt = [HumanMessage([{"type": "audio", "url": "https://example.org/a.mp3"}])]
    message = AIMessage("Hi", usage_metadata=REPORTED)  # type: ignore[arg-type]

    assert not answer_of(message, provider="google_genai", prompt=prompt).exact
    assert answer_of(message, provider="openai", prompt=prompt).exact


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
def test_a_result_without_messages_reports_nothing(broken: Any) -> None:
    """Without a message only the requested model is known."""
    assert messages_of(broken) == []
    assert read_answer(broken, provider="openai", request_model="requested") == Answer("requested")
