"""``eco2 reconcile``: the ledger against Prometheus, LangSmith and the providers' own books."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from eco2_callbacks import LLMCall, TokenUsage
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call
from tests.support.observability_servers import prometheus
from tests.support.other_books import DAY, PERIOD, USD, costs, fill, reconcile, usage
from tests.support.programs import program


def test_books_that_agree_have_no_difference(run: Run, ledger_url: str, tmp_path: Path) -> None:
    """The dated name in the bill is the model of the ledger, and the capture rate is whole."""
    fill(ledger_url, [call(), call(), call(started_at=AT + DAY), call(provider="anthropic", model="claude-sonnet-4-5")])
    path = tmp_path / "costs.json"
    path.write_text(
        costs(
            (AT, "gpt-5.2-2025-12-11, input", "0.0035"),
            (AT, "gpt-5.2-2025-12-11, output", "0.0028"),
            (AT + DAY, "gpt-5.2-2025-12-11, input", USD),
        )
    )

    book = reconcile(run, ledger_url, "--openai", path)

    assert (book["book"], book["compared"], book["differences"]) == ("openai", 2, [])
    assert book["capture_rate_usd"] == pytest.approx(1.0)
    assert book["ledger"]["usd"] == 3 * USD


def _more_calls(days: int = 1) -> str:
    return usage(AT, "gpt-5.2", 4, 4000, 400)


@pytest.mark.parametrize(
    ("calls", "files", "causes"),
    [
        (lambda: [call(), call()], lambda: [usage(AT, "gpt-5.2", 4, 4000, 400)], ["calls_past_the_handler"]),
        (
            lambda: [call(), call()],
            lambda: [usage(AT, "gpt-4.1", 1, 10, 10), usage(AT, "gpt-5.2", 2, 2000, 200)],
            ["calls_past_the_handler"],
        ),
        (
            lambda: [call(sdk_retries=1), call(sdk_retries=1)],
            lambda: [usage(AT, "gpt-5.2", 4, 4000, 400)],
            ["retries_inside_sdks"],
        ),
        (
            lambda: [call(), call()],
            lambda: [usage(AT, "gpt-5.2", 2, 2000, 200), costs((AT, "gpt-5.2, input", "0.00504"))],
            ["price_change"],
        ),
        (
            lambda: [call(started_at=AT + n * DAY) for n in range(3)],
            lambda: [costs(*((AT + n * DAY, "gpt-5.2, all", "0.0063") for n in range(3)))],
            ["price_change"] * 3,
        ),
        (
            lambda: [call(cost=None, rates=None, unpriced_reason="unknown_model")],
            lambda: [usage(AT, "gpt-5.2", 1, 1000, 100), costs((AT, "gpt-5.2", USD))],
            ["unpriced_calls"],
        ),
        (
            lambda: [call(started_at=AT), call(started_at=AT), call(started_at=AT + DAY)],
            lambda: [costs((AT, "gpt-5.2", USD), (AT + DAY, "gpt-5.2", 2 * USD))],
            ["time_zone"] * 2,
        ),
        (
            lambda: [call(), call(estimated=True, estimate_reason="cancelled")],
            lambda: [costs((AT, "gpt-5.2", USD))],
            ["estimates"],
        ),
        (lambda: [call(), call()], lambda: [costs((AT, "gpt-5.2", USD))], ["missing_there"]),
    ],
    ids=[
        *("past the handler", "unknown model", "sdk retries", "price, by tokens", "price, by ratio", "unpriced"),
        *("time zone", "estimates", "missing there"),
    ],
)
def test_each_difference_has_its_likely_cause(
    run: Run,
    tmp_path: Path,
    calls: Callable[[], list[LLMCall]],
    files: Callable[[], list[str]],
    causes: list[str],
) -> None:
    """The cause follows from what differs: tokens, dollars, one day or all."""
    path = tmp_path / "eco2.db"
    fill(path, calls())
    arguments: list[object] = []
    for number, text in enumerate(files()):
        (tmp_path / f"{number}.json").write_text(text)
        arguments += ["--openai", tmp_path / f"{number}.json"]

    book = reconcile(run, path, *arguments)

    assert [each["cause"] for each in book["differences"]] == causes
    assert all(each["explanation"] for each in book["differences"])


def test_the_capture_rate_is_the_share_that_the_ledger_has(run: Run, tmp_path: Path) -> None:
    """Of a bill over four calls the ledger with three has three quarters."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), call(), call()])
    (tmp_path / "usage.json").write_text(usage(AT, "gpt-5.2", 4, 4000, 400))
    (tmp_path / "costs.json").write_text(costs((AT, "gpt-5.2", 4 * USD)))

    book = reconcile(run, path, "--openai", tmp_path / "usage.json", "--openai", tmp_path / "costs.json")

    assert (book["capture_rate_usd"], book["capture_rate_tokens"]) == (pytest.approx(0.75), pytest.approx(0.75))


