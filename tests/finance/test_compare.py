"""``eco2 compare``: variants with confidence intervals, on every backend."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from scipy import stats

from eco2_callbacks import Cost, LedgerSink, PriceBook, TokenUsage
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, BOOK, call, one_request

_PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")


def _sample(version: str, number: int, tokens: int, *, errors: int = 0, seed: int = 1) -> list[Any]:
    """Return calls whose input varies around a mean."""
    draw = random.Random(seed)
    calls = []
    for place in range(number):
        usage = TokenUsage(input_tokens=tokens + draw.randint(-50, 50), output_tokens=100)
        quote = BOOK.quote(usage, provider="openai", model="gpt-5.2", at=AT)
        calls.append(
            call(
                prompt_version=version,
                usage=usage,
                cost=quote.cost,
                rates=quote.rates,
                status="error" if place < errors else "success",
                duration_seconds=1 + draw.random(),
                started_at=AT + timedelta(seconds=place),
            )
        )
    return calls


def _compare(run: Run, url: str | Path, *arguments: object) -> dict[str, Any]:
    status, out, err = run("compare", *arguments, "--json", "--ledger", url, *_PERIOD)
    assert status == 0, err
    found = json.loads(out)
    return {variant["value"]: variant for variant in found["variants"]} | {"": found}


def test_variants_are_compared_with_the_baseline(run: Run, ledger_url: str) -> None:
    """Means, intervals and differences are those that scipy gives for the sample itself."""
    old, new, thin = _sample("v1", 60, 1000), _sample("v2", 50, 1500, errors=20, seed=2), _sample("v3", 29, 1000)
    with LedgerSink(ledger_url) as sink:
        for each in [*old, *new, *thin]:
            sink.emit(each)
        sink.flush(60)

    found = _compare(run, ledger_url, "prompt_version")

    v1, v2, v3 = (found[version]["figures"] for version in ("v1", "v2", "v3"))
    tokens = [[each.usage.input_tokens + each.usage.output_tokens for each in calls] for calls in (old, new)]
    interval = stats.t.interval(0.95, 59, loc=sum(tokens[0]) / 60, scale=stats.sem(tokens[0]))
    assert (v1["tokens"]["low"], v1["tokens"]["high"]) == pytest.approx(interval)
    welch = stats.ttest_ind(tokens[1], tokens[0], equal_var=False).confidence_interval(0.95)
    assert (v2["tokens"]["difference_low"], v2["tokens"]["difference_high"]) == pytest.approx(tuple(welch))
    dollars = [float(each.cost.total_usd) for each in new]
    assert v2["dollars"]["value"] == pytest.approx(sum(dollars) / 50)
    assert (v2["tokens"]["verdict"], v2["dollars"]["verdict"], v2["errors"]["verdict"]) == ("higher",) * 3
    assert v2["errors"]["value"] == pytest.approx(0.4)
    wilson = stats.binomtest(20, 50).proportion_ci(0.95, method="wilson")
    assert (v2["errors"]["low"], v2["errors"]["high"]) == pytest.approx((wilson.low, wilson.high))
    # Calls that ended well alone have a latency that counts.
    assert v2["seconds"]["number"] == 30
    assert v2["seconds"]["verdict"] == "no difference shown"
    assert v1["seconds_p50"]["low"] <= v1["seconds_p50"]["value"] <= v1["seconds_p50"]["high"]
    assert {figure["verdict"] for name, figure in v3.items() if "_p" not in name} == {"too thin to say"}
    assert (found[""]["baseline"], found["v1"]["is_baseline"]) == ("v1", True)


@pytest.mark.parametrize(("number", "verdict"), [(29, "too thin to say"), (30, "no difference shown")])
def test_thirty_calls_are_enough_to_say_something(run: Run, tmp_path: Path, number: int, verdict: str) -> None:
    """Below thirty calls of either variant nothing is said."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for each in [*_sample("v1", 40, 1000), *_sample("v2", number, 1000, seed=3)]:
            sink.emit(each)

    found = _compare(run, path, "prompt_version", "--baseline", "v1")

    assert found["v2"]["figures"]["tokens"]["verdict"] == verdict
    assert found["v2"]["figures"]["errors"]["verdict"] == verdict


