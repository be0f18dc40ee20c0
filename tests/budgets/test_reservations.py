"""Reservations in one process: what is refused, what is settled, and what is released."""

from __future__ import annotations

import asyncio
import os
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from langchain_core.messages import HumanMessage
from langchain_core.runnables import RunnableLambda
from prometheus_client import CollectorRegistry

from eco2_callbacks import (
    BudgetEvent,
    BudgetExceeded,
    BudgetRule,
    Budgets,
    ConfigError,
    Eco2CallbackHandler,
    run_config,
)
from tests.support.fake_model import COST, USAGE, FakeModel
from tests.support.record_sink import Records, exposed

START = datetime(2026, 3, 5, 12, tzinfo=UTC)
# What a call reserves: 400 bytes of prompt count as 400 tokens, and 16 for the message, at 1.75 USD per million;
# 100 tokens of output at 14 USD per million.
PROMPT = "x" * 400
WORST = Decimal("0.002128")
MODEL = FakeModel(usage={"input_tokens": 416, "output_tokens": 100, "total_tokens": 516})


class Clock:
    """A wall clock that the test moves."""

    def __init__(self) -> None:
        self.now = START

    def __call__(self) -> datetime:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def make(registry: CollectorRegistry, records: Records, clock: Clock) -> Iterator[Callable[..., Eco2CallbackHandler]]:
    handlers = []

    def make(*rules: BudgetRule, **settings: Any) -> Eco2CallbackHandler:
        budgets = Budgets(rules=rules, **{"assumed_output_tokens": 100, **settings})
        handlers.append(Eco2CallbackHandler(registry=registry, sinks=[records], budgets=budgets, now=clock))
        return handlers[-1]

    yield make
    for handler in handlers:
        handler.close()


def rule(limit_usd: Decimal | str = "1", **changed: Any) -> BudgetRule:
    return BudgetRule(**{"name": "r", "limit_usd": Decimal(limit_usd), "window": "day", **changed})


def ask(handler: Eco2CallbackHandler, model: FakeModel = MODEL, **metadata: Any) -> None:
    model.invoke(PROMPT, {"callbacks": handler.callbacks, "metadata": metadata})


def events(records: Records) -> list[tuple[str, Any]]:
    return [(event.event, event.level) for event in records.of(BudgetEvent)]


def test_calls_pass_as_long_as_their_worst_case_fits(make: Any, records: Records, registry: CollectorRegistry) -> None:
    """Of a limit of ten calls and a bit, ten are sent and the eleventh is refused."""
    handler = make(rule(10 * WORST + Decimal("0.0001")))

    for _ in range(10):
        ask(handler)
    with pytest.raises(BudgetExceeded) as raised:
        ask(handler)

    assert len(records.calls) == 10
    error = raised.value
    assert (error.budget, error.scope, error.reason) == ("r", "", "limit")
    assert (error.spent_usd, error.limit_usd) == (10 * WORST, 10 * WORST + Decimal("0.0001"))
    assert error.until == datetime(2026, 3, 6, tzinfo=UTC)
    assert exposed(registry, "budget_refused_calls_total") == 1
    assert exposed(registry, "budget_spent_dollars") == pytest.approx(float(10 * WORST))
    assert exposed(registry, "eco2_callbacks_open_runs") == 0
    assert exposed(registry, "llm_calls_total") == 10


def test_the_error_names_budget_spent_limit_and_end_and_can_be_pickled(make: Any) -> None:
    """A worker that hands its errors on loses nothing."""
    handler = make(rule("0.001", per=("user_id",)))

    with pytest.raises(BudgetExceeded) as raised:
        ask(handler, user_id="ann")

    copied = pickle.loads(pickle.dumps(raised.value))
    assert str(copied) == str(raised.value)
    for part in ("'r'", "user_id=ann", "0.001 USD", "2026-03-06T00:00:00+00:00", "0.0021"):
        assert part in str(copied)


def test_the_real_cost_replaces_the_reservation(make: Any, registry: CollectorRegistry) -> None:
    """A call that costs less than its worst case leaves the rest to others; one that costs more is counted whole."""
    handler = make(rule())

    ask(handler, FakeModel(usage={"input_tokens": 10, "output_tokens": 1, "total_tokens": 11}))
    ask(handler, FakeModel(usage=USAGE))

    # 10 x 1.75 + 1 x 14 USD per million tokens, and the other call's cost
    assert exposed(registry, "budget_spent_dollars") == pytest.approx(0.0000315 + float(COST))


