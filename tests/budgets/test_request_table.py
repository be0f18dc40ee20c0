"""What a budget knows of single requests: bounded in number, and never forgotten while the request is open."""

from __future__ import annotations

import threading
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler, run_config
from eco2_callbacks.budgets import accounts as accounts_module
from eco2_callbacks.budgets import enforcer as enforcer_module
from eco2_callbacks.budgets.request_table import RequestTable
from tests.support.fake_model import FakeModel


def passes(config: Any = None) -> bool:
    try:
        FakeModel().invoke("x", config)
    except BudgetExceeded:
        return False
    return True


def on_other_thread(work: Any) -> None:
    thread = threading.Thread(target=work)
    thread.start()
    thread.join()


def test_a_request_keeps_its_limit_however_many_others_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its limit does not begin anew, also while none of its calls is open."""
    monkeypatch.setattr(accounts_module, "_MAX_RUNS", 5)
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), budgets=Budgets())
    seen: list[bool] = []

    def request(_: object) -> None:
        while passes():
            pass
        on_other_thread(
            lambda: [passes(run_config(handler, job_id=number, max_usd=0.01)) for number in range(20)],
        )
        seen.append(passes())

    RunnableLambda(request).invoke(1, run_config(handler, job_id="long", max_usd=0.01))

    assert seen == [False]
    assert len(handler._budgets._enforcer._table._runs) == 5


def test_a_stop_after_a_refusal_lasts_however_many_others_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """With ``after_refusal = "refuse"`` no cheaper call of the request passes, until the request ends."""
    monkeypatch.setattr(enforcer_module, "_MAX_REFUSED_RUNS", 5)
    budgets = Budgets(rules=[BudgetRule(name="dear", limit_usd=Decimal("0.001"), window="day")], after_refusal="refuse")
    handler = Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets)
    config: Any = {"callbacks": handler.callbacks}
    cheap = FakeModel(model="gpt-5-nano", answered_by="gpt-5-nano")
    reasons: list[str] = []

    def request(_: object) -> None:
        assert not passes()
        on_other_thread(lambda: [passes(config) for _ in range(20)])
        try:
            cheap.invoke("x")
        except BudgetExceeded as error:
            reasons.append(error.reason)

    RunnableLambda(request).invoke(1, config)

    assert reasons == ["after_refusal"]


def test_the_longest_unused_value_that_is_not_in_use_goes_first() -> None:
    """Values in use stay beyond the bound, and go once they are not."""
    in_use = {"a"}
    table = RequestTable[str, str](2, in_use.__contains__)

    for key in ("a", "b", "c"):
        table.add(key, key)
    assert [key in table for key in "abc"] == [True, False, True]
    assert table.get("c") == "c"
    in_use |= {"c"}
    table.add("d", "d")
    table.add("e", "e")
    assert [key in table for key in "acde"] == [True, True, False, True]
    in_use.clear()
    table.add("f", "f")

    assert len(table) == 2
    assert table.get("b") is None