def test_a_bill_without_models_is_compared_by_day(run: Run, tmp_path: Path) -> None:
    """Costs that are not grouped by line item still add up with the day's calls."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), call(model="gpt-4.1")])
    (tmp_path / "costs.json").write_text(costs((AT, "", 2 * USD)).replace('"line_item": ""', '"line_item": null'))

    book = reconcile(run, path, "--openai", tmp_path / "costs.json")

    assert (book["compared"], book["differences"]) == (1, [])


def test_openai_s_csv_is_read(run: Run, tmp_path: Path) -> None:
    """The dashboard's CSV has the same amounts."""
    path = tmp_path / "eco2.db"
    fill(path, [call()])
    start = int(AT.replace(hour=0, minute=0).timestamp())
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["start_time", "end_time", "start_time_iso", "amount_value", "amount_currency", "line_item"])
    writer.writerow([start, start + 86400, "2026-11-02T00:00:00+00:00", "0.00315", "usd", "gpt-5.2-2025-12-11, input"])
    (tmp_path / "costs.csv").write_text(text.getvalue())

    assert reconcile(run, path, "--openai", tmp_path / "costs.csv")["differences"] == []


def test_anthropic_s_reports_are_read(run: Run, tmp_path: Path) -> None:
    """Amounts are in cents, and input tokens hold the cached ones."""
    path = tmp_path / "eco2.db"
    usage = TokenUsage(input_tokens=1000, output_tokens=100, cache_read_tokens=300, cache_creation_tokens=200)
    fill(path, [call(provider="anthropic", model="claude-sonnet-4-5-20250929", usage=usage), call()])
    day = {"starting_at": "2026-11-02T00:00:00Z", "ending_at": "2026-11-03T00:00:00Z"}
    used = {
        "uncached_input_tokens": 500,
        "cache_creation": {"ephemeral_1h_input_tokens": 0, "ephemeral_5m_input_tokens": 200},
        "cache_read_input_tokens": 300,
        "output_tokens": 100,
        "server_tool_use": {"web_search_requests": 0},
        "model": "claude-sonnet-4-5-20250929",
        "service_tier": "standard",
    }
    cost = call(usage=usage).cost
    assert cost is not None
    paid = {"amount": str(cost.total_usd * 100), "currency": "USD", "model": "claude-sonnet-4-5", "cost_type": "tokens"}
    pages = [{"data": [{**day, "results": [row]}], "has_more": False, "next_page": None} for row in (used, paid)]
    (tmp_path / "report.jsonl").write_text("\n".join(json.dumps(page) for page in pages))

    book = reconcile(run, path, "--anthropic", tmp_path / "report.jsonl")

    assert (book["compared"], book["differences"]) == (1, [])
    assert book["ledger"]["input_tokens"] == 1000


