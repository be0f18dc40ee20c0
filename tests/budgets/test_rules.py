"""BudgetRule, windows and budgets.toml: what they mean, and what they refuse."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from eco2_callbacks import BudgetRule, Budgets, ConfigError, Eco2CallbackHandler, Webhook
from eco2_callbacks.budgets.money import from_nano, to_nano
from eco2_callbacks.budgets.rule_index import RuleIndex
from eco2_callbacks.budgets.rules import account_key
from eco2_callbacks.budgets.settings import read_budgets
from eco2_callbacks.budgets.windows import read_window

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


def at(text: str) -> datetime:
    return datetime.fromisoformat(text)


@pytest.mark.parametrize(
    ("window", "timezone", "now", "start", "end"),
    [
        ("hour", "UTC", "2026-03-05T10:59:59+00:00", "2026-03-05T10:00:00+00:00", "2026-03-05T11:00:00+00:00"),
        # India is half an hour beside the hours of UTC.
        ("hour", "Asia/Kolkata", "2026-03-05T10:10:00+00:00", "2026-03-05T09:30:00+00:00", "2026-03-05T10:30:00+00:00"),
        ("day", "UTC", "2026-03-05T00:00:00+00:00", "2026-03-05T00:00:00+00:00", "2026-03-06T00:00:00+00:00"),
        ("day", "Asia/Seoul", "2026-03-05T15:00:00+00:00", "2026-03-05T15:00:00+00:00", "2026-03-06T15:00:00+00:00"),
        # The day on which summer time begins has 23 hours.
        ("day", "Europe/Berlin", "2026-03-29T12:00:00+02:00", "2026-03-28T23:00:00+00:00", "2026-03-29T22:00:00+00:00"),
        ("week", "UTC", "2026-03-08T23:59:00+00:00", "2026-03-02T00:00:00+00:00", "2026-03-09T00:00:00+00:00"),
        ("month", "UTC", "2026-02-28T23:59:59+00:00", "2026-02-01T00:00:00+00:00", "2026-03-01T00:00:00+00:00"),
        ("month", "Asia/Seoul", "2026-11-30T15:00:00+00:00", "2026-11-30T15:00:00+00:00", "2026-12-31T15:00:00+00:00"),
    ],
    ids=["hour", "half-hour zone", "midnight", "Seoul", "summer time", "week", "month", "month in Seoul"],
)
def test_a_calendar_window_follows_its_time_zone(window: str, timezone: str, now: str, start: str, end: str) -> None:
    """A window begins and ends at the calendar's own hours."""
    period = read_window(window, timezone).period(at(now))

    assert (period.start, period.end) == (at(start), at(end))


def test_a_rolling_window_reaches_back_its_length_and_at_most_a_bucket_more() -> None:
    """What was spent 24 hours ago counts; what was spent 24 hours and a bucket ago does not."""
    window = read_window("rolling 24h")
    now = at("2026-03-05T12:00:00+00:00")

    period = window.period(now)

    assert window.period(at("2026-03-04T12:00:00+00:00")).bucket >= period.oldest
    assert window.period(at("2026-03-04T11:35:59+00:00")).bucket < period.oldest
    assert window.name == "rolling 1d"


@given(st.integers(1_577_836_800, 2_051_222_400).map(lambda seconds: datetime.fromtimestamp(seconds, UTC)))
@pytest.mark.parametrize("kind", ["hour", "day", "week", "month", "rolling 90m"])
@pytest.mark.parametrize("timezone", ["America/St_Johns", "Asia/Seoul", "Australia/Lord_Howe"])
def test_every_moment_lies_in_its_period_and_periods_follow_each_other(kind: str, timezone: str, now: datetime) -> None:
    """A period holds its moment, and the next one begins where it ends."""
    window = read_window(kind, timezone)

    period = window.period(now)
    assert period.start is not None
    assert period.end is not None
    following = window.period(period.end)

    assert period.start <= now < period.end
    assert following != period
    if not window.seconds:
        assert following.start == period.end


