"""Reads the exports of other books: JSON, JSON lines and CSV, with columns that are known."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any

from eco2_callbacks.errors import ConfigError

__all__ = ["Export", "decimal_of", "moment_of"]


class Export:
    """One export file.

    Args:
        path: The file.
        what: What it should be, for messages.
        ignored: Names of columns that may be there although they are not known.
        is_text: False for a file that another reader opens.

    Raises:
        ConfigError: If it cannot be read.
    """

    def __init__(self, path: Path, what: str, ignored: Collection[str] = (), *, is_text: bool = True) -> None:
        self.path, self.what = path, what
        self._ignored = frozenset(ignored)
        self._text = ""
        try:
            self._text = "" if not is_text else path.read_text(encoding="utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{what} {str(path)!r} cannot be read: {error}; name an existing file.") from error
        self.is_csv = not self._text.lstrip().startswith(("{", "["))

    def documents(self) -> list[Any]:
        """Return the JSON documents: one, those of an array, or one a line.

        Raises:
            ConfigError: If a line is no JSON.
        """
        try:
            found = json.loads(self._text, parse_float=Decimal)
        except json.JSONDecodeError:
            try:
                lines = [line for line in self._text.splitlines() if line.strip()]
                return [json.loads(line, parse_float=Decimal) for line in lines]
            except json.JSONDecodeError as error:
                raise self.error(f"it is no JSON ({error})") from error
        return found if isinstance(found, list) else [found]

    def check_last_pages(self, pages: Sequence[Any], kind_of: Callable[[Mapping[str, Any]], str]) -> None:
        """Check that no page is missing after one that says that there are more.

        Args:
            pages: In their order.
            kind_of: Returns what a page holds; ``""`` where it is empty.

        Raises:
            ConfigError: If one is missing.
        """
        for page, following in zip(pages, [*pages[1:], None], strict=True):
            if not isinstance(page, dict) or not page.get("has_more"):
                continue
            kinds = {kind_of(each) for each in (page, following) if isinstance(each, dict)} - {""}
            if following is None or len(kinds) > 1:
                raise self.error("has_more is true: it is not the last page; export all pages, one JSON a line")

    def rows(self, known: Collection[str], needed: Collection[str]) -> Iterator[Mapping[str, str]]:
        """Yield the lines of a CSV file by column.

        Raises:
            ConfigError: If a column is unknown or missing, or a cell is too long for Python's reader.
        """
        reader = csv.DictReader(io.StringIO(self._text))
        try:
            self.check(reader.fieldnames or (), known, needed)
            for row in reader:
                yield {key: value or "" for key, value in row.items() if key is not None}
        except csv.Error as error:
            raise self.error(
                f"line {reader.reader.line_num} cannot be read ({error}); export JSON, or without long texts"
            ) from error

    def check(self, names: Collection[str], known: Collection[str], needed: Collection[str] = ()) -> None:
        """Check the columns of a line, or the fields of an object.

        Raises:
            ConfigError: If one is unknown or missing.
        """
        if unknown := sorted(set(names) - set(known) - self._ignored):
            raise self.error(
                f"unknown columns {unknown!r}; known are {', '.join(sorted(known))}. Pass --ignore-columns "
                f"{','.join(unknown)} if they change no amount"
            )
        if missing := sorted(set(needed) - set(names)):
            raise self.error(f"the columns {missing!r} are missing; export them too")

    def error(self, problem: str) -> ConfigError:
        """Return an error that names the file."""
        return ConfigError(f"{self.what} {str(self.path)!r}: {problem}.")

    def decimal(self, value: Any, name: str) -> Decimal:
        """Return a number as an exact decimal.

        Raises:
            ConfigError: If it is none.
        """
        found = decimal_of(value)
        if found is None:
            raise self.error(f"{name} is {value!r}, wanted a number")
        return found

    def count(self, value: Any, name: str) -> int:
        """Return a number of tokens or calls.

        Raises:
            ConfigError: If it is none.
        """
        return int(self.decimal(value, name))

    def moment(self, value: Any, name: str) -> datetime:
        """Return a time in UTC.

        Raises:
            ConfigError: If it is none.
        """
        found = moment_of(value)
        if found is None:
            raise self.error(f"{name} is {value!r}, wanted a time")
        return found


def decimal_of(value: Any) -> Decimal | None:
    """Return a number as an exact decimal, None if it is none."""
    if isinstance(value, bool) or value is None or value == "":
        return None
    try:
        found = Decimal(str(value).replace(",", "") if isinstance(value, str) else str(value))
    except InvalidOperation:
        return None
    return found if found.is_finite() else None


def moment_of(value: Any) -> datetime | None:
    """Return a time from seconds since 1970 or a text; without a zone it is UTC. None if it is none."""
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    try:
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return datetime.fromtimestamp(float(value), UTC)
        if not isinstance(value, str) or not value.strip():
            return None
        text = value.strip().removesuffix(" UTC")
        if text.isdigit() and len(text) >= 9:
            return datetime.fromtimestamp(int(text), UTC)
        found = datetime.fromisoformat(text)
        return found.replace(tzinfo=UTC) if found.tzinfo is None else found.astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        return None
