"""What of another book is compared: whole days, the days and models that it covers, and never nothing."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

import pytest

from eco2_callbacks import LLMCall
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call
from tests.support.other_books import DAY, PERIOD, USD, costs, fill, reconcile, usage


@pytest.mark.parametrize(
    ("calls", "charges", "rate", "usd"),
    [
        # Four days with a call each; the export ends after two, and has two calls on each.
        (
            lambda: [call(started_at=AT + n * DAY) for n in range(4)],
            lambda: [(AT, "gpt-5.2", 2 * USD), (AT + DAY, "gpt-5.2", 2 * USD)],
            0.5,
            2 * USD,
        ),
        (lambda: [call(model="gpt-4.1") for _ in range(4)], lambda: [(AT, "gpt-5.2", 4 * USD)], 0.0, None),
        # A day without a charge inside the export is a day that it covers.
        (
            lambda: [call(started_at=AT + n * DAY) for n in range(3)],
            lambda: [(AT, "gpt-5.2", 3 * USD), (AT + 2 * DAY, "gpt-5.2", 3 * USD)],
            0.5,
            3 * USD,
        ),
    ],
    ids=["half of the days", "another model", "a day between"],
)
def test_the_capture_rate_is_over_what_the_other_book_covers(
    run: Run,
    ledger_url: str,
    tmp_path: Path,
    calls: Callable[[], list[LLMCall]],
    charges: Callable[[], list[tuple[datetime, str, object]]],
    rate: float,
    usd: Decimal | None,
) -> None:
    """Calls of days and models that an export does not have make up for nothing that the ledger lacks."""
    fill(ledger_url, calls())
    (tmp_path / "costs.json").write_text(costs(*charges()))

    book = reconcile(run, ledger_url, "--openai", tmp_path / "costs.json")

    assert book["capture_rate_usd"] == pytest.approx(rate)
    assert book["ledger"]["usd"] == usd


def test_a_rate_is_over_the_models_with_that_amount(run: Run, tmp_path: Path) -> None:
    """Of a model whose tokens alone are in the other book, no dollars count."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), call(model="gpt-4.1"), call(model="gpt-4.1")])
    (tmp_path / "usage.json").write_text(usage(AT, "gpt-4.1", 4, 4000, 400))
    (tmp_path / "costs.json").write_text(costs((AT, "gpt-5.2", 2 * USD)))

    book = reconcile(run, path, "--openai", tmp_path / "usage.json", "--openai", tmp_path / "costs.json")

    assert (book["capture_rate_usd"], book["capture_rate_tokens"]) == (pytest.approx(0.5), pytest.approx(0.5))


@pytest.mark.parametrize(
    "period",
    [
        ("--since", "2026-11-02T09:00", "--until", "2026-11-03T10:00"),
        ("--since", "2026-11-02T18:00", "--until", "2026-11-03T19:00", "--timezone", "Asia/Seoul"),
    ],
    ids=["UTC", "Seoul"],
)
def test_days_are_compared_as_whole_ones(run: Run, tmp_path: Path, period: tuple[str, ...]) -> None:
    """Both books have the whole first and last day of a period that begins and ends inside one."""
    path = tmp_path / "eco2.db"
    # The first and the last hour of each day in both zones' days.
    calls = [call(started_at=AT.replace(day=day, hour=hour, minute=1)) for day in (2, 3) for hour in (0, 9, 14)]
    fill(path, calls)
    runs = [
        {
            "run_type": "llm",
            "start_time": each.started_at.isoformat(),
            "extra": {"metadata": {"ls_model_name": "gpt-5.2"}},
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "total_cost": 0.00315,
        }
        for each in calls
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(each) for each in runs))

    book = reconcile(run, path, "--langsmith", tmp_path / "runs.jsonl", period=period)

    assert (book["differences"], book["compared"], book["other"]["calls"]) == ([], 2, 6)
    assert book["capture_rate_usd"] == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("option", "text", "message"),
    [
        (
            "--openai",
            lambda: '{"data": [{"start_time": 1793577600, "results": []}]}',
            "The book of openai states no amounts of model calls from 2026-11-01 to 2026-11-30, and none of other days",
        ),
        (
            "--openai",
            lambda: costs((AT - 60 * DAY, "gpt-5.2", 5)),
            "2026-11-01 to 2026-11-30, it has some from 2026-09-03 to 2026-09-03: nothing can be compared",
        ),
        (
            "--langsmith",
            lambda: json.dumps({"run_type": "chain", "start_time": AT.isoformat()}),
            "The book of langsmith states no amounts",
        ),
        (
            "--google",
            lambda: json.dumps(
                {
                    "service": {"description": "Compute Engine"},
                    "sku": {"description": "N1 Core"},
                    "usage_start_time": "2026-11-02 09:00:00 UTC",
                    "cost": 5,
                    "currency": "USD",
                }
            ),
            "its services are 'Compute Engine', wanted one that begins with gemini api, vertex ai",
        ),
    ],
    ids=["empty page", "another month", "chain runs", "another service"],
)
def test_a_book_without_amounts_is_an_error(
    run: Run, tmp_path: Path, option: str, text: Callable[[], str], message: str
) -> None:
    """What has nothing to compare is not called "no difference"."""
    path = tmp_path / "eco2.db"
    fill(path, [call()])
    (tmp_path / "book").write_text(text())

    status, out, err = run("reconcile", "--ledger", path, *PERIOD, option, tmp_path / "book")

    assert (status in (1, 2), out, message in err) == (True, "", True), err