def test_a_call_dearer_than_its_reservation_is_known_to_the_next(registry: CollectorRegistry) -> None:
    """No call is sent on the room that an earlier one has used up, also where its record may wait for others."""
    dear = FakeModel(usage={"input_tokens": 24_000, "output_tokens": 100, "total_tokens": 24_100})
    budgets = Budgets(rules=[rule("0.10", warn_at=())], assumed_output_tokens=100)
    with Eco2CallbackHandler(registry=registry, budgets=budgets) as handler:
        # 24,000 x 1.75 + 100 x 14 USD per million tokens: the third call reaches 0.1302.
        for _ in range(3):
            ask(handler, dear)
        with pytest.raises(BudgetExceeded):
            ask(handler, dear)


def test_a_failed_call_releases_its_reservation(make: Any, registry: CollectorRegistry) -> None:
    """A call that failed before any answer leaves nothing reserved."""
    handler = make(rule(WORST + Decimal("0.0001")))

    for _ in range(3):
        with pytest.raises(RuntimeError, match="failed"):
            ask(handler, FakeModel(fails=[RuntimeError("failed")]))

    assert exposed(registry, "budget_spent_dollars") == 0


async def test_a_cancelled_call_releases_its_reservation(make: Any, registry: CollectorRegistry) -> None:
    """A call that was cancelled while it waited is settled with what it cost, as far as known."""
    handler = make(rule())
    slow = FakeModel(pause_seconds=3600)
    task = asyncio.create_task(slow.ainvoke(PROMPT, {"callbacks": handler.callbacks}))
    while exposed(registry, "budget_spent_dollars") == 0:
        await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    while exposed(registry, "eco2_callbacks_open_runs"):
        await asyncio.sleep(0)

    # The prompt was sent: its input is billed by estimate.
    assert exposed(registry, "budget_spent_dollars") == pytest.approx(exposed(registry, "llm_cost_dollars_total"))


def test_a_hundred_callers_at_once_do_not_exceed_the_limit(make: Any, records: Records) -> None:
    """With check-then-add they would: each would see the same room."""
    handler = make(rule(20 * WORST + Decimal("0.0001")))

    def call(_: int) -> bool:
        try:
            ask(handler)
        except BudgetExceeded:
            return False
        return True

    with ThreadPoolExecutor(100) as pool:
        passed = list(pool.map(call, range(400)))

    assert sum(passed) == 20
    spent = sum(record.cost.total_usd for record in records.calls if record.cost)
    assert spent == 20 * WORST


async def test_a_hundred_tasks_at_once_do_not_exceed_the_limit(make: Any, records: Records) -> None:
    """The same on one event loop, while every call is open."""
    handler = make(rule(20 * WORST + Decimal("0.0001")))
    model = FakeModel(usage=MODEL.usage, pause_seconds=0.05)

    answers = await asyncio.gather(
        *(model.ainvoke(PROMPT, {"callbacks": handler.callbacks}) for _ in range(100)), return_exceptions=True
    )

    assert sum(not isinstance(answer, BudgetExceeded) for answer in answers) == 20
    assert all(not isinstance(answer, BaseException) or isinstance(answer, BudgetExceeded) for answer in answers)


def test_several_rules_hold_at_once(make: Any) -> None:
    """The tightest budget refuses, and a refused call reserves in none."""
    handler = make(
        rule("1", name="all"),
        rule(WORST + Decimal("0.0001"), name="each user", per=("user_id",)),
        rule("0", name="no images", match={"intent": "draw"}),
    )

    ask(handler, user_id="ann")
    with pytest.raises(BudgetExceeded, match="each user"):
        ask(handler, user_id="ann")
    with pytest.raises(BudgetExceeded, match="no images"):
        ask(handler, user_id="bob", intent="draw")
    ask(handler, user_id="bob")


def test_a_rule_that_only_warns_refuses_nothing(make: Any, records: Records, registry: CollectorRegistry) -> None:
    """Its events tell that the limit is exceeded; the calls go on."""
    handler = make(rule("0.003", action="warn", warn_at=(Decimal("0.5"),)))

    for _ in range(3):
        ask(handler)

    assert events(records) == [("warn", Decimal("0.5")), ("exceeded", None)]
    assert exposed(registry, "budget_refused_calls_total") == 0


def test_a_new_window_begins_at_zero_and_counters_go_on(
    make: Any, clock: Clock, records: Records, registry: CollectorRegistry
) -> None:
    """A reset frees the budget, tells so once, and takes nothing from a counter."""
    handler = make(rule(WORST + Decimal("0.0001"), warn_at=()))
    ask(handler)
    with pytest.raises(BudgetExceeded):
        ask(handler)

    clock.now += timedelta(days=1)
    assert exposed(registry, "budget_spent_dollars") == 0
    ask(handler)

    assert events(records) == [("exceeded", None), ("reset", None)]
    assert exposed(registry, "budget_refused_calls_total") == 1
    assert exposed(registry, "budget_spent_dollars") == pytest.approx(float(WORST))
    assert exposed(registry, "llm_cost_dollars_total") == pytest.approx(2 * float(WORST))


