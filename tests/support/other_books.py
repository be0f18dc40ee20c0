"""Exports of the books that a ledger is reconciled with, and the command that reads them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from eco2_callbacks import LedgerSink, LLMCall
from tests.cli.conftest import Run

__all__ = ["DAY", "PERIOD", "USD", "costs", "fill", "reconcile", "usage"]

PERIOD = ("--since", "2026-11-01", "--until", "2026-11-30")
# What ``call()`` costs.
USD = Decimal("0.00315")
DAY = timedelta(days=1)


def fill(url: str | Path, calls: Iterable[LLMCall]) -> None:
    """Write calls to a ledger."""
    with LedgerSink(url) as sink:
        for each in calls:
            sink.emit(each)
        sink.flush(60)


def reconcile(run: Run, url: str | Path, *arguments: object, period: tuple[str, ...] = PERIOD) -> dict[str, Any]:
    """Return the one book that the ledger was compared with."""
    status, out, err = run("reconcile", "--json", "--ledger", url, *period, *arguments)
    assert status == 0, err
    (book,) = json.loads(out, parse_float=Decimal)["books"]
    found: dict[str, Any] = book
    return found


def costs(*days: tuple[datetime, str, object]) -> str:
    """Return a page of OpenAI's costs API: one bucket for each day, line item and amount."""
    data = []
    for at, item, usd in days:
        start = int(at.replace(hour=0, minute=0, second=0).timestamp())
        result = {"object": "organization.costs.result", "amount": {"value": float(str(usd)), "currency": "usd"}}
        result |= {"line_item": item, "project_id": None, "api_key_id": None, "quantity": None}
        data.append({"object": "bucket", "start_time": start, "end_time": start + 86400, "results": [result]})
    return json.dumps({"object": "page", "data": data, "has_more": False, "next_page": None})


def usage(at: datetime, model: str, requests: int, read: int, written: int) -> str:
    """Return a page of OpenAI's usage API."""
    start = int(at.replace(hour=0, minute=0, second=0).timestamp())
    result = {"object": "organization.usage.completions.result", "model": model, "num_model_requests": requests}
    result |= {"input_tokens": read, "output_tokens": written, "input_cached_tokens": 0}
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": [result]}
    return json.dumps({"object": "page", "data": [bucket], "has_more": False, "next_page": None})
