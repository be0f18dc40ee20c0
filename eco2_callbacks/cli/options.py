"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import Backend, backend_of
from eco2_callbacks.ledger import Progress as OnProgress
from eco2_callbacks.settings import ledger_of

__all__ = ["AsJson", "LedgerUrl", "hour_progress", "open_ledger"]

LedgerUrl = Annotated[
    str,
    typer.Option(
        "--ledger", metavar="URL", help="The ledger: a path or a URL; ECO2_LEDGER by default.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]


def open_ledger(url: str) -> Backend:
    """Return the backend of the ledger that was named.

    Raises:
        ConfigError: If none was named, or the URL is none.
    """
    named = url.strip() or ledger_of(os.environ)
    if not named:
        raise ConfigError("No ledger is named; pass --ledger URL or set ECO2_LEDGER, for example --ledger eco2.db.")
    return backend_of(named)


@contextmanager
def hour_progress(text: str) -> Iterator[OnProgress]:
    """Yield a function that takes the number of finished hours; a bar on the terminal shows it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)

        def told(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield told