def test_a_rolling_window_frees_what_is_old(make: Any, clock: Clock, records: Records) -> None:
    """What was spent an hour ago no longer counts, and the budget tells that it began anew."""
    handler = make(rule(2 * WORST + Decimal("0.0001"), window="rolling 1h", warn_at=(Decimal("0.9"),)))
    ask(handler)
    clock.now += timedelta(minutes=40)
    ask(handler)
    with pytest.raises(BudgetExceeded):
        ask(handler)

    clock.now += timedelta(minutes=30)
    ask(handler)

    assert [event for event, _ in events(records)] == ["warn", "exceeded", "reset", "warn"]


def test_a_call_settles_in_the_window_in_which_it_began(
    make: Any, clock: Clock, registry: CollectorRegistry, records: Records
) -> None:
    """A call that crosses midnight is paid from the old day, as the ledger counts it."""
    handler = make(rule())

    class Midnight(FakeModel):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            clock.now += timedelta(days=1)
            return super()._generate(*arguments, **options)

    Midnight().invoke(PROMPT, {"callbacks": handler.callbacks})

    assert records.call.cost is not None
    assert exposed(registry, "budget_spent_dollars") == 0


def test_a_run_has_a_limit_of_its_own(handler: Eco2CallbackHandler) -> None:
    """``run_config(max_usd=)`` limits each request for itself, also without any budgets."""
    model = FakeModel(usage=MODEL.usage)
    refusals: list[BudgetExceeded] = []

    def loop(_: str, config: Any) -> int:
        for number in range(100):
            try:
                model.invoke([HumanMessage(PROMPT)], config)
            except BudgetExceeded as error:
                refusals.append(error)
                return number
        return 100

    runs = [RunnableLambda(loop).invoke("x", run_config(handler, job_id=job, max_usd=0.02)) for job in range(2)]

    # 512 tokens are assumed for an answer: 0.007896 USD are reserved, 0.002128 spent. Seven times fit.
    assert runs == [6, 6]
    assert [error.until for error in refusals] == [None, None]
    assert "in this run" in str(refusals[0])


def test_a_limit_of_a_run_is_checked_at_once() -> None:
    """A limit that is none is a ConfigError."""
    handler = Eco2CallbackHandler(registry=CollectorRegistry())

    with pytest.raises(ConfigError, match="max_usd is -1, wanted dollars"):
        run_config(handler, job_id=1, max_usd=-1)


def test_max_tokens_bounds_the_reservation(make: Any) -> None:
    """The worst case of a call is its input and the output that the request allows, for each choice."""
    handler = make(rule("0.05"))

    ask(handler, FakeModel(usage=MODEL.usage))
    for options in ({"max_tokens": 4000}, {"max_completion_tokens": 1000, "n": 4}, {"max_output_tokens": 4000}):
        with pytest.raises(BudgetExceeded):
            FakeModel().bind(**options).invoke(PROMPT, {"callbacks": handler.callbacks})


def test_a_setting_caps_what_is_reserved(make: Any) -> None:
    """A call that allows far more output than it will use can still pass."""
    handler = make(rule("0.05"), max_reservation_usd=Decimal("0.01"))

    FakeModel().bind(max_tokens=100_000).invoke(PROMPT, {"callbacks": handler.callbacks})


@pytest.mark.parametrize("policy", ["pass", "refuse"])
def test_the_policy_decides_on_a_model_without_a_price(policy: str, make: Any, registry: CollectorRegistry) -> None:
    """By default it passes and counts nothing; ``refuse`` stops it."""
    handler = make(rule(), unpriced_model=policy)
    unknown = FakeModel(model="no-such-model", answered_by=None)

    if policy == "pass":
        ask(handler, unknown)
    else:
        with pytest.raises(BudgetExceeded, match="the price of the model is unknown") as raised:
            ask(handler, unknown)
        assert raised.value.reason == "unpriced_model"

    assert exposed(registry, "budget_spent_dollars") == 0


