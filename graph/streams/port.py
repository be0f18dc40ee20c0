"""The port of job state and job streams. One implementation keeps both in Redis, one in the process."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Literal, Protocol, TypeAlias

from graph.streams.events import Position, StreamEvent
from graph.streams.spending import RunSpending

__all__ = [
    "Acceptance",
    "Appended",
    "Claim",
    "JobNotFoundError",
    "JobState",
    "JobStatus",
    "JobStore",
    "NewJob",
    "Snapshot",
    "StoreUnavailableError",
]

JobStatus: TypeAlias = Literal["queued", "running", "done", "error", "cancelled", "dead"]


class JobNotFoundError(LookupError):
    """No such job, or it has expired."""


class StoreUnavailableError(RuntimeError):
    """The store does not answer or cannot be written. The same call may be repeated: none has an effect twice."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NewJob:
    """What the store remembers of a job when it is accepted.

    Attributes:
        job_id: The job.
        tenant_id: Who pays. Only this tenant and user can see the job.
        user_id: Who asks.
        session_id: The conversation.
        accepted_at: When the question was accepted.
        idempotency_key: A repeated request with this key of the same tenant and user gets the first job.
        digest: Hash of the request's body, to tell a repetition from another request.
        max_active: The most unfinished jobs of the tenant; None for any number.
    """

    job_id: str
    tenant_id: str = ""
    user_id: str = ""
    session_id: str = ""
    accepted_at: datetime
    idempotency_key: str | None = None
    digest: str = ""
    max_active: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Acceptance:
    """What became of a request.

    Attributes:
        outcome: ``accepted``; ``repeated``, the key belongs to ``job_id``; ``conflict``, the key belongs to another
            request; ``too_many`` jobs of this tenant are unfinished.
        job_id: The job to answer with.
        published: Whether the job has already been handed to the queue.
    """

    outcome: Literal["accepted", "repeated", "conflict", "too_many"]
    job_id: str
    published: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """Whether a worker may run a job.

    Attributes:
        outcome: ``started``; ``finished``, it has its outcome; ``held`` by a run that is alive; ``suspect``, it was
            running when its workers died and must run alone.
        run: The number of the run, which every write needs.
        owner: The run's owner, which every write needs too; for ``started``.
        is_dead: For ``finished``: whether the job became a dead letter.
        crashes: How many runs have ended with the death of their worker.
        crashes_alone: How many of these ran alone, so that no other job can be the reason.
        dead_run: The run that died just before this one; 0 if none did.
        runs: What earlier runs of this job cost, as far as they have written it; for ``started`` and ``finished``.
        held_seconds: For ``held``: how long the other run's lease lasts.
        accepted_at: When the question was accepted.
    """

    outcome: Literal["started", "finished", "held", "suspect"]
    run: int = 0
    owner: str = ""
    is_dead: bool = False
    crashes: int = 0
    crashes_alone: int = 0
    dead_run: int = 0
    runs: Sequence[RunSpending] = ()
    held_seconds: float = 0.0
    accepted_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Appended:
    """What became of a write.

    Attributes:
        outcome: ``ok``; ``fenced``, a newer run owns the job; ``behind``, the store has lost events after ``last``
            (``missing`` when it has lost the job or this run), so they must be written again.
        last: The last event of this run in the store.
        cancelled: Whether the user has cancelled the job.
    """

    outcome: Literal["ok", "fenced", "behind", "missing"]
    last: int = -1
    cancelled: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class JobState:
    """What is known of a job.

    Attributes:
        result: Data of the last event; empty while the job is unfinished.
        runs: What each run costs, as far as it has written it.
    """

    job_id: str
    status: JobStatus
    tenant_id: str = ""
    user_id: str = ""
    session_id: str = ""
    run: int = 0
    crashes: int = 0
    crashes_alone: int = 0
    accepted_at: datetime | None = None
    published: bool = False
    result: Mapping[str, Any] = field(default_factory=dict)
    runs: Sequence[RunSpending] = ()

    @property
    def trace_id(self) -> str | None:
        """The run id of the newest run's root; None before the graph has started."""
        newest = max(self.runs, key=lambda run: (run.run, run.started_at), default=None)
        return newest.trace_id if newest is not None else None

    @property
    def finished(self) -> bool:
        """Whether the job has its outcome."""
        return self.status not in {"queued", "running"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The state of a stream at a position: reading on from there misses nothing."""

    position: Position
    status: JobStatus
    answer: str
    last_event: StreamEvent | None = None


class JobStore(Protocol):
    """Job state and job streams, shared by all API and worker processes.

    Every method raises StoreUnavailableError when the store does not answer.
    """

    async def accept(self, job: NewJob) -> Acceptance:
        """Remember a new job and write its ``queued`` event."""

    async def mark_published(self, job_id: str) -> None:
        """Remember that the queue has the job."""

    async def withdraw(self, job: NewJob) -> None:
        """Forget a job that could not be handed to the queue, with its idempotency key.

        Nothing happens if the queue has it all the same, or if a repeated request hands it to the queue too.
        """

    async def state(self, job_id: str) -> JobState:
        """Return a job's state.

        Raises:
            JobNotFoundError: If there is no such job.
        """

    async def claim(
        self, job: NewJob, *, owner: str, alone: bool, lease_seconds: float, max_shared_crashes: int
    ) -> Claim:
        """Begin a run, unless the job has its outcome or another run is alive. Creates the state of an unknown job.

        A job that the user has cancelled while its worker died or handed it back gets its outcome instead of a run.

        Args:
            job: The job, as its message describes it.
            owner: A name for this one claim. If it is repeated under this name, since its reply was lost, it gets the
                run that it began.
            alone: Whether it will run without other jobs beside it.
            lease_seconds: How long the run counts as alive without a renewal.
            max_shared_crashes: After more crashes than this, the job is a ``suspect`` unless it runs alone.
        """

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
        """Write events of a run in order and renew its lease. Events that are already there are left out.

        What the run costs is stored even if a newer run owns the job: both are paid.

        Args:
            job: The job.
            run: The run that writes.
            events: Consecutive events; may be empty, to renew the lease only.
            owner: The owner of the run.
            lease_seconds: How long the run counts as alive from now on.
            status: The job's status after these events.
            spending: What this run costs so far; None leaves it.
        """

    async def restore(
        self, job: NewJob, run: int, *, owner: str, lease_seconds: float, runs: Sequence[RunSpending] = ()
    ) -> None:
        """Create a running job again that the store has lost, or its run if only that is lost.

        Its events follow by :meth:`append`. Nothing happens if the job has its outcome, this run or a newer one.

        Args:
            job: The job.
            run: The run that writes.
            owner: The owner of the run.
            lease_seconds: How long the run counts as alive from now on.
            runs: What the earlier runs cost.
        """

    async def hand_back(self, job_id: str, run: int, *, owner: str, spending: RunSpending | None = None) -> None:
        """End a run without an outcome: the job is queued again and the run is no crash."""

    async def finish(self, job: NewJob, status: JobStatus, event: StreamEvent) -> JobState:
        """Give a job without a live run its outcome, such as a malformed one. Creates the state of an unknown job.

        ``event`` is written at the next position, with the figures of all runs. Nothing happens if the job has its
        outcome or a live run. Returns the state.
        """

    async def cancel(self, job_id: str, event: StreamEvent) -> JobState:
        """Cancel a job: one without a live run at once, with this event; a running one by its worker. Return the state.

        The event gets the figures of all runs.

        Raises:
            JobNotFoundError: If there is no such job.
        """

    async def reopen(self, job_id: str, *, accepted_at: datetime) -> None:
        """Let a dead job run again, with its crashes forgotten. A job without an outcome waits from now on.

        Args:
            job_id: The job.
            accepted_at: The new begin of its waiting.

        Raises:
            JobNotFoundError: If there is no such job.
        """

    async def read(self, job_id: str, after: Position, *, wait_seconds: float) -> Sequence[StreamEvent]:
        """Return the events after a position; wait for the first one if there is none yet. May return none."""

    async def snapshot(self, job_id: str) -> Snapshot:
        """Return the state so far and its position.

        Raises:
            JobNotFoundError: If there is no such job.
        """

    async def ping(self) -> None:
        """Raise StoreUnavailableError if the store cannot be used."""

    async def aclose(self) -> None:
        """Close all connections."""
