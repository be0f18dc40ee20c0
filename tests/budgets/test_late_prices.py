"""Calls whose price is unknown, or another one, until their answer names the model: budgets hold for them too."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler
from tests.support.fake_model import COST, USAGE, FakeModel
from tests.support.record_sink import exposed


def passed(handler: Eco2CallbackHandler, model: FakeModel, calls: int) -> int:
    for number in range(calls):
        try:
            model.invoke("x", {"callbacks": handler.callbacks})
        except BudgetExceeded:
            return number
    return calls


@pytest.mark.parametrize(
    ("provider", "requested", "answered"),
    [
        ("azure", "my-deployment", "gpt-5.2-2025-12-11"),
        ("openai", "my-alias", "gpt-5.2-2025-12-11"),
        ("openrouter", "openrouter/auto", "openai/gpt-5.2"),
        ("openai", "gpt-5-nano", "gpt-5.2-2025-12-11"),
    ],
    ids=["a deployment's name", "an alias", "a router", "a cheaper model's name"],
)
def test_a_price_that_the_answer_tells_counts_for_the_next_call(
    provider: str, requested: str, answered: str, registry: CollectorRegistry
) -> None:
    """The second call reaches the limit, and the third one is refused, although no record had to be made by then."""
    budgets = Budgets(rules=[BudgetRule(name="all", limit_usd=2 * COST, warn_at=())], assumed_output_tokens=1)
    with Eco2CallbackHandler(registry=registry, budgets=budgets) as handler:
        model = FakeModel(provider=provider, model=requested, answered_by=answered)

        # A call that reserves nothing passes while nothing more than the limit is spent.
        assert passed(handler, model, 10) in (2, 3)


def test_a_free_model_of_the_users_own_machine_is_recorded_later(registry: CollectorRegistry) -> None:
    """It has no price and costs nothing, so its end callback need not wait for its record."""
    budgets = Budgets(rules=[BudgetRule(name="all", limit_usd=Decimal(1))])
    with Eco2CallbackHandler(registry=registry, budgets=budgets) as handler:
        model = FakeModel(provider="ollama", model="llama3.2", answered_by="llama3.2")

        assert passed(handler, model, 10) == 10
        assert len(handler._queue) == 10


@pytest.mark.parametrize("window", ["rolling 1h", "day"])
def test_a_call_without_a_known_price_settles_in_its_own_window(window: str, registry: CollectorRegistry) -> None:
    """Its account is not dropped while it runs, although the call has reserved nothing and the window moves on."""
    now = datetime(2026, 3, 5, 12, tzinfo=UTC)
    limit = 2 * COST + Decimal("0.0001")
    rule = BudgetRule(name="all", limit_usd=limit, window=window, warn_at=(), match={"tenant_id": "acme"})

    class Slow(FakeModel):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            nonlocal now
            now += timedelta(minutes=2)
            with ThreadPoolExecutor(1) as scraper:  # moves the windows on
                scraper.submit(exposed, registry, "budget_spent_dollars").result()
            return super()._generate(*arguments, **options)

    with Eco2CallbackHandler(registry=registry, budgets=Budgets(rules=[rule]), now=lambda: now) as handler:
        for _ in range(2):
            Slow(model="my-alias", usage=USAGE).invoke(
                "x", {"callbacks": handler.callbacks, "metadata": {"tenant_id": "acme"}}
            )

        assert exposed(registry, "budget_spent_dollars") == pytest.approx(2 * float(COST))
