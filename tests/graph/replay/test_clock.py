"""The clock of a replay: recorded seconds pass only while recorded answers are waited for."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from pathlib import Path

import httpx
import pytest

from graph.replay import ReplayClock, ReplayLoop, replay
from tests.support.http_cassettes import URL, write_cassette
from tests.support.manual_clock import STARTED_AT, ManualClock


def busy(seconds: float) -> None:
    """Compute for a while."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        pass


@pytest.mark.parametrize("speed", [0.5, 1, 20, 1000])
def test_durations_are_the_recording_s_at_any_speed(speed: float, tmp_path: Path) -> None:
    """What this process computes takes no recorded time, before, between and after the chunks of an answer."""
    path = write_cassette(tmp_path / "c.yaml", ["data: 12\n\n"] * 2, first=0.1, offsets=[(0.12, 5), (0.2, 10)])
    clock = ReplayClock(speed)
    seen: list[float] = []

    async def ask() -> None:
        async with httpx.AsyncClient() as client, client.stream("POST", URL, json={}) as response:
            busy(0.03)
            seen.append(clock.seconds())
            async for _ in response.aiter_raw():
                busy(0.03)
                seen.append(clock.seconds())

    async def ask_twice() -> None:
        await ask()
        await ask()

    with replay(path, clock=clock), asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner:
        runner.run(ask_twice())

    assert seen == pytest.approx([0.1, 0.12, 0.2, 0.3, 0.32, 0.4])


def test_parallel_answers_come_in_their_recorded_order(tmp_path: Path) -> None:
    """The later answer is not early because its branch computes less; together they take as long as the longer one."""
    clock = ReplayClock(1000)
    order: list[tuple[str, float]] = []

    async def branch(name: str, *seconds: float) -> None:
        for each in seconds:
            # Work on another thread takes no recorded time either.
            await asyncio.to_thread(busy, 0.02)
            await clock.sleep_until(clock.seconds() + each, not_before=0)
            order.append((name, round(clock.seconds(), 6)))

    async def both() -> None:
        await asyncio.gather(branch("long", 0.4, 0.4), branch("short", 0.1, 0.2, 0.3))

    with asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner:
        runner.run(both())

    assert order == [("short", 0.1), ("short", 0.3), ("long", 0.4), ("short", 0.6), ("long", 0.8)]


def test_real_time_passes_at_the_speed() -> None:
    """A recorded second takes its real time divided by the speed, no less."""
    clock = ReplayClock(4)

    async def wait() -> None:
        await clock.sleep_until(0.4, not_before=time.monotonic() + clock.real_seconds(0.4))

    began = time.monotonic()
    with asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner:
        runner.run(wait())

    assert time.monotonic() - began >= 0.1
    assert clock.seconds() == 0.4


def test_a_cancelled_wait_does_not_move_the_clock() -> None:
    """Whoever stopped waiting leaves the other moments as they are; timers of the loop still work."""
    clock = ReplayClock(1000)

    async def cancel_one() -> None:
        waiting = asyncio.ensure_future(clock.sleep_until(0.1, not_before=time.monotonic() + 3600))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await clock.sleep_until(0.5, not_before=0)

    with asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner:
        runner.run(cancel_one())

    assert clock.seconds() == 0.5


def test_wall_time_follows_and_a_view_moves_between_two_moments() -> None:
    """Records are stamped with recorded moments only; a view that is redrawn also shows what lies between."""
    real = ManualClock()
    clock = ReplayClock(8, monotonic=lambda: real.seconds, now=lambda: STARTED_AT)

    async def look() -> None:
        waiting = asyncio.ensure_future(clock.sleep_until(2.0, not_before=real.seconds))
        await asyncio.sleep(0)
        real.seconds += 0.125
        assert clock.now() == STARTED_AT
        assert clock.now_between() == STARTED_AT + timedelta(seconds=1)
        real.seconds += 10
        assert clock.now_between() == STARTED_AT + timedelta(seconds=2)
        await waiting

    with asyncio.Runner(loop_factory=lambda: ReplayLoop(clock)) as runner:
        runner.run(look())

    assert clock.now() == clock.now_between() == STARTED_AT + timedelta(seconds=2)
