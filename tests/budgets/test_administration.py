"""State, raises and the restoration of budgets, on real Redis and PostgreSQL and in memory."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, BudgetStoreError, ConfigError, Eco2CallbackHandler
from eco2_callbacks.budgets import grant_raise, read_states
from tests.support.fake_model import COST, FakeModel
from tests.support.programs import free_port
from tests.support.record_sink import Records

RULES = (
    BudgetRule(name="all", limit_usd=Decimal(1)),
    BudgetRule(name="each", limit_usd=Decimal("0.5"), window="day", per=("user_id",)),
    BudgetRule(name="run", limit_usd=Decimal(1), window="run"),
)


def spend(handler: Eco2CallbackHandler, *users: str) -> None:
    for user in users:
        FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})


def test_the_state_of_a_store_shows_every_scope(store_url: str) -> None:
    """What is spent, per rule and scope, the highest spender first; an unused rule shows 0."""
    budgets = Budgets(rules=RULES, store=store_url, wait_seconds=20)
    assert [(state.budget, state.spent_usd) for state in read_states(budgets)] == [("all", 0)]
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets) as handler:
        spend(handler, "ann", "bob", "bob")

    states = read_states(budgets)

    assert [(state.budget, state.scope, state.spent_usd) for state in states] == [
        ("all", "", 3 * COST),
        ("each", "user_id=bob", 2 * COST),
        ("each", "user_id=ann", COST),
    ]
    assert states[0].remaining_usd == 1 - 3 * COST


def test_the_state_of_a_rolling_window_that_is_over_is_nothing(store_url: str) -> None:
    """What was spent leaves the report with its window, although no process has used the budget since."""
    rules = [
        BudgetRule(name=name, limit_usd=Decimal(1), window="rolling 1h", per=per)
        for name, per in (("all", ()), ("each", "user_id"))
    ]
    budgets = Budgets(rules=rules, store=store_url, wait_seconds=20)
    now = datetime(2036, 3, 5, 12, tzinfo=UTC)
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets, now=lambda: now) as handler:
        spend(handler, "ann")

    states = [read_states(budgets, now=now + timedelta(minutes=minutes)) for minutes in (59, 62)]

    assert [[(state.scope, state.spent_usd) for state in each] for each in states] == [
        [("", COST), ("user_id=ann", COST)],
        [("", 0)],
    ]


def test_a_raise_ends_by_itself(store_url: str) -> None:
    """A raise adds to the limit until its time is over."""
    budgets = Budgets(rules=RULES, store=store_url)

    until = grant_raise(budgets, "all", "0.25", timedelta(hours=1))
    grant_raise(budgets, "all", "9", timedelta(hours=1), now=datetime.now(UTC) - timedelta(hours=2))

    assert until > datetime.now(UTC)
    assert read_states(budgets)[0].limit_usd == Decimal("1.25")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (lambda budgets: grant_raise(budgets, "al", "1", timedelta(hours=1)), "has the name 'al'; the file has"),
        (lambda budgets: grant_raise(budgets, "run", "1", timedelta(hours=1)), "has the name 'run'"),
        (lambda budgets: grant_raise(budgets, "all", "0", timedelta(hours=1)), "wanted more than 0 USD"),
        (lambda budgets: grant_raise(budgets, "all", "1", timedelta(0)), "at most 366 days"),
        (lambda budgets: grant_raise(budgets, "all", "-1", timedelta(1)), "The raise is '-1', wanted dollars"),
        (lambda budgets: grant_raise(budgets, "all", "1", timedelta(1)), "have no store"),
        (read_states, "have no store"),
    ],
    ids=["name", "run", "nothing", "no time", "negative", "raise", "state"],
)
def test_what_cannot_be_done_says_why(act: Callable[[Budgets], object], message: str) -> None:
    """The error names what came and what to do."""
    with pytest.raises(ConfigError) as raised:
        act(Budgets(rules=RULES))

    assert message in str(raised.value)


def test_a_store_that_is_away_is_an_error_of_its_own() -> None:
    """A report on budgets fails with one error, whatever the store."""
    with pytest.raises(BudgetStoreError, match="cannot be used"):
        read_states(Budgets(rules=RULES, store=f"redis://127.0.0.1:{free_port()}/0"))


def calls_of_yesterday_and_today() -> list[object]:
    """Return the calls of an earlier process: three of today, one of an earlier year."""
    records = Records()
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records]) as handler:
        spend(handler, "ann", "ann", "bob")
    long_ago = datetime(2020, 1, 1, tzinfo=UTC)
    with Eco2CallbackHandler(registry=CollectorRegistry(), sinks=[records], now=lambda: long_ago) as handler:
        spend(handler, "ann")
    return list(records.calls)


def test_windows_are_restored_from_earlier_calls() -> None:
    """After a restart a budget goes on from what its window has cost; older calls do not count."""
    rule = BudgetRule(name="each", limit_usd=3 * COST, window="month", per=("user_id",))
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=[rule]) as handler:
        handler.restore_budgets(calls_of_yesterday_and_today())  # type: ignore[arg-type]

        # 2 of 3 calls are spent for ann: what the next one could cost does not fit.
        with pytest.raises(BudgetExceeded) as raised:
            spend(handler, "ann")
        since = handler.budgets_since()

    assert raised.value.spent_usd == 2 * COST
    assert since is not None
    assert since.day == 1


def test_a_store_takes_only_what_it_has_lost(store_url: str) -> None:
    """A store that was emptied is restored; one that knows the budget keeps its own figure."""
    budgets = Budgets(rules=RULES[:1], store=store_url, wait_seconds=20)
    for _ in range(2):
        with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets) as handler:
            handler.restore_budgets(calls_of_yesterday_and_today())  # type: ignore[arg-type]
            spend(handler, "cy")

    assert read_states(budgets)[0].spent_usd == 5 * COST
