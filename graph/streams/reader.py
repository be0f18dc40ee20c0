"""Reads a job's stream to its end, across lost connections, lost data and trimmed streams."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Literal, TypeAlias

from graph.streams.events import START, Position, StreamEvent
from graph.streams.port import JobNotFoundError, JobStore, Snapshot, StoreUnavailableError

__all__ = ["OnRecovery", "follow"]

OnRecovery: TypeAlias = Callable[[Literal["catch_up", "snapshot"], Literal["success", "error"]], None]
"""Receives each recovery of a reader: how, and whether it worked."""

_WAIT_SECONDS = 2.0  # of one read
_RETRY_SECONDS = 0.2
_GIVE_UP_SECONDS = 60.0  # without a store, or without a trace of the job

_logger = logging.getLogger(__name__)


def _ignore(*_: object) -> None:
    """Count nothing."""


def _events_of(snapshot: Snapshot) -> Iterator[StreamEvent]:
    """Yield the state so far as an event, and the last event if there is one: it has an id of its own."""
    data = {"answer": snapshot.answer, "status": snapshot.status}
    position, last = snapshot.position, snapshot.last_event
    yield StreamEvent(position if last is None else Position(position.run, position.seq - 1), "snapshot", data)
    if last is not None:
        yield last


async def follow(
    store: JobStore,
    job_id: str,
    *,
    after: Position | None = None,
    on_recovery: OnRecovery = _ignore,
    give_up_seconds: float = _GIVE_UP_SECONDS,
) -> AsyncIterator[StreamEvent]:
    """Yield a job's events in order until its last one, none lost and none twice.

    A reader that lost its connection names the last event it has. If all later events are still there, they follow:
    ``catch_up``. Else a ``snapshot`` event replaces what the reader has.

    Args:
        store: The store.
        job_id: The job.
        after: The last event that the reader has; None for a new reader.
        on_recovery: Called once per recovery.
        give_up_seconds: How long to wait for a store that does not answer, or for a job that is gone.
    """
    position = after or START
    recovering = after is not None
    beyond = after is not None  # whether the position may lie beyond the stream's end
    finished = False
    quiet_since: float | None = None
    while True:
        try:
            if beyond:
                beyond = position > (await store.snapshot(job_id)).position
            wait_seconds = 0.0 if recovering or finished else _WAIT_SECONDS
            events = () if beyond else await store.read(job_id, position, wait_seconds=wait_seconds)
            if beyond or (events and not position.is_followed_by(events[0].position)):
                snapshot = await store.snapshot(job_id)
                events = list(_events_of(snapshot))
                on_recovery("snapshot", "success")
                recovering = beyond = False
            elif recovering:
                on_recovery("catch_up", "success")
                recovering = False
            elif not events:
                if finished:
                    return  # the reader has the last event already
                finished = (await store.state(job_id)).finished
        except (StoreUnavailableError, JobNotFoundError) as error:
            quiet_since = quiet_since or time.monotonic()
            if time.monotonic() - quiet_since >= give_up_seconds:
                _logger.error("A reader of job %s gives up: %s.", job_id, error or type(error).__name__)
                on_recovery("catch_up", "error")
                return
            recovering = True
            await asyncio.sleep(_RETRY_SECONDS)
            continue
        quiet_since = None
        for event in events:
            yield event
            position = event.position
            if event.is_last:
                return
