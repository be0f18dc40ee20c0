"""What a call costs: priced, estimated, unpriced, refused or answered by a cache."""

from __future__ import annotations

import logging
import uuid
from datetime import date
from decimal import Decimal, localcontext

import pytest
from langchain_core.caches import InMemoryCache
from langchain_core.messages import AIMessage
from langchain_core.outputs import Generation, LLMResult
from prometheus_client import CollectorRegistry

from eco2_callbacks import Cost, Eco2CallbackHandler, PriceBook, TokenUsage
from eco2_callbacks.pricing import Adjustment
from eco2_callbacks.testing import FakeChatModel
from tests.support.fake_model import COST, FakeModel
from tests.support.prices import custom_rate
from tests.support.record_sink import Records
from tests.support.small_graphs import sample


async def test_a_rate_limit_is_counted_apart_from_other_errors(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A 429 is counted as a rate limit. It costs nothing and is not unpriced."""

    class TooManyError(Exception):
        status_code = 429

    with pytest.raises(TooManyError):
        await FakeModel(fails=[TooManyError("slow down")]).ainvoke("hello", config={"callbacks": [handler]})

    call = records.call
    assert (call.status, call.error_type, call.rate_limited) == ("error", "TooManyError", True)
    assert (call.usage, call.cost, call.unpriced_reason) == (None, None, None)
    assert sample(registry, "llm_rate_limit_errors_total", provider="openai", model="gpt-5.2") == 1
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2"}
    assert sample(registry, "llm_errors_total", error_type="TooManyError", **labels) == 1


async def test_a_failure_that_may_have_been_billed_is_unpriced(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """An error without a refusal by the provider may have been billed: unpriced, never zero."""
    with pytest.raises(AttributeError):
        await FakeModel(fails=[AttributeError("parse")]).ainvoke("hello", config={"callbacks": [handler]})

    assert (records.call.cost, records.call.unpriced_reason) == (None, "no_usage")
    assert sample(registry, "llm_unpriced_calls_total", provider="openai", model="gpt-5.2", reason="no_usage") == 1


async def test_an_unknown_model_is_unpriced_counted_and_logged_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """An unpriced call is counted, not charged zero, and the log says how to add a price."""
    model = FakeModel(model="our-llama", answered_by="our-llama")

    for _ in range(3):
        await model.ainvoke("hello", config={"callbacks": [handler]})

    assert [(call.cost, call.unpriced_reason) for call in records.calls] == [(None, "unknown_model")] * 3
    labels = {"provider": "openai", "model": "our-llama"}
    assert sample(registry, "llm_unpriced_calls_total", reason="unknown_model", **labels) == 3
    assert sample(registry, "llm_tokens_total", tenant_id="", token_type="input", **labels) == 3000
    (message,) = [r.getMessage() for r in caplog.records if r.name == "eco2_callbacks.billing"]
    assert message.startswith("No price for model 'our-llama' of provider 'openai' on ")
    assert message.endswith("; add it to the file named by ECO2_PRICES or pass prices=. Its calls count as unpriced.")


async def test_an_unknown_answering_model_costs_what_the_requested_model_costs(
    handler: Eco2CallbackHandler, records: Records, caplog: pytest.LogCaptureFixture
) -> None:
    """An unknown name in the answer, such as a deployment's, falls back to the requested model without a log line."""
    await FakeModel(answered_by="/deployments/blue").ainvoke("hello", config={"callbacks": [handler]})

    assert records.call.model == "/deployments/blue"
    assert records.call.cost is not None
    assert records.call.cost.total_usd == COST
    assert caplog.messages == []


def test_a_deployment_on_azure_has_the_price_of_its_custom_rate(records: Records) -> None:
    """Its name can be another model's, so public prices of the name do not count; a custom rate for it does."""
    rate = custom_rate({"input_mtok": Decimal(1), "output_mtok": Decimal(2)}, provider="azure", model="gpt-4")
    answer = AIMessage(
        "fine",
        usage_metadata={"input_tokens": 1000, "output_tokens": 100, "total_tokens": 1100},
        response_metadata={"model_name": "gpt-9-2026-11-20"},
    )
    costs = []

    for prices in (None, PriceBook([rate])):
        handler = Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records], prices=prices)
        with handler.call(provider="azure", model="gpt-4") as call:
            call.answered(answer)
        handler.flush()
        costs.append(records.calls[-1].cost)

    assert costs[0] is None
    assert costs[1] is not None
    assert costs[1].total_usd == Decimal("0.0012")  # 1000 x 1 + 100 x 2


