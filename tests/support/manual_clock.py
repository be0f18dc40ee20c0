"""A clock that a test advances."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

STARTED_AT = datetime(2026, 11, 21, 9, tzinfo=UTC)


class ManualClock:
    """A clock that a test advances."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def now(self) -> datetime:
        return STARTED_AT + timedelta(seconds=self.seconds)
