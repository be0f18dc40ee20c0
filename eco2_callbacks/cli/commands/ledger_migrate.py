"""``eco2 ledger migrate``: brings a ledger's schema to the newest revision."""

from __future__ import annotations

import sys

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.ledger import Schema

__all__ = ["migrate"]


def migrate(ledger: LedgerUrl = "", as_json: AsJson = False) -> None:
    """Create the ledger's tables, or bring them to the newest schema."""
    backend = open_ledger(ledger)
    try:
        before, after = Schema(backend).migrate()
    finally:
        backend.close()
    if as_json:
        print_json({"ledger": backend.shown_url, "before": before, "after": after})
    elif before == after:
        sys.stdout.write(f"{backend.shown_url} has the newest schema, {after}.\n")
    else:
        sys.stdout.write(f"{backend.shown_url} was migrated from {before or 'nothing'} to {after}.\n")
