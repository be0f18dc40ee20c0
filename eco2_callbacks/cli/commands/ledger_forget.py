"""``eco2 ledger forget``: erases a user's identifiers and keeps the dollars."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import forget_user

__all__ = ["forget"]


def forget(
    user: Annotated[str, typer.Option(metavar="USER_ID", help="The user's id, as in the records.")],
    ledger: LedgerUrl = "",
    as_json: AsJson = False,
) -> None:
    """Erase a user's ids from the ledger and from this machine's spool; usage and dollars stay."""
    if not user.strip():
        raise ConfigError("--user is empty, wanted the user's id.")
    backend = open_ledger(ledger)
    try:
        calls = forget_user(backend, user)
    finally:
        backend.close()
    if as_json:
        print_json({"ledger": backend.shown_url, "calls": calls})
    else:
        sys.stdout.write(f"Erased the user's ids from {calls:,} calls and what belongs to them; the dollars stay.\n")