@pytest.mark.parametrize(
    ("rule", "attributes", "scope"),
    [
        ({}, {}, ""),
        ({"match": {"tenant_id": "acme"}}, {"tenant_id": "acme"}, ""),
        ({"match": {"tenant_id": "acme"}}, {"tenant_id": "other"}, None),
        ({"match": {"model": ["gpt-5*", "o3"]}}, {"model": "gpt-5.2"}, ""),
        ({"match": {"model": ["gpt-5*", "o3"]}}, {"model": "o3-mini"}, None),
        ({"match": {"team": "search", "tenant_id": "*"}}, {"team": "search", "tenant_id": "acme"}, ""),
        ({"match": {"team": "search", "tenant_id": "*"}}, {"team": "search"}, None),
        ({"match": {"beta": "true"}}, {"beta": True}, ""),
        ({"per": "user_id"}, {"user_id": "ann"}, "user_id=ann"),
        ({"per": "user_id"}, {"user_id": 7}, "user_id=7"),
        ({"per": "user_id"}, {}, None),
        ({"per": ("tenant_id", "agent_name")}, {"tenant_id": "a", "agent_name": "b"}, "tenant_id=a,agent_name=b"),
    ],
    ids=str,
)
def test_a_rule_matches_by_all_its_keys(rule: dict[str, Any], attributes: dict[str, Any], scope: str | None) -> None:
    """Every key must match; ``per`` gives each value a budget of its own."""
    made = BudgetRule(name="r", limit_usd=Decimal(1), **rule)

    assert made.scope_of(attributes.get) == scope


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("an\u200dn", "an\u200dn"),
        ("Team\u00a0A", "Team\u00a0A"),
        ("tab\tid", "tabid"),
        ("a\ud800b", "a?b"),
        ("a\0b", "ab"),
        ("x" * 1001, "x" * 1000),
        (7, "7"),
    ],
    ids=["joiner", "hard space", "tab", "surrogate", "NUL", "long", "number"],
)
def test_values_count_as_a_ledger_keeps_them(value: object, expected: str) -> None:
    """What no store could keep is left out, in rules and calls alike, so that a window is found again."""
    text = value if isinstance(value, str) else str(value)
    per = BudgetRule(name="r", limit_usd=Decimal(1), per="tenant_id")
    matched = BudgetRule(name="r", limit_usd=Decimal(1), match={"tenant_id": text})

    found = RuleIndex([matched]).matching({"tenant_id": value}.get)

    assert per.scope_of({"tenant_id": value}.get) == f"tenant_id={expected}"
    assert [rule.scope_of({"tenant_id": value}.get) for rule in found] == [""]
    assert [rule.scope_of({"tenant_id": expected}.get) for rule in found] == [""]


def test_the_key_of_an_account_fits_an_index() -> None:
    """A long scope is replaced by its digest; a short one can be read."""
    rule = BudgetRule(name="n" * 500, limit_usd=Decimal(1), per=("user_id", "team"))
    period = rule.span.period(at("2026-03-05T12:00:00+00:00"))
    scopes = [f"user_id={'x' * 1000},team={'y' * 1000}{end}" for end in ("a", "b")]

    keys = [account_key(rule, scope, period) for scope in (*scopes, "user_id=ann,team=a")]

    assert keys[2] == f"{'n' * 500}|user_id=ann,team=a|month|20260301T0000Z"
    assert len(set(keys)) == 3
    assert max(map(len, keys)) <= 600