def test_a_call_of_several_models_takes_a_fixed_discount_once(records: Records) -> None:
    """Fixed dollars are for a call: an advisor's sampling inside it takes them off no second time."""
    counts = {"input_tokens": 2000, "output_tokens": 200}
    advisor = {"type": "advisor_message", "model": "claude-opus-4-5", "input_tokens": 1000, "output_tokens": 100}
    usage = {**counts, "iterations": [{"type": "message", **counts}, advisor]}
    answer = AIMessage(
        "fine",
        usage_metadata={**counts, "total_tokens": 2200},
        response_metadata={"model_name": "claude-sonnet-4-5", "usage": usage},
    )
    model = FakeChatModel(model="claude-sonnet-4-5", provider="anthropic", answers=[answer], usage=None)
    discount = Adjustment(kind="discount", start=date(2026, 1, 1), source="contract", fixed_usd=Decimal("0.001"))
    book = PriceBook(adjustments=[discount])

    with Eco2CallbackHandler(registry=CollectorRegistry(), prices=book, sinks=[records]) as handler:
        model.invoke("hello", {"callbacks": [handler]})

    assert records.call.cost is not None
    assert records.call.list_cost is not None
    # 2,000 x 3 + 200 x 15 + 1,000 x 5 + 100 x 25 a million
    assert records.call.list_cost.total_usd == Decimal("0.0165")
    assert records.call.cost.total_usd == Decimal("0.0155")


async def test_a_record_names_the_rates_behind_its_cost(handler: Eco2CallbackHandler, records: Records) -> None:
    """A priced call carries the prices that made its cost; an unpriced one carries none."""
    for model in ("gpt-5.2", "our-llama"):
        await FakeModel(model=model, answered_by=model).ainvoke("hello", config={"callbacks": [handler]})

    priced, unpriced = records.calls
    assert priced.rates is not None
    # gpt-5.2: $1.75 in, $14 out.
    assert priced.rates.usd["input_mtok"] == Decimal("1.75")
    assert priced.rates.usd["output_mtok"] == Decimal(14)
    assert unpriced.rates is None


async def test_a_stream_without_usage_is_estimated_and_warned_about_once(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture
) -> None:
    """Missing usage becomes an estimate, and one warning says how to get the real usage."""
    model = FakeModel(usage=None)

    for _ in range(2):
        _ = [chunk async for chunk in model.astream("How do I sort this?", config={"callbacks": [handler]})]

    call = records.calls[0]
    assert (call.status, call.estimated, call.estimate_reason) == ("success", True, "no_usage")
    assert call.estimator == "bpe-openai"
    # "How do I sort this?" is 6 tokens, one message's overhead 3 and the reply's 3; "sort it well" is 3 and
    # its delimiters 4.
    assert call.usage == TokenUsage(input_tokens=12, output_tokens=7)
    assert call.cost is not None
    usd = float(2 * call.cost.total_usd)
    labels = {"provider": "openai", "model": "gpt-5.2"}
    estimated = sample(registry, "llm_estimated_cost_dollars_total", reason="no_usage", **labels)
    assert estimated == pytest.approx(usd, abs=1e-12)
    (warning,) = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert warning == (
        f"Model 'gpt-5.2' of provider 'openai' answered without usage (run {call.run_id}); its cost is estimated. "
        "For a ChatOpenAI stream with its own base_url or client pass stream_usage=True."
    )


