"""Keeps jobs and their streams in the process: for one process without servers, and for tests."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime

from graph.streams.events import CANCELLED, START, Position, StreamEvent
from graph.streams.port import (
    Acceptance,
    Appended,
    Claim,
    JobNotFoundError,
    JobState,
    JobStatus,
    NewJob,
    Snapshot,
)
from graph.streams.spending import RunSpending, figures_of

__all__ = ["MemoryJobStore"]

_MAX_JOBS = 10_000  # then the oldest are dropped


@dataclass(slots=True)
class _Entry:
    job: NewJob
    state: JobState
    expires_at: float
    events: list[StreamEvent] = field(default_factory=list)
    answer: str = ""
    owner: str = ""
    claim: Claim | None = None
    alone: bool = False
    leased_until: float = 0.0
    cancelled: bool = False
    is_repeated: bool = False
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def last(self) -> Position:
        return self.events[-1].position if self.events else START

    @property
    def is_live(self) -> bool:
        """Whether a run is alive."""
        return self.state.status == "running" and self.leased_until > time.monotonic()

    def spend(self, spending: RunSpending) -> None:
        """Keep what a run costs so far."""
        others = (run for run in self.state.runs if run.trace_id != spending.trace_id)
        self.state = replace(self.state, runs=(*others, spending))


class MemoryJobStore:
    """Keeps jobs and their streams in this process; the in-process twin of ``RedisJobStore``.

    Args:
        keep_seconds: How long a job is kept after its last write.
        max_events: The most events of one stream; older ones are dropped.
    """

    def __init__(
        self,
        *,
        keep_seconds: float = 3600.0,
        max_events: int = 10_000,
    ) -> None:
        self._keep_seconds, self._max_events = keep_seconds, max_events
        self._jobs: OrderedDict[str, _Entry] = OrderedDict()
        self._keys: OrderedDict[tuple[str, str, str], tuple[str, str]] = OrderedDict()

    async def accept(self, job: NewJob) -> Acceptance:
        """Remember a new job and write its ``queued`` event."""
        self._drop_expired()
        key = (job.tenant_id, job.user_id, job.idempotency_key or "")
        if job.idempotency_key is not None and (first := self._keys.get(key)) is not None and first[0] in self._jobs:
            job_id, digest = first
            entry = self._jobs[job_id]
            if digest != job.digest:
                return Acceptance(outcome="conflict", job_id=job_id, published=entry.state.published)
            entry.is_repeated = entry.is_repeated or job_id != job.job_id
            return Acceptance(outcome="repeated", job_id=job_id, published=entry.state.published)
        if job.job_id in self._jobs:
            return Acceptance(outcome="repeated", job_id=job.job_id, published=self._jobs[job.job_id].state.published)
        if job.max_active is not None and job.max_active <= sum(
            entry.state.tenant_id == job.tenant_id and not entry.state.finished for entry in self._jobs.values()
        ):
            return Acceptance(outcome="too_many", job_id=job.job_id)
        entry = self._create(job)
        self._write(entry, [StreamEvent(Position(0, 1), "queued")])
        if job.idempotency_key is not None:
            self._keys[key] = (job.job_id, job.digest)
        return Acceptance(outcome="accepted", job_id=job.job_id)

    async def mark_published(self, job_id: str) -> None:
        """Remember that the queue has the job."""
        if (entry := self._jobs.get(job_id)) is not None:
            entry.state = replace(entry.state, published=True)

    async def withdraw(self, job: NewJob) -> None:
        """Forget a job that could not be handed to the queue, with its idempotency key."""
        entry = self._jobs.get(job.job_id)
        if entry is None or entry.state.run or entry.state.published or entry.is_repeated:
            return
        del self._jobs[job.job_id]
        entry.changed.set()
        self._keys.pop((entry.job.tenant_id, entry.job.user_id, entry.job.idempotency_key or ""), None)

    async def state(self, job_id: str) -> JobState:
        """Return a job's state."""
        return self._find(job_id).state

    async def claim(
        self, job: NewJob, *, owner: str, alone: bool, lease_seconds: float, max_shared_crashes: int
    ) -> Claim:
        """Begin a run, unless the job has its outcome, another run is alive, or the user has cancelled it."""
        entry = self._jobs.get(job.job_id) or self._create(job)
        state, now = entry.state, time.monotonic()
        if state.finished:
            return Claim(outcome="finished", is_dead=state.status == "dead", run=state.run, runs=state.runs)
        died = state.status == "running"
        if died and entry.owner == owner and entry.claim is not None:
            entry.leased_until = now + lease_seconds
            return entry.claim
        if entry.is_live:
            return Claim(outcome="held", run=state.run, held_seconds=entry.leased_until - now)
        if entry.cancelled:
            await self.finish(job, "cancelled", CANCELLED)
            return Claim(outcome="finished", run=state.run, runs=state.runs)
        crashes = state.crashes + died
        if crashes > max_shared_crashes and not alone:
            return Claim(outcome="suspect", run=state.run, crashes=crashes)
        crashes_alone = state.crashes_alone + (died and entry.alone)
        run = state.run + 1
        entry.state = replace(state, published=True, crashes=crashes, crashes_alone=crashes_alone)
        self._begin(entry, run, owner=owner, alone=alone, lease_seconds=lease_seconds)
        entry.claim = Claim(
            outcome="started",
            run=run,
            owner=owner,
            crashes=crashes,
            crashes_alone=crashes_alone,
            dead_run=state.run if died else 0,
            runs=state.runs,
            accepted_at=state.accepted_at,
        )
        return entry.claim

    async def append(
        self,
        job: NewJob,
        run: int,
        events: Sequence[StreamEvent],
        *,
        owner: str,
        lease_seconds: float,
        status: JobStatus = "running",
        spending: RunSpending | None = None,
    ) -> Appended:
        """Write events of a run in order and renew its lease."""
        entry = self._jobs.get(job.job_id)
        if entry is None:
            return Appended(outcome="missing")
        if spending is not None:
            entry.spend(spending)
        if entry.state.run < run and not entry.state.finished:
            return Appended(outcome="missing")  # it has lost this run's claim
        if entry.state.run != run or entry.owner != owner or entry.state.status == "queued":
            return Appended(outcome="fenced")
        last = entry.last.seq
        if events and events[0].position.seq > last + 1:
            return Appended(outcome="behind", last=last)
        new = [event for event in events if event.position.seq > last]
        if entry.state.finished and new:
            return Appended(outcome="fenced")
        entry.leased_until = time.monotonic() + lease_seconds
        entry.state = replace(
            entry.state,
            status=status if not entry.state.finished else entry.state.status,
        )
        self._write(entry, new)
        return Appended(outcome="ok", last=entry.last.seq, cancelled=entry.cancelled)

    async def restore(
        self, job: NewJob, run: int, *, owner: str, lease_seconds: float, runs: Sequence[RunSpending] = ()
    ) -> None:
        """Create a running job again that the store has lost, or its run if only that is lost."""
        entry = self._jobs.get(job.job_id) or self._create(job)
        if entry.state.finished or entry.state.run >= run:
            return
        entry.state = replace(entry.state, published=True)
        for spending in runs:
            entry.spend(spending)
        self._begin(entry, run, owner=owner, alone=False, lease_seconds=lease_seconds)

    async def hand_back(self, job_id: str, run: int, *, owner: str, spending: RunSpending | None = None) -> None:
        """End a run without an outcome."""
        entry = self._jobs.get(job_id)
        if entry is None:
            return
        if spending is not None:
            entry.spend(spending)
        if entry.state.run == run and entry.owner == owner and entry.state.status == "running":
            entry.state = replace(entry.state, status="queued")

    async def finish(self, job: NewJob, status: JobStatus, event: StreamEvent) -> JobState:
        """Give a job without a live run its outcome."""
        entry = self._jobs.get(job.job_id) or self._create(job)
        if not entry.state.finished and not entry.is_live:
            entry.state = replace(entry.state, status=status)
            entry.owner = ""  # the dead run is fenced, should its worker wake up
            event = event.with_figures(figures_of(entry.state.runs))
            self._write(entry, [replace(event, position=Position(entry.last.run, entry.last.seq + 1))])
        return entry.state

    async def cancel(self, job_id: str, event: StreamEvent) -> JobState:
        """Cancel a job: one without a live run at once, a running one by its worker."""
        entry = self._find(job_id)
        entry.cancelled = entry.cancelled or entry.is_live
        return await self.finish(entry.job, "cancelled", event)

    async def reopen(self, job_id: str, *, accepted_at: datetime) -> None:
        """Let a dead job run again, with its crashes forgotten."""
        entry = self._find(job_id)
        if entry.state.status == "dead":
            entry.state = replace(entry.state, status="queued", crashes=0, crashes_alone=0, result={})
            entry.events = [event for event in entry.events if not event.is_last]
        if not entry.state.finished:
            entry.state = replace(entry.state, accepted_at=accepted_at)
            entry.expires_at = time.monotonic() + self._keep_seconds

    async def read(self, job_id: str, after: Position, *, wait_seconds: float) -> Sequence[StreamEvent]:
        """Return the events after a position."""
        until = time.monotonic() + wait_seconds
        while True:
            entry = self._jobs.get(job_id)
            if entry is None:
                return ()
            if found := [event for event in entry.events if event.position > after]:
                return found
            changed = entry.changed
            try:
                async with asyncio.timeout(max(0.0, until - time.monotonic())):
                    await changed.wait()
            except TimeoutError:
                return ()

    async def snapshot(self, job_id: str) -> Snapshot:
        """Return the state so far and its position."""
        entry = self._find(job_id)
        last_event = entry.events[-1] if entry.events and entry.events[-1].is_last else None
        return Snapshot(position=entry.last, status=entry.state.status, answer=entry.answer, last_event=last_event)

    async def ping(self) -> None:
        """Do nothing: the process is the store."""

    async def aclose(self) -> None:
        """Wake up all readers."""
        for entry in self._jobs.values():
            entry.changed.set()

    def _create(self, job: NewJob) -> _Entry:
        state = JobState(
            job_id=job.job_id,
            status="queued",
            tenant_id=job.tenant_id,
            user_id=job.user_id,
            session_id=job.session_id,
            accepted_at=job.accepted_at,
        )
        entry = self._jobs[job.job_id] = _Entry(job, state, time.monotonic() + self._keep_seconds)
        while len(self._jobs) > _MAX_JOBS:
            _, dropped = self._jobs.popitem(last=False)
            dropped.changed.set()
        return entry

    def _begin(self, entry: _Entry, run: int, *, owner: str, alone: bool, lease_seconds: float) -> None:
        """Begin a run of a job. The tokens of an older one are of no use."""
        entry.state = replace(entry.state, status="running", run=run)
        entry.owner, entry.alone, entry.leased_until = owner, alone, time.monotonic() + lease_seconds
        entry.answer = ""
        entry.events = [event for event in entry.events if event.position.run == 0]
        self._write(entry, [StreamEvent(Position(run, 0), "started")])

    def _find(self, job_id: str) -> _Entry:
        self._drop_expired()
        if (entry := self._jobs.get(job_id)) is None:
            raise JobNotFoundError(job_id)
        return entry

    def _write(self, entry: _Entry, events: Sequence[StreamEvent]) -> None:
        entry.expires_at = time.monotonic() + self._keep_seconds
        for event in events:
            entry.events.append(event)
            entry.answer += event.text
            if event.is_last:
                entry.state = replace(entry.state, result=event.data)
        del entry.events[: max(0, len(entry.events) - self._max_events)]
        if events:
            entry.changed.set()
            entry.changed = asyncio.Event()

    def _drop_expired(self) -> None:
        now = time.monotonic()
        for job_id in [job_id for job_id, entry in self._jobs.items() if entry.expires_at <= now]:
            self._jobs.pop(job_id).changed.set()
        for key in [key for key, (job_id, _) in self._keys.items() if job_id not in self._jobs]:
            del self._keys[key]
