"""The ``eco2`` command: reports on a ledger, traces, prices and the ledger's upkeep."""

from __future__ import annotations

from eco2_callbacks.cli.main import main

__all__ = ["main"]
