"""Finds the backend that a URL or a path names."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from eco2_callbacks.errors import ConfigError

if TYPE_CHECKING:
    from eco2_callbacks.ledger.backends.protocol import Backend

__all__ = ["backend_of"]

_WANTED = (
    "a path, 'sqlite:///eco2.db', 'postgresql://user:password@host/database' or "
    "'clickhouse://user:password@host:8123/database'"
)
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")


def backend_of(url: str | Path) -> Backend:
    """Return the backend of a URL; a text without a scheme is the path of a SQLite file.

    Raises:
        ConfigError: If the URL names no backend that this package knows.
    """
    if isinstance(url, Path):
        return _sqlite(url)
    if not isinstance(url, str) or not url.strip():
        raise ConfigError(f"The ledger is {url!r}, wanted {_WANTED}.")
    url = url.strip()
    found = _SCHEME.match(url)
    if found is None:
        if re.match(r"[a-z]+:", url):
            raise ConfigError(f"The ledger is {url!r}, wanted {_WANTED}.")
        return _sqlite(Path(url))
    # Imported here: an application without a ledger does not load SQLAlchemy.
    scheme = found.group(1).lower().partition("+")[0]
    match scheme:
        case "sqlite":
            path = url[found.end() :].partition("?")[0].removeprefix("/")
            if path in ("", ":memory:"):
                raise ConfigError(
                    f"The ledger is {url!r}, which keeps nothing; name a file, as in 'sqlite:///eco2.db'."
                )
            return _sqlite(Path(path))
        case "postgres" | "postgresql":
            from eco2_callbacks.ledger.backends.postgres import PostgresBackend  # noqa: PLC0415

            return PostgresBackend(url)
        case "clickhouse" | "clickhouses" | "clickhousedb":
            from eco2_callbacks.ledger.backends.clickhouse import ClickHouseBackend  # noqa: PLC0415

            return ClickHouseBackend(url)
    raise ConfigError(f"The ledger's URL begins with {found.group(1)!r}, wanted {_WANTED}.")


def _sqlite(path: Path) -> Backend:
    from eco2_callbacks.ledger.backends.sqlite import SQLiteBackend  # noqa: PLC0415

    return SQLiteBackend(path.expanduser().absolute())