@pytest.mark.parametrize("is_csv", [False, True], ids=["json lines", "csv"])
def test_google_s_billing_export_is_read(run: Run, tmp_path: Path, is_csv: bool) -> None:
    """Costs are net of credits, in dollars at the export's own rate, and SKUs name the model."""
    path = tmp_path / "eco2.db"
    fill(path, [call(provider="google_genai", model="gemini-2.5-flash"), call()])

    def row(sku: str, tokens: int, cost: float, credit: float = 0.0) -> dict[str, Any]:
        return {
            "billing_account_id": "0X",
            "service": {"id": "1", "description": "Gemini API"},
            "sku": {"id": "2", "description": sku},
            "usage_start_time": "2026-11-02 09:00:00 UTC",
            "usage_end_time": "2026-11-02 10:00:00 UTC",
            "cost": cost,
            "currency": "EUR",
            "currency_conversion_rate": 0.5,
            "usage": {"amount": tokens, "unit": "count"},
            "credits": [] if is_csv or not credit else [{"name": "promotion", "amount": credit}],
        }

    # In euros at half a euro a dollar: 0.001575 less 0 or with a credit of 0.0001.
    rows = [
        row("Generate content input token count Gemini 2.5 Flash short input text", 1000, 0.000875),
        row("Generate content output token count Gemini 2.5 Flash", 100, 0.0007 if is_csv else 0.0008, -0.0001),
        {**row("N1 Core", 1, 5.0), "service": {"id": "3", "description": "Compute Engine"}},
    ]
    export = tmp_path / "billing"
    if is_csv:
        flat = [
            {
                (f"{key}.{inner}" if inner else key): value
                for key, nested in each.items()
                for inner, value in (nested.items() if isinstance(nested, dict) else [("", nested)])
            }
            for each in rows
        ]
        with export.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(flat[0]))
            writer.writeheader()
            writer.writerows(flat)
    else:
        export.write_text("\n".join(json.dumps(each) for each in rows))

    book = reconcile(run, path, "--google", export)

    assert (book["compared"], book["differences"]) == (1, [])
    assert book["other"]["usd"] == USD


def test_langsmith_s_export_is_read(run: Run, tmp_path: Path) -> None:
    """Only model runs count; what was sampled out there is missing there."""
    path = tmp_path / "eco2.db"
    fill(path, [call(), call()])
    runs = [
        {
            "id": "1",
            "run_type": "llm",
            "start_time": "2026-11-02T09:30:00",
            "extra": {"metadata": {"ls_model_name": "gpt-5.2", "ls_provider": "openai"}},
            "prompt_tokens": 1000,
            "completion_tokens": 100,
            "total_cost": 0.00315,
        },
        {"id": "2", "run_type": "chain", "start_time": "2026-11-02T09:30:00", "prompt_tokens": 1000},
    ]
    (tmp_path / "runs.jsonl").write_text("\n".join(json.dumps(each) for each in runs))

    book = reconcile(run, path, "--langsmith", tmp_path / "runs.jsonl")

    (difference,) = book["differences"]
    assert (difference["cause"], difference["other"]["calls"]) == ("missing_there", 1)
    assert "sampled out" in difference["explanation"]
    assert book["capture_rate_usd"] == 2


@pytest.mark.slow
def test_langsmith_s_bulk_export_is_read(run: Run, tmp_path: Path) -> None:
    """A bulk export is a Parquet file with the same columns."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    path = tmp_path / "eco2.db"
    fill(path, [call()])
    row = {"run_type": "llm", "start_time": AT, "prompt_tokens": 1000, "completion_tokens": 100, "total_cost": 0.00315}
    row["extra"] = json.dumps({"metadata": {"ls_model_name": "gpt-5.2"}})
    pq.write_table(pa.Table.from_pylist([row]), tmp_path / "runs.parquet")

    assert reconcile(run, path, "--langsmith", tmp_path / "runs.parquet")["differences"] == []


@pytest.mark.slow
def test_prometheus_is_asked_by_a_range_query(run: Run, tmp_path: Path) -> None:
    """The increases of the counters, hour by hour, are the ledger's calls, tokens and dollars of each day."""
    today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
    start = today - 2 * DAY
    path = tmp_path / "eco2.db"
    # One call each hour of two days, in its middle.
    fill(path, [call(started_at=start + timedelta(hours=n, minutes=30)) for n in range(48)])
    lines = []
    labels = 'provider="openai",model="gpt-5.2"'
    for name, each, extra in (
        ("llm_cost_dollars", float(USD), ""),
        ("llm_tokens", 1000, ',token_type="input"'),
        ("llm_tokens", 100, ',token_type="output"'),
        ("llm_calls", 1, ""),
    ):
        for minute in range(48 * 60 + 1):
            at = (start + timedelta(minutes=minute)).timestamp()
            lines.append((name, f"{name}_total{{{labels}{extra}}} {each * ((minute + 29) // 60)} {at}"))
    text = ""
    for name in ("llm_cost_dollars", "llm_tokens", "llm_calls"):
        text += f"# TYPE {name} counter\n" + "".join(f"{line}\n" for family, line in lines if family == name)
    (tmp_path / "metrics.txt").write_text(f"{text}# EOF\n")
    folder = tmp_path / "prometheus"
    folder.mkdir()
    subprocess.run(
        [
            *(program("promtool", package="prometheus"), "tsdb", "create-blocks-from", "openmetrics"),
            *(str(tmp_path / "metrics.txt"), str(folder / "data")),
        ],
        check=True,
        capture_output=True,
    )

    with prometheus(folder, {"global": {}}) as url:
        book = reconcile(
            run,
            path,
            *("--prometheus", url, "--tolerance", "0.05"),
            period=("--since", start.date().isoformat(), "--until", (today - DAY).date().isoformat()),
        )

    assert (book["compared"], book["differences"]) == (2, [])
    assert book["capture_rate_usd"] == pytest.approx(1.0, rel=0.05)
    assert book["other"]["calls"] == pytest.approx(48, rel=0.05)


