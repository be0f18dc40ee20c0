"""Options that several commands have."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from eco2_callbacks.errors import ConfigError
from eco2_callbacks.ledger import Backend, backend_of
from eco2_callbacks.ledger import Progress as OnProgress
from eco2_callbacks.pricing import PriceBook
from eco2_callbacks.settings import ledger_of, prices_of

__all__ = [
    "AsJson",
    "LedgerUrl",
    "Since",
    "TimeZone",
    "Until",
    "hour_progress",
    "open_ledger",
    "price_book",
    "share_progress",
    "wide_console",
]

_FILE_WIDTH = 180

LedgerUrl = Annotated[
    str,
    typer.Option(
        "--ledger", metavar="URL", help="The ledger: a path or a URL; ECO2_LEDGER by default.", show_default=False
    ),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON and nothing else.")]
Since = Annotated[
    str | None,
    typer.Option(metavar="WHEN", help="A day, a time, or a duration back from now such as 24h, 7d, 4w; 30d."),
]
Until = Annotated[str | None, typer.Option(metavar="WHEN", help="A day, which is included, or a time; now by default.")]
TimeZone = Annotated[str, typer.Option(metavar="ZONE", help="The zone of days, such as Asia/Seoul.")]


def price_book(rates: Path | None) -> PriceBook:
    """Return the price book of a file, else of ``ECO2_PRICES``, else of the public prices alone.

    Raises:
        ConfigError: If the file cannot be used.
    """
    named = rates or prices_of(os.environ)
    return PriceBook() if named is None else PriceBook.from_toml(named)


def open_ledger(url: str) -> Backend:
    """Return the backend of the ledger that was named.

    Raises:
        ConfigError: If none was named, or the URL is none.
    """
    named = url.strip() or ledger_of(os.environ)
    if not named:
        raise ConfigError("No ledger is named; pass --ledger URL or set ECO2_LEDGER, for example --ledger eco2.db.")
    return backend_of(named)


def wide_console() -> Console:
    """Return a console whose tables keep their columns where the output is no terminal."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = _FILE_WIDTH
    return console


@contextmanager
def hour_progress(text: str) -> Iterator[OnProgress]:
    """Yield a function that takes the number of finished hours; a bar on the terminal shows it."""
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        task = progress.add_task(text, total=None)

        def show(done: int, total: int) -> None:
            progress.update(task, completed=done, total=total)

        yield show


@contextmanager
def share_progress(text: str) -> Iterator[Callable[[float], None]]:
    """Yield a function that takes the share that is done; a bar on the terminal shows it."""
    with hour_progress(text) as progress:
        yield lambda share: progress(round(share * 100), 100)