async def test_an_answer_from_the_llm_cache_is_a_hit_and_costs_nothing(
    handler: Eco2CallbackHandler, records: Records, registry: CollectorRegistry
) -> None:
    """A hit in LangChain's cache counts no tokens and no dollars."""
    model = FakeModel(cache=InMemoryCache())

    for _ in range(2):
        await model.ainvoke("hello", config={"callbacks": [handler]})

    paid, hit = records.calls
    assert (paid.from_cache, hit.from_cache) == (False, True)
    assert (hit.usage, hit.cost) == (TokenUsage(), Cost())
    labels = {"node": "", "provider": "openai", "model": "gpt-5.2"}
    assert sample(registry, "llm_cache_hits_total", **labels) == 1
    assert (
        sample(registry, "llm_calls_total", agent_name="eco2", intent="unclassified", status="success", **labels) == 2
    )
    del labels["node"]
    assert sample(registry, "llm_tokens_total", tenant_id="", token_type="input", **labels) == 1000
    assert sample(registry, "llm_cost_dollars_total", tenant_id="", **labels) == float(COST)


def test_a_second_prompt_of_one_request_is_not_billed_again(handler: Eco2CallbackHandler, records: Records) -> None:
    """A text-completion request reports its usage on the run of its first prompt only."""
    whole = LLMResult(
        generations=[[Generation(text="a")], [Generation(text="b")]],
        llm_output={
            "token_usage": {"prompt_tokens": 200, "completion_tokens": 20},
            "model_name": "gpt-3.5-turbo-instruct",
        },
    )
    for flat in whole.flatten():
        run_id = uuid.uuid4()
        handler.on_llm_start({}, ["prompt"], run_id=run_id, metadata={"ls_provider": "openai"})
        handler.on_llm_end(flat, run_id=run_id)

    assert [(call.operation, call.usage) for call in records.calls] == [
        ("text_completion", TokenUsage(input_tokens=200, output_tokens=20)),
        ("text_completion", TokenUsage()),
    ]


async def test_an_error_after_a_handled_rate_limit_is_no_rate_limit(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """The second model's failure does not inherit the first one's refusal."""

    class TooManyError(Exception):
        status_code = 429

    async def second_try() -> None:
        try:
            await FakeModel(fails=[TooManyError("slow down")]).ainvoke("hello", config={"callbacks": [handler]})
        except TooManyError:
            await FakeModel(fails=[ValueError("parse")]).ainvoke("hello", config={"callbacks": [handler]})

    with pytest.raises(ValueError, match="parse"):
        await second_try()

    assert [(call.rate_limited, call.unpriced_reason) for call in records.calls] == [(True, None), (False, "no_usage")]


def test_the_applications_decimal_context_changes_no_dollar(handler: Eco2CallbackHandler, records: Records) -> None:
    """Dollars are exact whatever decimal precision the application has set."""
    with localcontext(prec=3):
        FakeModel(usage={"input_tokens": 123_457, "output_tokens": 11, "total_tokens": 123_468}).invoke(
            "hello", config={"callbacks": [handler]}
        )

    assert records.call.cost is not None
    # 123457 x 1.75 + 11 x 14 USD per million
    assert records.call.cost.total_usd == Decimal("0.21620375")


async def test_a_record_names_no_estimator_where_no_text_was_counted(
    handler: Eco2CallbackHandler, records: Records
) -> None:
    """A reported usage needs no counter, and a call that failed before any answer has no usage at all."""
    await FakeModel().ainvoke("hello", config={"callbacks": [handler]})
    with pytest.raises(ConnectionError):
        await FakeModel(fails=[ConnectionError("reset")]).ainvoke("hello", config={"callbacks": [handler]})

    assert [(call.usage is None, call.estimator) for call in records.calls] == [(False, None), (True, None)]
