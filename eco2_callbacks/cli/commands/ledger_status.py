"""``eco2 ledger status``: what a ledger holds, and what still waits to reach it."""

from __future__ import annotations

from dataclasses import asdict

from rich.console import Console
from rich.table import Table

from eco2_callbacks.cli.options import AsJson, LedgerUrl, open_ledger
from eco2_callbacks.cli.reporters import print_json
from eco2_callbacks.ledger import Status, read_status

__all__ = ["status"]


def status(ledger: LedgerUrl = "", as_json: AsJson = False) -> None:
    """What the ledger holds, and what still waits on this machine."""
    backend = open_ledger(ledger)
    try:
        found = read_status(backend)
    finally:
        backend.close()
    if as_json:
        paths = {"spool": None if found.spool is None else str(found.spool), "refused": str(found.refused)}
        print_json({**asdict(found), **paths})
        return
    Console(highlight=False).print(_table(found))


def _table(found: Status) -> Table:
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=False)
    table.add_row("ledger", found.url)
    is_newest = found.revision == found.newest_revision
    table.add_row(
        "schema", f"{found.revision or 'none yet'}{'' if is_newest else f' (newest {found.newest_revision})'}"
    )
    for name, rows in found.rows.items():
        table.add_row(name.replace("_", " "), f"{rows:,}")
    if found.first is not None and found.last is not None:
        table.add_row("calls from", f"{found.first:%Y-%m-%d %H:%M:%S} UTC")
        table.add_row("to", f"{found.last:%Y-%m-%d %H:%M:%S} UTC")
    table.add_row("hours to sum up", f"{found.changed_hours:,}")
    if found.size_bytes is not None:
        table.add_row("file", f"{found.size_bytes / 1e6:,.1f} MB")
    if found.spool is not None:
        table.add_row("spool", str(found.spool))
        table.add_row("waiting in it", f"{found.spooled_records:,} records, the oldest for {found.lag_seconds:,.0f} s")
    if found.refused_rows:
        table.add_row("refused rows", f"{found.refused_rows:,}, in {found.refused}")
    return table
