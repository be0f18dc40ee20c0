"""Fixtures of the command's tests: a ledger of two tenants and a function that runs the command."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from eco2_callbacks import LedgerSink, TokenUsage
from eco2_callbacks.cli import main
from tests.support.ledger_records import AT, call, one_request

Run = Callable[..., tuple[int, str, str]]
Terminal = Callable[[int], None]


def without_styles(text: str) -> str:
    """Return the text of a terminal without colours and other escapes."""
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", text)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    """Return a function that makes the output a terminal of so many columns."""

    def set_columns(columns: int) -> None:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("COLUMNS", str(columns))

    return set_columns


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Run the command; return its status, output and errors."""

    def run_command(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run_command


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    """Return a ledger: tenant ``acme`` with two requests, ``zoo`` with a call of the month before and one of this."""
    path = tmp_path / "eco2.db"
    with LedgerSink(path) as sink:
        for number in range(2):
            started_at = AT + timedelta(hours=number)
            for record in one_request(
                started_at=started_at,
                tenant_id="acme",
                user_id=f"u{number}",
                session_id="s1",
                job_id=f"job-{number}",
                intent="waste",
                prompt_version="v2",
            ):
                sink.emit(record)
        cached = TokenUsage(input_tokens=2000, output_tokens=10, cache_read_tokens=1500)
        sink.emit(call(tenant_id="zoo", usage=cached, started_at=AT - timedelta(days=30)))
        sink.emit(call(tenant_id="zoo", cost=None, rates=None, unpriced_reason="unknown_model"))
    return path
