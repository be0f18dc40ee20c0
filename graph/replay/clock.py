"""The time of a replay: it passes only while recorded answers are waited for, so it equals the recording's."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import selectors
import threading
import time
from collections.abc import Callable
from concurrent.futures import Executor
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, TypeVar, TypeVarTuple, Unpack

__all__ = ["ReplayClock", "ReplayLoop"]

_Arguments = TypeVarTuple("_Arguments")
_Result = TypeVar("_Result")
_utc_now = partial(datetime.now, UTC)


class ReplayClock:
    """Counts recorded seconds. What this process computes takes none of them: durations are exact at any speed.

    A coroutine waits by :meth:`sleep_until`. While all coroutines of a :class:`ReplayLoop` wait, the loop lets real
    time pass: the recorded time divided by ``speed``. Then it moves the clock to the earliest moment waited for.

    Args:
        speed: Recorded seconds per real second; above 0.
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
        self._started_at = now()
        self._lock = threading.Lock()  # a view reads the time on another thread
        self._seconds = 0.0
        self._moved = monotonic()
        self._order = itertools.count()
        # Recorded second, order, real time before which it does not come, and who waits.
        self._waiting: list[tuple[float, int, float, asyncio.Future[None]]] = []

    def seconds(self) -> float:
        """Return the recorded seconds that have passed."""
        return self._seconds

    def now(self) -> datetime:
        """Return the start's wall time plus :meth:`seconds`."""
        return self._started_at + timedelta(seconds=self._seconds)

    def now_between(self) -> datetime:
        """Return the time for a view that is redrawn: it also moves on between two recorded moments."""
        with self._lock:
            passed = (self._monotonic() - self._moved) * self._speed
            limit = self._waiting[0][0] - self._seconds if self._waiting else 0.0
            return self._started_at + timedelta(seconds=self._seconds + max(0.0, min(passed, limit)))

    def real_seconds(self, recorded_seconds: float) -> float:
        """Return how long a recorded duration takes here."""
        return recorded_seconds / self._speed

    async def sleep_until(self, seconds: float, *, not_before: float) -> None:
        """Wait for a moment of this clock. Only a :class:`ReplayLoop` lets it come.

        Args:
            seconds: The moment.
            not_before: Real monotonic seconds before which it does not come.
        """
        moment: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            heapq.heappush(self._waiting, (seconds, next(self._order), not_before, moment))
        await moment

    def move_to(self, seconds: float) -> None:
        """Move on to a moment, for code that waits without a loop. The clock never goes back."""
        with self._lock:
            self._seconds = max(self._seconds, seconds)
            self._moved = self._monotonic()

    def next_wait(self) -> float | None:
        """Return the real seconds until the earliest moment that is waited for may come; None if none is."""
        with self._lock:
            while self._waiting and self._waiting[0][3].done():  # its coroutine was cancelled
                heapq.heappop(self._waiting)
            return max(0.0, self._waiting[0][2] - self._monotonic()) if self._waiting else None

    def advance(self) -> None:
        """Move on to the earliest moment that is waited for, and wake who waits for it."""
        with self._lock:
            seconds, _, _, moment = heapq.heappop(self._waiting)
        self.move_to(seconds)
        moment.set_result(None)


class ReplayLoop(asyncio.SelectorEventLoop):
    """An event loop in which a replay's clock moves on whenever nothing else is left to do.

    Args:
        clock: The clock.
    """

    def __init__(self, clock: ReplayClock) -> None:
        self._in_executor = 0
        super().__init__(_ReplaySelector(clock, lambda: self._in_executor == 0))

    def run_in_executor(
        self, executor: Executor | None, func: Callable[[Unpack[_Arguments]], _Result], *args: *_Arguments
    ) -> asyncio.Future[_Result]:
        """Run a function on another thread. The clock stands still meanwhile."""
        self._in_executor += 1
        try:
            future = super().run_in_executor(executor, func, *args)
        except BaseException:
            self._in_executor -= 1
            raise
        future.add_done_callback(self._leave_executor)
        return future

    def _leave_executor(self, _: asyncio.Future[Any]) -> None:
        self._in_executor -= 1


class _ReplaySelector(selectors.DefaultSelector):
    """Waits for input and output like its base. A loop that would wait is idle: then the clock may move on."""

    def __init__(self, clock: ReplayClock, is_idle: Callable[[], bool]) -> None:
        super().__init__()
        self._clock = clock
        self._is_idle = is_idle

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        wait = self._clock.next_wait() if timeout is None or timeout > 0 else None
        if wait is None or not self._is_idle():
            return super().select(timeout)
        if timeout is not None and timeout < wait:
            return super().select(timeout)
        if ready := super().select(wait):
            return ready
        self._clock.advance()
        return []
