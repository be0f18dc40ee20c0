"""Sources: which other books to read."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from eco2_callbacks.errors import ConfigError, LedgerError
from eco2_callbacks.finance.reconcile.anthropic import read_anthropic
from eco2_callbacks.finance.reconcile.books import AMOUNTS, Book
from eco2_callbacks.finance.reconcile.files import Export
from eco2_callbacks.finance.reconcile.google import read_google
from eco2_callbacks.finance.reconcile.langsmith import read_langsmith, read_langsmith_parquet
from eco2_callbacks.finance.reconcile.openai import read_openai
from eco2_callbacks.finance.reconcile.prometheus import read_prometheus
from eco2_callbacks.ledger import Period

__all__ = ["Sources", "read_books"]

_READERS: Mapping[str, tuple[str, Callable[[Export, ZoneInfo], Book]]] = {
    "langsmith": ("LangSmith's export", read_langsmith),
    "openai": ("OpenAI's export", read_openai),
    "anthropic": ("Anthropic's report", read_anthropic),
    "google": ("Google's billing export", read_google),
}


@dataclass(frozen=True, slots=True)
class Sources:
    """The other books.

    Attributes:
        prometheus: URL of a Prometheus server.
        files: Export files by name: ``langsmith``, ``openai``, ``anthropic``, ``google``; several add up.
        ignored_columns: Columns that may stand in the files although they are not known.
    """

    prometheus: str = ""
    files: Mapping[str, tuple[Path, ...]] = field(default_factory=dict)
    ignored_columns: tuple[str, ...] = ()


def read_books(sources: Sources, period: Period) -> Iterator[Book]:
    """Yield the other books over a period.

    Raises:
        ConfigError: If none is named, or a file cannot be used.
        LedgerError: If Prometheus cannot be read, or a book states no amount in the period: nothing can be compared.
    """
    files = dict(sources.files)
    if not sources.prometheus and not any(files.values()):
        raise ConfigError(
            "Nothing is named to compare with; pass --prometheus URL, or --langsmith, --openai, --anthropic or "
            "--google with an export file."
        )
    zone = ZoneInfo(period.timezone)
    if sources.prometheus:
        yield _inside(read_prometheus(sources.prometheus, period), period, zone)
    for name, paths in files.items():
        what, read = _READERS[name]
        merged: Book | None = None
        for path in paths:
            book = _read(path, name, what, read, zone, sources.ignored_columns)
            if merged is None:
                merged = book
                continue
            for key, amounts in book.amounts.items():
                merged.at(*key).add_all(amounts)
        if merged is not None:
            yield _inside(merged, period, zone)


def _read(
    path: Path,
    name: str,
    what: str,
    read: Callable[[Export, ZoneInfo], Book],
    zone: ZoneInfo,
    ignored: tuple[str, ...],
) -> Book:
    if name == "langsmith" and path.suffix == ".parquet":
        return read_langsmith_parquet(path, zone, Export(path, what, ignored, is_text=False))
    return read(Export(path, what, ignored), zone)


def _inside(book: Book, period: Period, zone: ZoneInfo) -> Book:
    """Leave out the days that the period does not cover."""
    first, last = (
        period.since.astimezone(zone).date(),
        (period.until - timedelta(microseconds=1)).astimezone(zone).date(),
    )
    days = sorted({day for day, _ in book.amounts})
    book.amounts = {key: amounts for key, amounts in book.amounts.items() if first <= key[0] <= last}
    if not any(getattr(amounts, name) is not None for amounts in book.amounts.values() for name in AMOUNTS):
        known = f"it has some from {days[0]} to {days[-1]}" if days else "and none of other days"
        raise LedgerError(
            f"The book of {book.name} states no amounts of model calls from {first} to {last}, {known}: nothing can be "
            "compared. Name the right file, or choose --since and --until to match."
        )
    return book