@pytest.mark.parametrize(
    ("arguments", "text", "message"),
    [
        ((), "", "Nothing is named to compare with; pass --prometheus URL"),
        (
            ("--openai", "FILE"),
            "start_time,amount_value,amount_currency,colour\n1,2,usd,red\n",
            "unknown columns ['colour']",
        ),
        (("--openai", "FILE"), "start_time,amount_value\n1,2\n", "the columns ['amount_currency'] are missing"),
        (
            ("--openai", "FILE"),
            "start_time,amount_value,amount_currency\n1,2,eur\n",
            "the currency is 'eur', wanted USD",
        ),
        (
            ("--openai", "FILE"),
            "start_time,amount_value,amount_currency\nx,2,usd\n",
            "start_time is 'x', wanted a time",
        ),
        (("--openai", "FILE"), "{", "it is no JSON"),
        (
            ("--openai", "FILE"),
            usage(AT, "gpt-5.2", 1, 10, 10).replace('"input_tokens": 10', '"input_tokens": null'),
            "input_tokens is None, wanted a number",
        ),
        (
            ("--openai", "FILE"),
            f"start_time,amount_value,amount_currency,line_item\n1,2,usd,{'x' * 140_000}\n",
            "line 2 cannot be read (field larger than field limit (131072)); export JSON",
        ),
        (("--openai", "FILE"), '{"data": [], "has_more": true}', "it is not the last page"),
        (("--anthropic", "FILE"), "a,b\n", "it is no JSON; export the usage report"),
        (("--anthropic", "FILE"), '{"data": [{"starting_at": "x", "results": [], "z": 1}]}', "unknown columns ['z']"),
        (("--google", "FILE"), "cost,currency\n1,USD\n", "are missing; export them too"),
        (("--langsmith", "FILE"), '{"run_type": "llm", "start_time": "x", "zz": 1}', "unknown columns ['zz']"),
        (("--langsmith", "absent.json"), "", "cannot be read"),
        (("--prometheus", "localhost"), "", "--prometheus is 'localhost', wanted a URL"),
        (("--prometheus", "http://127.0.0.1:9"), "", "cannot be read"),
        (("--openai", "FILE", "--tolerance", "2"), "{}", "--tolerance is '2', wanted a share"),
    ],
)
def test_bad_input_is_a_clear_error(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], text: str, message: str
) -> None:
    """Unknown columns and what else is wrong with a file end with its name and what to do."""
    path = tmp_path / "eco2.db"
    fill(path, [call()])
    export = tmp_path / "export"
    export.write_text(text)

    named = [str(export) if each == "FILE" else each for each in arguments]
    status, _, err = run("reconcile", "--ledger", path, *PERIOD, *named)

    assert (status in (1, 2), message in err) == (True, True), err


def test_a_column_can_be_left_out_by_name(run: Run, tmp_path: Path) -> None:
    """Who knows that a new column changes no amount says so."""
    path = tmp_path / "eco2.db"
    fill(path, [call()])
    start = int(AT.timestamp())
    (tmp_path / "x.csv").write_text(
        f"start_time,amount_value,amount_currency,line_item,colour\n{start},0.00315,usd,gpt-5.2,red\n"
    )

    book = reconcile(run, path, "--openai", tmp_path / "x.csv", "--ignore-columns", "colour")

    assert book["differences"] == []
