"""``eco2 budget``: what is spent of each budget, and a temporary raise."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler
from tests.cli.conftest import Run
from tests.support.fake_model import COST, FakeModel
from tests.support.redis_process import RedisProcess, redis_process

_RULES = """
[[budgets]]
name = "all"
limit_usd = 0.0126

[[budgets]]
name = "each team"
per = "team"
window = "rolling 24h"
limit_usd = 1
"""


@pytest.fixture(scope="module")
def redis(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisProcess]:
    with redis_process(tmp_path_factory.mktemp("redis")) as server:
        yield server


def spend(budgets: Path, ledger: Path, *teams: str) -> None:
    with Eco2CallbackHandler(registry=CollectorRegistry(), budgets=budgets, ledger=ledger) as handler:
        for team in teams:
            FakeModel().invoke("x", {"callbacks": handler.callbacks, "metadata": {"team": team}})


@pytest.fixture
def budgets(tmp_path: Path) -> Path:
    path = tmp_path / "budgets.toml"
    path.write_text(_RULES)
    return path


def test_the_state_comes_from_the_ledger_without_a_store(run: Run, budgets: Path, tmp_path: Path) -> None:
    """Each budget and scope has its dollars, its share and its bar."""
    ledger = tmp_path / "ledger.db"
    spend(budgets, ledger, "search", "search")

    status, out, _ = run("budget", "--budgets", budgets, "--ledger", ledger)
    _, as_json, _ = run("budget", "--budgets", budgets, "--ledger", ledger, "--json")

    assert status == 0
    lines = out.splitlines()
    assert "50%" in lines[1]
    assert "0.006300" in lines[1]
    assert "█" in lines[1]
    assert "team=search" in lines[2]
    assert "From the ledger" in lines[3]
    found = json.loads(as_json, parse_float=Decimal)
    assert found["source"] == "ledger"
    assert [(one["budget"], one["scope"], one["spent_usd"], one["level"]) for one in found["budgets"]] == [
        ("all", "", 2 * COST, "ok"),
        ("each team", "team=search", 2 * COST, "ok"),
    ]


def test_a_raise_is_granted_for_a_time(
    run: Run, budgets: Path, tmp_path: Path, redis: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The state of a store shows the raised limit; the environment names file and store."""
    monkeypatch.setenv("ECO2_BUDGETS", str(budgets))
    monkeypatch.setenv("BUDGET_STORE", redis.url)
    budgets.write_text('store_env = "BUDGET_STORE"\n' + _RULES)

    before = datetime.now(UTC)
    status, out, _ = run("budget", "raise", "all", "0.5", "--for", "8h", "--json")
    until = datetime.fromisoformat(json.loads(out)["until"])
    _, as_json, _ = run("budget", "--json")

    assert status == 0
    assert before + timedelta(hours=8) <= until <= datetime.now(UTC) + timedelta(hours=8)
    found = json.loads(as_json, parse_float=Decimal)
    assert (found["source"], found["budgets"][0]["limit_usd"]) == ("store", Decimal("0.5126"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("budget",), "No budgets are named"),
        (("budget", "--budgets", "no.toml"), "name an existing file"),
        (("budget", "--budgets", "{budgets}"), "name the ledger with --ledger"),
        (("budget", "raise", "all", "1", "--for", "8h", "--budgets", "{budgets}"), "have no store"),
        (("budget", "raise", "all", "1", "--for", "soon", "--budgets", "{budgets}"), "wanted hours, days or weeks"),
        (("budget", "raise", "al", "1", "--for", "8h", "--budgets", "{budgets}"), "has the name 'al'"),
    ],
    ids=["no file named", "no file", "no source", "no store", "no duration", "no such budget"],
)
def test_what_cannot_be_shown_says_why(
    run: Run, budgets: Path, clean_environment: None, arguments: tuple[str, ...], message: str
) -> None:
    """The error says what to do, and the status is that of a setting that cannot be used."""
    status, _, error = run(*(argument.format(budgets=budgets) for argument in arguments))

    assert status == 2
    assert message in error