def test_equal_dollars_are_no_difference(run: Run, ledger_url: str) -> None:
    """Calls that all cost the same have no spread, so that the rounding of their sum alone could seem a difference."""
    cost = Cost(input_usd=Decimal("0.0031"))
    sizes = {f"v{number}": number for number in (30, 31, 34, 38, 42)}
    with LedgerSink(ledger_url) as sink:
        for version, number in sizes.items():
            for _ in range(number):
                sink.emit(call(prompt_version=version, cost=cost))
        sink.flush(60)

    found = _compare(run, ledger_url, "prompt_version", "--baseline", "v30")

    verdicts = {version: found[version]["figures"]["dollars"]["verdict"] for version in sizes if version != "v30"}
    assert set(verdicts.values()) == {"no difference shown"}, verdicts


def test_feedback_is_compared_by_score(run: Run, tmp_path: Path) -> None:
    """Scores that nodes return are figures of the variant."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for version, number in (("v1", 3), ("v2", 2)):
            for _ in range(number):
                for record in one_request(prompt_version=version):
                    sink.emit(record)

    found = _compare(run, path, "prompt-version")

    score = found["v1"]["figures"]["feedback:grounded"]
    assert (score["number"], score["value"]) == (3, 0.75)
    assert found["v2"]["figures"]["feedback:grounded"]["verdict"] == "too thin to say"


def test_any_key_can_be_compared_and_unpriced_calls_are_left_out(run: Run, tmp_path: Path) -> None:
    """A call without a price has no dollars in the mean; it is counted beside it."""
    path = tmp_path / "eco2.db"
    cost = PriceBook().price(
        TokenUsage(input_tokens=1000, output_tokens=100), provider="openai", model="gpt-5.2", at=AT
    )
    with LedgerSink(path) as sink:
        sink.emit(call(tenant_id="acme"))
        sink.emit(call(tenant_id="acme", cost=None, rates=None, unpriced_reason="unknown_model"))

    acme = _compare(run, path, "tenant")["acme"]

    assert (acme["calls"], acme["unpriced_calls"]) == (2, 1)
    assert acme["figures"]["dollars"]["number"] == 1
    assert acme["figures"]["dollars"]["value"] == pytest.approx(float(cost.total_usd))


def test_the_table_says_what_the_sample_allows(run: Run, tmp_path: Path) -> None:
    """The terminal shows sample sizes, intervals and verdicts."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for each in [*_sample("v1", 40, 1000), *_sample("v2", 40, 1500, seed=3), *_sample("v3", 3, 1000)]:
            sink.emit(each)

    status, out, _ = run("compare", "prompt_version", "--ledger", path, *_PERIOD)

    assert status == 0
    for text in ("baseline", "higher", "too thin to say", "95% interval"):
        assert text in out


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (("colour",), 2, "The key is 'colour', wanted one of prompt_version, model"),
        (("model", "--baseline", "x"), 2, "--baseline is 'x', wanted one of 'gpt-5.2'"),
        (("model", "--confidence", "95"), 2, "--confidence is 95.0, wanted a number from 0.5"),
        (("model", "--since", "2020-01-01", "--until", "2020-01-02"), 1, "has no calls from 2020-01-01"),
    ],
)
def test_bad_input_is_a_clear_error(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], status: int, message: str
) -> None:
    """Each mistake ends with its status and what to do."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        sink.emit(call())

    found, _, err = run("compare", "--ledger", path, "--since", "2026-11-01", *arguments)

    assert (found, message in err) == (status, True), err
