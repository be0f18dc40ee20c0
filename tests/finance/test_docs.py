"""docs/finance.md and docs/dated-prices.md: their commands run as they stand, and their files are read."""

from __future__ import annotations

import json
import re
import shlex
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink, PriceBook
from tests.cli.conftest import Run
from tests.support.ledger_records import AT, call, one_request

DOCS = Path(__file__).parents[2] / "docs"


def _blocks(page: str, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (DOCS / page).read_text(), re.DOTALL)


@pytest.mark.slow
def test_month_end_takes_ten_lines(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every line of the page ends well, with the page's own price file."""
    monkeypatch.chdir(tmp_path)
    (lines,) = (block.splitlines() for block in _blocks("finance.md", "sh"))
    (prices,), (rates,) = _blocks("dated-prices.md", "toml"), _blocks("dated-prices.md", "csv")
    (tmp_path / "prices.toml").write_text(prices)
    (tmp_path / "rates.csv").write_text(rates)
    start = int(AT.replace(hour=0, minute=0).timestamp())
    result = {"object": "organization.costs.result", "amount": {"value": 0.01, "currency": "usd"}, "line_item": None}
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": [result]}
    (tmp_path / "costs.json").write_text(json.dumps({"object": "page", "data": [bucket], "has_more": False}))
    with LedgerSink(tmp_path / "eco2.db") as sink:
        for record in one_request(user_id="ann", tenant_id="acme", prompt_version="v2"):
            sink.emit(record)
        sink.emit(call(prompt_version="v1"))

    assert len(lines) == 10
    name, value = lines[0].removeprefix("export ").split("=")
    monkeypatch.setenv(name, value)
    for line in lines[1:]:
        program, *arguments = shlex.split(line)
        status, _, err = run(*arguments)
        assert (program, status) == ("eco2", 0), f"{line}: {err}"


def test_the_price_file_of_the_page_holds_what_it_says(tmp_path: Path) -> None:
    """One rate in euros, one discount and one margin."""
    (prices,), (rates,) = _blocks("dated-prices.md", "toml"), _blocks("dated-prices.md", "csv")
    (tmp_path / "prices.toml").write_text(prices)
    (tmp_path / "rates.csv").write_text(rates)

    book = PriceBook.from_toml(tmp_path / "prices.toml")

    assert [rate.currency for rate in book.custom_rates] == ["EUR"]
    assert [each.kind for each in book.adjustments] == ["discount", "margin"]
