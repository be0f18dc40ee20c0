"""Writes the events of one run to its stream, in the background and in batches."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from graph.streams.encoding import encodable
from graph.streams.events import EventKind, Position, StreamEvent
from graph.streams.port import JobNotFoundError, JobStatus, JobStore, NewJob, StoreUnavailableError
from graph.streams.spending import RunSpending, figures_of

__all__ = ["Publisher"]

_MAX_BATCH = 200
_MERGE_ABOVE = 50  # unsent events; beyond, pieces of the answer are joined
_CONTENT = frozenset({"answer", "images", "intent", "detail"})  # of the last event; the rest are figures
_RETRY_SECONDS = (0.05, 0.5)  # the first and the longest wait

_logger = logging.getLogger(__name__)


def _ignore(*_: object) -> None:
    """Count nothing."""


class Publisher:
    """Writes the events of one run in order, each exactly once. No caller waits for the store.

    It keeps the events of its run. If the store is away, it writes them later; if the store has lost them, again.

    Args:
        store: The store.
        job: The job.
        run: The run's number.
        owner: The owner of the run.
        lease_seconds: How long the run counts as alive without a write. It is renewed at a third of that.
        earlier: What the job's earlier runs cost.
        on_written: Receives the node of each written token, and the seconds that its write took.
        max_batch: The most events of one write.

    Attributes:
        run: The run's number.
        fenced: Set when a newer run owns the job: nothing more is written.
        cancelled: Set when the user has cancelled the job, or an event cannot be written: the run shall end.
    """

    def __init__(
        self,
        store: JobStore,
        job: NewJob,
        run: int,
        *,
        owner: str,
        lease_seconds: float,
        earlier: Sequence[RunSpending] = (),
        on_written: Callable[[str, float], None] = _ignore,
        max_batch: int = _MAX_BATCH,
    ) -> None:
        self.run = run
        self._store, self._job, self._owner, self._earlier = store, job, owner, earlier
        self._max_batch = max_batch
        self._lease_seconds, self._on_written = lease_seconds, on_written
        self._events: list[StreamEvent] = []
        self._sent = 0  # number of events that the store has
        self._frozen = 0  # number of events that were in any attempt: these must not change
        self._status: JobStatus = "running"
        self._spending: RunSpending | None = None
        self._stored: RunSpending | None = None  # what the store has of it
        self._wake = asyncio.Event()
        self._failing = False
        self._broken: dict[str, str] = {}  # the outcome of a run with an event that cannot be written
        self.fenced = asyncio.Event()
        self.cancelled = asyncio.Event()
        self._task = asyncio.create_task(self._write_all())

    def put(self, kind: EventKind, **data: Any) -> None:
        """Add an event. Only for the event loop's thread."""
        if self._broken and kind not in {"done", "error"}:
            return
        data = encodable(data)  # a model may stream half of a character
        last = self._events[-1] if self._events else None
        if (
            kind == "token"
            and last is not None
            and last.kind == "token"
            and last.data["node"] == data["node"]
            and len(self._events) > max(self._frozen, self._sent + _MERGE_ABOVE)
        ):
            self._events[-1] = replace(last, data={**last.data, "text": last.text + data["text"]})
            return
        self._events.append(StreamEvent(Position(self.run, len(self._events) + 1), kind, data))
        self._wake.set()

    def set_spending(self, spending: RunSpending) -> None:
        """Store what the run costs so far with the next write. Only for the event loop's thread."""
        self._spending = spending
        self._wake.set()

    @property
    def spending(self) -> RunSpending | None:
        """What the run costs so far; None before the graph has started."""
        return self._spending

    @property
    def has_tokens(self) -> bool:
        """Whether any piece of the answer was added."""
        return any(event.kind == "token" for event in self._events)

    async def finish(self, kind: EventKind, status: JobStatus, **data: Any) -> bool:
        """Write the last event, with what all runs cost, and wait until the store has everything.

        Args:
            kind: ``done`` or ``error``.
            status: The job's outcome.
            data: The event's data.

        Returns:
            Whether it was written; False if a newer run owns the job.
        """
        own = [self._spending] if self._spending is not None else []
        if self._earlier:  # one of them may have written more since: its worker was alive after all
            with suppress(StoreUnavailableError, JobNotFoundError):
                runs = (await self._store.state(self._job.job_id)).runs
                self._earlier = [run for run in runs if run.trace_id not in {one.trace_id for one in own}]
        if self._broken:
            kind, status, data = "error", "error", self._broken_data(data)
        self.put(kind, **data, **figures_of([*self._earlier, *own]))
        self._status = status
        self._wake.set()
        await asyncio.gather(self._task)
        return not self.fenced.is_set()

    async def store_spending(self) -> None:
        """Store what a fenced run costs: its last calls end after a newer run has taken the job.

        Raises:
            StoreUnavailableError: If the store does not answer.
        """
        await self._store.append(
            self._job, self.run, (), owner=self._owner, lease_seconds=self._lease_seconds, spending=self._spending
        )

    async def stop(self) -> None:
        """Write nothing more."""
        self._task.cancel()
        with suppress(asyncio.CancelledError):
            await self._task

    async def _write_all(self) -> None:
        wait_seconds = _RETRY_SECONDS[0]
        while True:
            if self._sent == len(self._events):
                with suppress(TimeoutError):
                    async with asyncio.timeout(self._lease_seconds / 3):
                        await self._wake.wait()
            self._wake.clear()
            try:
                if await self._write_batch():
                    return
            except StoreUnavailableError as error:
                if not self._failing:
                    self._failing = True
                    _logger.warning("Job %s cannot be written, it is tried again: %s.", self._job.job_id, error)
                await asyncio.sleep(wait_seconds)
                wait_seconds = min(2 * wait_seconds, _RETRY_SECONDS[1])
            except Exception as error:
                if self._broken:
                    raise
                self._give_up(error)
            else:
                self._failing, wait_seconds = False, _RETRY_SECONDS[0]

    def _give_up(self, error: Exception) -> None:
        """End the run with an error, once: without an outcome another worker would run it, and pay for it, again."""
        _logger.error("Job %s has an event that cannot be written.", self._job.job_id, exc_info=error)
        self._broken = {"type": type(error).__name__, "title": "The answer cannot be written"}
        last = self._events[-1] if self._events else None
        del self._events[self._sent :]
        self._frozen = self._sent
        if last is not None and last.is_last:
            position = Position(last.position.run, self._sent + 1)
            self._events.append(StreamEvent(position, "error", self._broken_data(last.data)))
            self._status = "error"
        self.cancelled.set()

    def _broken_data(self, data: Mapping[str, Any]) -> dict[str, Any]:
        return {name: value for name, value in data.items() if name not in _CONTENT} | self._broken

    async def _write_batch(self) -> bool:
        """Write the next events and return whether nothing follows."""
        batch = self._events[self._sent : self._sent + self._max_batch]
        self._frozen = max(self._frozen, self._sent + len(batch))
        ends = self._status != "running" and self._sent + len(batch) == len(self._events)
        spending = self._spending
        began = time.perf_counter()
        written = await self._store.append(
            self._job,
            self.run,
            batch,
            owner=self._owner,
            lease_seconds=self._lease_seconds,
            status=self._status if ends else "running",
            spending=spending if spending is not self._stored else None,
        )
        seconds = time.perf_counter() - began
        if written.cancelled:
            self.cancelled.set()
        match written.outcome:
            case "fenced":
                self.fenced.set()
                return True
            case "missing":
                _logger.warning("Job %s is gone from the store; its events are written again.", self._job.job_id)
                await self._store.restore(
                    self._job, self.run, owner=self._owner, lease_seconds=self._lease_seconds, runs=self._earlier
                )
                self._sent, self._stored = 0, None
            case "behind":
                _logger.warning("Job %s has lost its last events; they are written again.", self._job.job_id)
                self._sent, self._stored = written.last, None
            case "ok":
                self._stored = spending
                for event in batch:
                    if event.kind == "token":
                        self._on_written(event.data["node"], seconds)
                self._sent += len(batch)
                return ends and self._sent == len(self._events)
        return False
