"""A clock for replays that run faster than real time."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

__all__ = ["ReplayClock"]

_utc_now = partial(datetime.now, UTC)


class ReplayClock:
    """Runs ``speed`` times as fast as real time, so a fast replay shows the recorded durations.

    Args:
        speed: Seconds of this clock per real second.
        monotonic: Real monotonic seconds.
        now: Real wall time, time zone included.
    """

    def __init__(
        self,
        speed: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._speed = speed
        self._monotonic = monotonic
        self._start_seconds = self.seconds()
        self._started_at = now()

    def seconds(self) -> float:
        """Return monotonic seconds."""
        return self._monotonic() * self._speed

    def now(self) -> datetime:
        """Return wall time, time zone included."""
        return self._started_at + timedelta(seconds=self.seconds() - self._start_seconds)
