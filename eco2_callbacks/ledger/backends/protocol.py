"""Backend: what every store of a ledger can do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from eco2_callbacks.ledger.rows import Row

if TYPE_CHECKING:
    from sqlalchemy.engine import Engine

__all__ = ["Backend", "Rows"]

# Rows by table, each in the order of ``TABLES``' columns.
Rows = Mapping[str, Sequence[Row]]


class Backend(Protocol):
    """A store. Constructors open nothing.

    Attributes:
        name: ``sqlite``, ``postgres`` or ``clickhouse``: the label ``backend`` of the ledger's metrics.
        shown_url: Its URL without the password.
        ship_seconds: How long rows are gathered before they are sent.
        local_path: The file, where the store is a local file; None where it is a server.
    """

    name: str
    shown_url: str
    ship_seconds: float
    local_path: Path | None

    def engine(self) -> Engine:
        """Return the engine that reads, and that migrations use.

        Raises:
            LedgerError: If the backend's extra is not installed.
        """

    def store(self, batches: Sequence[Rows]) -> None:
        """Add rows in one go. A row whose key is there already is left as it is."""

    def refuses(self, error: Exception) -> bool:
        """Return whether an error of ``store`` lies in the rows, so that sending them again is of no use."""

    def reset(self) -> None:
        """Drop the connection: the next call makes a new one."""

    def after_fork_in_child(self) -> None:
        """Leave the parent's connections alone."""

    def delete_before(self, at: datetime) -> int:
        """Delete all rows that started before a time; return how many calls they were."""

    def forget(self, user_id: str) -> int:
        """Erase a user's identifiers from all rows; return how many calls lost theirs. Usage and dollars stay."""

    def close(self) -> None:
        """Close all connections."""
