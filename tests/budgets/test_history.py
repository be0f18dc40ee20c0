"""Windows are rebuilt from the ledger: a restart forgets nothing."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import redis
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetExceeded, BudgetRule, Budgets, Eco2CallbackHandler, LedgerSink
from eco2_callbacks.budgets import read_ledger_states, read_states
from eco2_callbacks.ledger import backend_of
from tests.support.fake_model import COST, FakeModel

START = datetime(2026, 3, 5, 12, tzinfo=UTC)
HOUR = timedelta(hours=1)
_FLUSH_SECONDS = 120.0


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., float | None]:
    """Return a function that runs one process: it makes calls and returns what the first budget shows as spent."""

    def run(
        budgets: list[BudgetRule], *metadata: dict[str, Any], at: datetime = START, model: FakeModel | None = None
    ) -> float | None:
        registry = CollectorRegistry()
        with Eco2CallbackHandler(
            registry=registry, ledger=tmp_path / "ledger.db", budgets=budgets, now=lambda: at
        ) as handler:
            for each in metadata:
                (model or FakeModel()).invoke("x", {"callbacks": handler.callbacks, "metadata": each})
            assert handler.flush(_FLUSH_SECONDS)
            return registry.get_sample_value("budget_spent_dollars", {"budget": "b", "window": budgets[0].window})

    return run


def rule(**changed: Any) -> BudgetRule:
    return BudgetRule(**{"name": "b", "limit_usd": Decimal(1), **changed})


@pytest.mark.parametrize(
    ("changed", "metadata"),
    [
        ({}, {}),
        ({"match": {"tenant_id": "acme"}}, {"tenant_id": "acme"}),
        ({"match": {"tenant_id": ["acme", "ac*"]}}, {"tenant_id": "acme"}),
        ({"match": {"model": "gpt-5.2"}}, {}),
        ({"match": {"team": "search"}}, {"team": "search"}),
        ({"match": {"team": "7", "beta": "true"}}, {"team": 7, "beta": True}),
        ({"match": {"status": "gold"}}, {"status": "gold"}),
    ],
    ids=["everything", "tenant", "pattern", "model", "metadata", "numbers", "a column's name"],
)
def test_a_restart_goes_on_from_what_the_window_has_cost(
    run: Any, changed: dict[str, Any], metadata: dict[str, Any]
) -> None:
    """Whatever a rule selects by, a new process knows what earlier ones spent; calls of others count nothing."""
    budgets = [rule(**changed)]
    run(budgets, metadata, metadata)
    run(budgets, {"tenant_id": "other", "team": "other", "status": "other"}, model=FakeModel(model="gpt-5.4"))

    found = run(budgets)

    expected = 2 * COST
    if changed:
        assert found == pytest.approx(float(expected), abs=1e-12)
    else:
        assert found > float(expected)


def test_each_scope_of_a_rule_is_rebuilt(run: Any) -> None:
    """With ``per`` every user has what the ledger holds of this user, and the next call is refused by it."""
    budgets = [rule(limit_usd=4 * COST, per=("user_id", "team"))]
    run(budgets, *[{"user_id": "ann", "team": "a"}] * 2, {"user_id": "bob", "team": "a"})

    with pytest.raises(BudgetExceeded) as raised:
        run(budgets, {"user_id": "ann", "team": "a"})

    assert (raised.value.scope, raised.value.spent_usd) == ("user_id=ann,team=a", 2 * COST)
    run(budgets, {"user_id": "bob", "team": "a"})


@pytest.mark.parametrize(
    ("window", "at", "counts"),
    [
        ("day", START + 11 * HOUR, True),
        ("day", START + 12 * HOUR, False),
        ("month", START + 48 * HOUR, True),
        ("rolling 3h", START + 2 * HOUR, True),
        ("rolling 3h", START + 4 * HOUR, False),
    ],
)
def test_only_calls_of_the_current_window_count(run: Any, window: str, at: datetime, counts: bool) -> None:
    """A window is rebuilt from its own calls, a rolling one bucket by bucket."""
    budgets = [rule(window=window)]
    run(budgets, {}, {})

    found = run(budgets, at=at)

    assert found == pytest.approx(float(2 * COST) if counts else 0, abs=1e-12)


@pytest.mark.parametrize("windows", [("rolling 30d", "rolling 1h"), ("rolling 1h", "rolling 30d")])
def test_windows_of_different_lengths_are_rebuilt_side_by_side(run: Any, tmp_path: Path, windows: Any) -> None:
    """Two rolling windows over the same calls both know what was spent, in either order, and the lower limit holds."""
    limits = {"rolling 30d": 1000 * COST, "rolling 1h": 4 * COST}
    budgets = [rule(name=window, limit_usd=limits[window], window=window) for window in windows]
    now = datetime.now(UTC)
    run(budgets, {}, {}, at=now)
    ledger = backend_of(tmp_path / "ledger.db")

    states = read_ledger_states(Budgets(rules=budgets), ledger)

    ledger.close()
    assert {state.budget: state.spent_usd for state in states} == dict.fromkeys(windows, 2 * COST)
    with pytest.raises(BudgetExceeded) as raised:
        run(budgets, {}, at=now)
    assert (raised.value.budget, raised.value.spent_usd) == ("rolling 1h", 2 * COST)


def test_a_rolling_window_goes_on_moving_after_a_restart(run: Any, tmp_path: Path) -> None:
    """What was rebuilt leaves a rolling window at its own time."""
    budgets = [rule(window="rolling 3h")]
    run(budgets, {})
    run(budgets, {}, at=START + 2 * HOUR)
    now = START + 2.5 * HOUR

    with Eco2CallbackHandler(
        registry=CollectorRegistry(), ledger=tmp_path / "ledger.db", budgets=budgets, now=lambda: now
    ) as handler:
        control = handler._budgets
        assert control is not None
        (before,) = control.figures()
        now = START + 4 * HOUR
        (after,) = control.figures()

    assert (before.spent_usd, after.spent_usd) == (2 * COST, COST)


def test_a_store_that_lost_its_data_is_restored_for_every_new_scope(
    store_url: str, tmp_path: Path, postgres_server: Any
) -> None:
    """A shared account that its store does not know takes what the ledger holds, once, whoever uses it first."""
    ledger = tmp_path / "ledger.db"
    before = [rule(per=("user_id",)), rule(name="all")]
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=before) as handler:
        for user in ("ann", "ann", "bob"):
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})
    budgets = Budgets(rules=before, store=store_url, wait_seconds=20)

    for user in ("ann", "bob", "ann"):
        with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=budgets) as handler:
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"user_id": user}})

    found = {(state.budget, state.scope): state.spent_usd for state in read_states(budgets)}
    assert found == {("b", "user_id=ann"): 4 * COST, ("b", "user_id=bob"): 2 * COST, ("all", ""): 6 * COST}


def test_a_redis_that_is_emptied_while_processes_run_is_restored_by_the_next_one(
    redis_server: Any, tmp_path: Path
) -> None:
    """After a loss of the store a new process brings back what the ledger holds."""
    client = redis.Redis.from_url(redis_server.url, protocol=2)
    client.flushall()
    ledger = tmp_path / "ledger.db"
    budgets = Budgets(rules=[rule()], store=redis_server.url, wait_seconds=20)
    for _ in range(2):
        with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=budgets) as handler:
            FakeModel().invoke("x", {"callbacks": handler.callbacks})
        assert read_states(budgets)[0].spent_usd > 0
    client.flushall()

    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=ledger, budgets=budgets) as handler:
        FakeModel().invoke("x", {"callbacks": handler.callbacks})

    assert read_states(budgets)[0].spent_usd == 3 * COST


def test_a_ledger_that_cannot_be_read_is_logged_and_counted(
    tmp_path: Path, registry: CollectorRegistry, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The handler starts, and its windows begin with it."""
    with LedgerSink(tmp_path / "ledger.db") as sink:

        def fail(backend: object, query: object) -> None:
            raise OSError("no route")

        monkeypatch.setattr("eco2_callbacks.ledger.spent.read_spent", fail)
        with (
            caplog.at_level(logging.ERROR),
            Eco2CallbackHandler(registry=registry, ledger=sink, budgets=[rule()]) as handler,
        ):
            FakeModel().invoke("x", {"callbacks": handler.callbacks})
            assert handler.flush(_FLUSH_SECONDS)

    assert "The ledger could not be read for the budgets (no route)" in caplog.text
    assert registry.get_sample_value("eco2_callbacks_errors_total", {"callback": "budget_history"}) == 1


def test_earlier_calls_are_not_added_twice(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """``restore_budgets`` adds nothing to what the handler has read from a ledger, and says so."""
    with Eco2CallbackHandler(registry=CollectorRegistry(), ledger=tmp_path / "l.db", budgets=[rule()]) as handler:
        handler.restore_budgets([])

    assert "restore_budgets() adds nothing" in caplog.text


def test_the_environment_names_the_budgets(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, registry: CollectorRegistry
) -> None:
    """A handler without ``budgets=`` reads ECO2_BUDGETS; an empty mapping means none."""
    path = tmp_path / "budgets.toml"
    path.write_text('[[budgets]]\nname = "b"\nlimit_usd = 0.000001\n')
    monkeypatch.setenv("ECO2_BUDGETS", str(path))

    with Eco2CallbackHandler(registry=registry) as handler, pytest.raises(BudgetExceeded):
        FakeModel().invoke("x", {"callbacks": handler.callbacks})
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets={}) as handler:
        assert handler.budget_gate is None
