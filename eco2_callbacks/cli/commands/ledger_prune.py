"""``eco2 ledger prune``: deletes old rows."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.ledger import parse_duration, prune

__all__ = ["prune_rows"]


def prune_rows(
    older_than: Annotated[str, typer.Option(metavar="DURATION", help="Such as 400d, 60w.")],
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """Delete everything that started before a moment, with its dollars."""
    duration = parse_duration(older_than)
    backend = open_ledger(ledger)
    try:
        before, calls = prune(backend, duration)
    finally:
        backend.close()
    if as_json:
        print_json({"ledger": backend.shown_url, "before": before.isoformat(), "deleted_calls": calls})
    else:
        sys.stdout.write(
            f"Deleted {calls:,} calls from before {before:%Y-%m-%d %H:%M} UTC, with all that belongs to them.\n"
        )