@pytest.mark.parametrize("policy", ["reserve", "refuse"])
def test_the_policy_decides_on_calls_after_a_refusal(policy: str, make: Any, records: Records) -> None:
    """A cheaper fallback has its own reservation, or nothing more is sent in the request."""
    handler = make(rule("0.001"), after_refusal=policy)
    dear = FakeModel()
    cheap = FakeModel(model="gpt-5-nano", answered_by="gpt-5-nano")
    chain = RunnableLambda(lambda text: text) | dear.with_fallbacks([cheap], exceptions_to_handle=(BudgetExceeded,))

    if policy == "reserve":
        chain.invoke(PROMPT, {"callbacks": handler.callbacks})
        assert records.call.model == "gpt-5-nano"
    else:
        with pytest.raises(BudgetExceeded):
            chain.invoke(PROMPT, {"callbacks": handler.callbacks})
        assert records.calls == []


def test_a_retry_never_passes_a_stop(make: Any, records: Records, registry: CollectorRegistry) -> None:
    """Every attempt is asked about, and none is sent."""
    handler = make(rule("0.001"))
    retrying = FakeModel().with_retry(stop_after_attempt=3, wait_exponential_jitter=False)

    with pytest.raises(BudgetExceeded):
        retrying.invoke(PROMPT, {"callbacks": handler.callbacks})

    assert records.calls == []
    assert exposed(registry, "budget_refused_calls_total") == 3


def test_each_attempt_of_a_retry_is_reserved_and_settled(make: Any, registry: CollectorRegistry) -> None:
    """A failed attempt leaves nothing reserved, the last one is paid."""
    handler = make(rule())
    model = FakeModel(usage=MODEL.usage, fails=[RuntimeError("a"), RuntimeError("b")])

    model.with_retry(stop_after_attempt=3, wait_exponential_jitter=False).invoke(
        PROMPT, {"callbacks": handler.callbacks}
    )

    assert exposed(registry, "budget_spent_dollars") == pytest.approx(float(WORST))


def test_a_cached_answer_costs_nothing(make: Any, registry: CollectorRegistry) -> None:
    """An answer from LangChain's LLM cache releases the reservation."""
    from langchain_core.caches import InMemoryCache

    handler = make(rule())
    model = FakeModel(usage=MODEL.usage, cache=InMemoryCache())

    for _ in range(2):
        ask(handler, model)

    assert exposed(registry, "budget_spent_dollars") == pytest.approx(float(WORST))


def test_a_record_that_the_application_makes_counts(make: Any, registry: CollectorRegistry) -> None:
    """``emit()`` spends from the budgets like a call that LangChain reports."""
    handler, other = make(rule()), Records()
    FakeModel().invoke("x", {"callbacks": [Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[other])]})

    handler.emit(other.call)

    assert exposed(registry, "budget_spent_dollars") == pytest.approx(float(COST))


def test_a_forked_child_starts_without_open_calls(make: Any, registry: CollectorRegistry) -> None:
    """What the parent has reserved stays the parent's; what was spent before the fork is known to both."""
    handler = make(rule())
    ask(handler)
    inside: list[int] = []

    class Forking(FakeModel):
        def _generate(self, *arguments: Any, **options: Any) -> Any:
            child = os.fork()
            if child == 0:
                spent = exposed(registry, "budget_spent_dollars")
                os._exit(0 if spent == pytest.approx(float(WORST)) else 1)
            inside.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
            return super()._generate(*arguments, **options)

    Forking(usage=MODEL.usage).invoke(PROMPT, {"callbacks": handler.callbacks})

    assert inside == [0]
    assert exposed(registry, "budget_spent_dollars") == pytest.approx(2 * float(WORST))


def test_a_forked_child_of_a_request_has_the_room_that_its_parent_reserved(make: Any) -> None:
    """The limit of a request too forgets the open calls of the parent, and keeps what was spent."""
    handler = make()
    inside: list[int] = []

    def request(text: str, config: Any) -> None:
        class Forking(FakeModel):
            def _generate(self, *arguments: Any, **options: Any) -> Any:
                child = os.fork()
                if child == 0:
                    passed = 0
                    with suppress(BudgetExceeded):
                        while True:
                            MODEL.invoke(PROMPT, config)
                            passed += 1
                    os._exit(passed)
                inside.append(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
                return super()._generate(*arguments, **options)

        MODEL.invoke(text, config)
        Forking(usage=MODEL.usage).invoke(text, config)

    # Two calls fit: in the child the first one, and one of its own.
    RunnableLambda(request).invoke(PROMPT, run_config(handler, job_id=1, max_usd=float(2 * WORST) + 0.0001))

    assert inside == [1]


def test_budgets_without_a_store_say_that_they_begin_with_the_process(
    make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """A restart would forget what was spent; the log says so once."""
    make(rule())
    make(rule())

    assert sum("begin at the start of this process" in message for message in caplog.messages) == 1