BAD_RULES: list[tuple[dict[str, Any], str]] = [
    ({"window": "fortnight"}, "window is 'fortnight', wanted 'run'"),
    ({"window": "rolling 0h"}, "window is 'rolling 0h'"),
    ({"window": "rolling 500d"}, "from 1m to 400d"),
    ({"window": 5}, "window is 5"),
    ({"timezone": "Mars/Olympus"}, "timezone is 'Mars/Olympus', wanted a zone of the IANA database"),
    ({"timezone": "../etc"}, "timezone is"),
    ({"limit_usd": -1}, "limit_usd = -1, wanted dollars from 0"),
    ({"limit_usd": "many"}, "limit_usd = 'many'"),
    ({"limit_usd": True}, "limit_usd = True"),
    ({"limit_usd": float("nan")}, "limit_usd = nan"),
    ({"match": {"tenant_id": ""}}, "matches nothing"),
    ({"match": {"tenant_id": []}}, "matches nothing"),
    ({"match": {"tenant_id": ["acme", " "]}}, "matches nothing"),
    ({"match": {"tenant_id": 5}}, "wanted a text or a list of texts"),
    ({"match": "acme"}, "wanted a table"),
    ({"per": ["user_id", "user_id"]}, "a key twice"),
    ({"per": [""]}, "wanted keys"),
    ({"window": "run", "per": ["user_id"]}, "remove per"),
    ({"warn_at": [80]}, "wanted shares above 0 and up to 1"),
    ({"warn_at": [0]}, "wanted shares above 0 and up to 1"),
    ({"warn_at": "0.8"}, "wanted a list"),
    ({"action": "stop"}, "wanted 'refuse' or 'warn'"),
    ({"name": " "}, "wanted a text"),
    ({"name": "x" * 501}, "wanted at most 500 characters"),
    ({"name": "a\0b"}, "no NUL"),
    ({"name": "a\ud800b"}, "no half of a surrogate pair"),
    ({"per": ["a\0b"]}, "wanted keys"),
    ({"match": {"tenant_id": "\x07"}}, "matches nothing"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_RULES, ids=[ascii(changed)[:60] for changed, _ in BAD_RULES])
def test_a_rule_that_cannot_hold_is_refused_at_start(changed: dict[str, Any], message: str) -> None:
    """The error names what came and what was wanted."""
    with pytest.raises(ConfigError) as raised:
        BudgetRule(**{"name": "r", "limit_usd": 1, **changed})

    assert message in str(raised.value)


BAD_SETTINGS: list[tuple[dict[str, Any], str]] = [
    ({"rules": [BudgetRule(name="r", limit_usd=Decimal(1))] * 2}, "Two budgets have the name 'r'"),
    ({"rules": ["r"]}, "wanted objects of BudgetRule"),
    ({"unpriced_model": "maybe"}, "unpriced_model is 'maybe', wanted one of ['pass', 'refuse']"),
    ({"store_unreachable": True}, "wanted one of ['open', 'closed']"),
    ({"after_refusal": ""}, "wanted one of ['reserve', 'refuse']"),
    ({"wait_seconds": -1}, "wanted seconds"),
    ({"lease_seconds": 0.5}, "wanted 1 or more"),
    ({"slice_share": 0}, "wanted above 0"),
    ({"slice_share": 0.9}, "up to 0.5"),
    ({"assumed_output_tokens": -1}, "wanted a whole number"),
    ({"max_reservation_usd": "lots"}, "max_reservation_usd is 'lots'"),
    ({"store": ""}, "wanted an address"),
    ({"webhook": "http://x"}, "wanted a Webhook"),
]


@pytest.mark.parametrize(("changed", "message"), BAD_SETTINGS, ids=[str(list(changed)) for changed, _ in BAD_SETTINGS])
def test_settings_that_cannot_hold_are_refused_at_start(changed: dict[str, Any], message: str) -> None:
    """The error names what came and what was wanted."""
    with pytest.raises(ConfigError) as raised:
        Budgets(**changed)

    assert message in str(raised.value)


BAD_MAPPINGS: list[tuple[Any, str]] = [
    ({"acme": {"montly_usd": 1}}, "has the key 'montly_usd', wanted ['daily_usd', 'monthly_usd']"),
    ({"acme": {"monthly_usd": -5}}, "is -5, wanted dollars"),
    ({"acme": {"monthly_usd": True}}, "is True, wanted dollars"),
    ({"acme": 100}, "100, wanted a mapping"),
    ({"": {"monthly_usd": 1}}, "has the tenant ''"),
    (17, "wanted Budgets, rules, the path of a file, or a mapping"),
    ("no-such-file.toml", "name an existing file"),
]


@pytest.mark.parametrize(("budgets", "message"), BAD_MAPPINGS, ids=[str(budgets) for budgets, _ in BAD_MAPPINGS])
def test_a_handler_refuses_budgets_that_are_none(budgets: Any, message: str, registry: CollectorRegistry) -> None:
    """A mistake in budgets= is a ConfigError at start, not a budget that never holds."""
    with pytest.raises(ConfigError) as raised:
        Eco2CallbackHandler(registry=registry, budgets=budgets)

    assert message in str(raised.value)


def test_the_mapping_of_tenants_is_a_shorthand_for_two_rules() -> None:
    """Each tenant gets a rule for its month and one for its day; a sign of patterns in its name is taken literally."""
    budgets = read_budgets({"acme*": {"monthly_usd": 100.10}, "b": {"daily_usd": 5}})

    assert budgets is not None
    month, day = budgets.rules
    assert (month.name, month.window, month.limit_usd, month.action) == (
        "acme* month",
        "month",
        Decimal("100.1"),
        "refuse",
    )
    assert month.scope_of({"tenant_id": "acme*"}.get) == ""
    assert month.scope_of({"tenant_id": "acme2"}.get) is None
    assert (day.name, day.window, day.limit_usd) == ("b day", "day", Decimal(5))


FILE = """
store_env = "BUDGET_STORE"
unpriced_model = "refuse"
max_reservation_usd = 0.5

[webhook]
url = "https://hooks.example.com/eco2"
secret_env = "HOOK_SECRET"

[[budgets]]
name = "acme"
tenant_id = "acme"
limit_usd = 100.10
window = "month"
timezone = "Asia/Seoul"
warn_at = [0.5, 0.9]

[[budgets]]
name = "each user"
per = "user_id"
window = "rolling 24h"
limit_usd = "0.25"
action = "warn"
match = {team = "search"}
"""


def test_a_file_holds_all_that_python_can_say(tmp_path: Path) -> None:
    """``budgets.toml`` gives the same budgets as the classes; secrets come from the environment."""
    path = tmp_path / "budgets.toml"
    path.write_text(FILE)

    budgets = Budgets.from_toml(path, {"BUDGET_STORE": "redis://localhost/1", "HOOK_SECRET": SECRET})

    assert budgets == Budgets(
        store="redis://localhost/1",
        unpriced_model="refuse",
        max_reservation_usd=Decimal("0.5"),
        webhook=Webhook(url="https://hooks.example.com/eco2", secret=SECRET),
        rules=(
            BudgetRule(
                name="acme",
                match={"tenant_id": "acme"},
                limit_usd=Decimal("100.10"),
                timezone="Asia/Seoul",
                warn_at=(Decimal("0.5"), Decimal("0.9")),
            ),
            BudgetRule(
                name="each user",
                per=("user_id",),
                window="rolling 24h",
                limit_usd=Decimal("0.25"),
                action="warn",
                match={"team": "search"},
            ),
        ),
    )
    assert SECRET not in repr(budgets)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1", "['x'], known are"),
        ("unpriced_model = 'pass'", "no [[budgets]] table"),
        ("budgets = 5", "wanted [[budgets]] tables"),
        ("[[budgets]]\nname = 'a'", "lacks ['limit_usd']"),
        ("[[budgets]]\nname = 'a'\nlimit_usd = 1\nteam = 'x'", "['team'], known are"),
        ("[[budgets]]\nname = 'a'\nlimit_usd = 1\ntenant_id = 'x'\nmatch = {tenant_id = 'y'}", "twice"),
        ("store_env = 'NOT_SET'\n[[budgets]]\nname = 'a'\nlimit_usd = 1", "'NOT_SET', which is not set"),
        ("[webhook]\nurl = 'https://x.example'\n[[budgets]]\nname = 'a'\nlimit_usd = 1", "no secret"),
        ("[webhook]\nurl = 'ftp://x'\nsecret = ''\n[[budgets]]\nname = 'a'\nlimit_usd = 1", "wanted an http"),
        ("[[budgets]]\nname = 'a'\nlimit_usd = -0.01", "-0.01, wanted dollars"),
        ("[[budgets", "no valid TOML"),
    ],
    ids=["key", "no budget", "no tables", "no limit", "rule key", "twice", "env", "secret", "url", "negative", "toml"],
)
def test_a_file_with_a_mistake_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    """The error names the file, what it holds and what was wanted."""
    path = tmp_path / "budgets.toml"
    path.write_text(text)

    with pytest.raises(ConfigError) as raised:
        Budgets.from_toml(path, {})

    assert "budgets.toml" in str(raised.value)
    assert message in str(raised.value)


@given(st.decimals(min_value=0, max_value=10**8, places=9))
def test_dollars_survive_as_nanodollars(usd: Decimal) -> None:
    """Nine digits after the point are kept exactly."""
    assert from_nano(to_nano(usd)) == usd


def test_a_part_of_a_nanodollar_is_rounded_up() -> None:
    """No cost is counted as less than it is."""
    assert to_nano(Decimal("0.0000000001")) == 1
