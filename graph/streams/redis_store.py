"""Keeps jobs and their streams in Redis, for any number of API and worker processes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, cast

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from graph.streams.events import CANCELLED, EventKind, Position, StreamEvent
from graph.streams.port import (
    Acceptance,
    Appended,
    Claim,
    JobNotFoundError,
    JobState,
    JobStatus,
    NewJob,
    Snapshot,
    StoreUnavailableError,
)
from graph.streams.spending import RunSpending, figures_of

__all__ = ["RedisJobStore", "connect_redis", "events_key"]

_PREFIX = "eco2:job:"
_RUN = "run:"  # begins the fields of the state that hold what each run costs
_SCRIPTS = Path(__file__).parent / "scripts"
_TIMEOUT_SECONDS = 3.0
_MAX_WAIT_SECONDS = 2.0  # of one blocking read; shorter than the socket's time-out
_MAX_READ = 500
# Each reader of a stream holds one while it waits, so at least as many as the API has open requests. Made when needed.
_MAX_CONNECTIONS = 2200


def connect_redis(url: str) -> Redis:
    """Return a client for job state and streams; ``rediss://`` encrypts. It repeats a failed command within a second.

    Args:
        url: The server's URL.
    """
    pool = BlockingConnectionPool.from_url(
        url,
        max_connections=_MAX_CONNECTIONS,
        timeout=_TIMEOUT_SECONDS,  # for a free connection
        protocol=2,  # replies differ between the protocols
        decode_responses=True,
        socket_timeout=_TIMEOUT_SECONDS,
        socket_connect_timeout=_TIMEOUT_SECONDS,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.1), 2),
    )
    return Redis.from_pool(pool)


def events_key(job_id: str) -> str:
    """Return the name of a job's stream."""
    return f"{_PREFIX}{job_id}:events"


class RedisJobStore:
    """Keeps jobs and their streams in Redis 7 or later.

    An event's position is its id in the Redis stream. Every change is one Lua script, so it happens once and as a
    whole, and it may be sent again after a time-out. Not for Redis Cluster: a script uses keys of several slots.

    Args:
        redis: A client of :func:`connect_redis`. The store closes it.
        keep_seconds: How long a job is kept after its last write.
        max_events: The most events of one stream; older ones are dropped.
    """

    def __init__(self, redis: Redis, *, keep_seconds: float = 3600.0, max_events: int = 10_000) -> None:
        self._redis = redis
        self._keep_ms, self._max_events = int(keep_seconds * 1000), max_events
        self._scripts: dict[str, AsyncScript] = {
            path.stem: redis.register_script(path.read_text(encoding="utf-8")) for path in _SCRIPTS.glob("*.lua")
        }

    async def accept(self, job: NewJob) -> Acceptance:
        """Remember a new job and write its ``queued`` event."""
        key = job.idempotency_key
        hashed = hashlib.sha256(json.dumps([job.tenant_id, job.user_id, key]).encode()).hexdigest()
        outcome, job_id, published = await self._run(
            "accept",
            [*_keys(job.job_id, "state", "events"), _active_key(job.tenant_id), f"eco2:idempotency:{hashed}"],
            {
                **self._description(job),
                "prefix": _PREFIX,
                "digest": job.digest,
                **({} if key is None else {"key": hashed}),
                **({} if job.max_active is None else {"max_active": job.max_active}),
            },
        )
        return Acceptance(outcome=outcome, job_id=job_id, published=published == "1")

    async def mark_published(self, job_id: str) -> None:
        """Remember that the queue has the job."""
        await self._run("mark_published", _keys(job_id, "state"), {})

    async def withdraw(self, job: NewJob) -> None:
        """Forget a job that could not be handed to the queue, with its idempotency key."""
        keys = [*_keys(job.job_id, "state", "events", "answer"), _active_key(job.tenant_id)]
        await self._run("withdraw", keys, {"job_id": job.job_id})

    async def state(self, job_id: str) -> JobState:
        """Return a job's state."""
        async with _available():
            fields = await cast("Any", self._redis.hgetall(_key(job_id, "state")))
        if "status" not in fields:
            raise JobNotFoundError(job_id)
        return JobState(
            job_id=job_id,
            status=fields["status"],
            tenant_id=fields.get("tenant_id", ""),
            user_id=fields.get("user_id", ""),
            session_id=fields.get("session_id", ""),
            run=int(fields.get("run", 0)),
            crashes=int(fields.get("crashes", 0)),
            crashes_alone=int(fields.get("crashes_alone", 0)),
            accepted_at=_time(fields.get("accepted_at")),
            published=fields.get("published") == "1",
            result=json.loads(fields.get("result", "{}")),
            runs=[RunSpending.parse(text) for name, text in fields.items() if name.startswith(_RUN)],
        )

    async def claim(
        self, job: NewJob, *, owner: str, alone: bool, lease_seconds: float, max_shared_crashes: int
    ) -> Claim:
        """Begin a run, unless the job has its outcome, another run is alive, or the user has cancelled it."""
        outcome, run, crashes, crashes_alone, dead_run, runs, held_ms, accepted_at = await self._run(
            "claim",
            _keys(job.job_id, "state", "events", "answer"),
            {
                **self._description(job),
                "owner": owner,
                "alone": int(alone),
                "lease_ms": int(lease_seconds * 1000),
                "max_shared_crashes": max_shared_crashes,
            },
        )
        if outcome == "cancelled":
            await self.finish(job, "cancelled", CANCELLED)
        return Claim(
            outcome="finished" if outcome in {"cancelled", "dead"} else outcome,
            is_dead=outcome == "dead",
            run=run,
            owner=owner if outcome == "started" else "",
            crashes=crashes,
            crashes_alone=crashes_alone,
            dead_run=dead_run,
            runs=[RunSpending.parse(text) for text in runs],
            held_seconds=held_ms / 1000,
            accepted_at=_time(accepted_at),
        )

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
        outcome, last, cancelled = await self._run(
            "append",
            [*_keys(job.job_id, "state", "events", "answer"), _active_key(job.tenant_id)],
            {
                "job_id": job.job_id,
                "run": run,
                "owner": owner,
                "lease_ms": int(lease_seconds * 1000),
                "keep_ms": self._keep_ms,
                "max_events": self._max_events,
                "status": status,
                "spending": _fields([spending] if spending is not None else []),
            },
            *(part for event in events for part in (event.position.seq, event.kind, event.to_json(), event.text)),
        )
        return Appended(outcome=outcome, last=last, cancelled=bool(cancelled))

    async def restore(
        self, job: NewJob, run: int, *, owner: str, lease_seconds: float, runs: Sequence[RunSpending] = ()
    ) -> None:
        """Create a running job again that Redis has lost, or its run if only that is lost."""
        await self._run(
            "restore",
            [*_keys(job.job_id, "state", "events", "answer"), _active_key(job.tenant_id)],
            {
                **self._description(job),
                "run": run,
                "owner": owner,
                "lease_ms": int(lease_seconds * 1000),
                "spending": _fields(runs),
            },
        )

    async def hand_back(self, job_id: str, run: int, *, owner: str, spending: RunSpending | None = None) -> None:
        """End a run without an outcome."""
        arguments = {"run": run, "owner": owner, "spending": _fields([spending] if spending is not None else [])}
        await self._run("hand_back", _keys(job_id, "state"), arguments)

    async def finish(self, job: NewJob, status: JobStatus, event: StreamEvent) -> JobState:
        """Give a job without a live run its outcome."""
        try:
            runs = (await self.state(job.job_id)).runs
        except JobNotFoundError:
            runs = ()
        await self._run(
            "finish",
            [*_keys(job.job_id, "state", "events"), _active_key(job.tenant_id)],
            {**self._description(job), "status": status, "kind": event.kind},
            event.with_figures(figures_of(runs)).to_json(),
        )
        return await self.state(job.job_id)

    async def cancel(self, job_id: str, event: StreamEvent) -> JobState:
        """Cancel a job: one without a live run at once, a running one by its worker."""
        state = await self.state(job_id)
        await self._run(
            "finish",
            [*_keys(job_id, "state", "events"), _active_key(state.tenant_id)],
            {"job_id": job_id, "keep_ms": self._keep_ms, "status": "cancelled", "kind": event.kind, "cancel": True},
            event.with_figures(figures_of(state.runs)).to_json(),
        )
        return await self.state(job_id)

    async def reopen(self, job_id: str, *, accepted_at: datetime) -> None:
        """Let a dead job run again, with its crashes forgotten."""
        arguments = {"accepted_at": accepted_at.isoformat(), "keep_ms": self._keep_ms}
        if await self._run("reopen", _keys(job_id, "state", "events"), arguments) == "missing":
            raise JobNotFoundError(job_id)

    async def read(self, job_id: str, after: Position, *, wait_seconds: float) -> Sequence[StreamEvent]:
        """Return the events after a position."""
        wait_ms = int(min(wait_seconds, _MAX_WAIT_SECONDS) * 1000)
        async with _available():
            answer: Any = await self._redis.xread(
                {events_key(job_id): str(after)}, count=_MAX_READ, block=wait_ms or None
            )
        return [_event(entry_id, fields) for _, entries in answer or () for entry_id, fields in entries]

    async def snapshot(self, job_id: str) -> Snapshot:
        """Return the state so far and its position."""
        found = await self._run("snapshot", _keys(job_id, "state", "events", "answer"), {})
        if not found:
            raise JobNotFoundError(job_id)
        status, run, seq, answer, kind, data = found
        position = Position(int(run), int(seq))
        last = StreamEvent(position, cast("EventKind", kind), json.loads(data)) if kind else None
        return Snapshot(
            position=position, status=status, answer=answer, last_event=last if last and last.is_last else None
        )

    async def ping(self) -> None:
        """Raise StoreUnavailableError if Redis does not answer."""
        async with _available():
            await cast("Any", self._redis.ping())

    async def aclose(self) -> None:
        """Close all connections."""
        await self._redis.aclose()

    def _description(self, job: NewJob) -> dict[str, Any]:
        return {
            "job_id": job.job_id,
            "tenant_id": job.tenant_id,
            "user_id": job.user_id,
            "session_id": job.session_id,
            "accepted_at": job.accepted_at.isoformat(),
            "keep_ms": self._keep_ms,
        }

    async def _run(self, script: str, keys: Sequence[str], arguments: Mapping[str, Any], *rest: Any) -> Any:
        async with _available():
            return await self._scripts[script](keys=keys, args=[json.dumps(arguments), *rest])


@asynccontextmanager
async def _available() -> AsyncIterator[None]:
    try:
        yield
    except (RedisError, OSError) as error:
        raise StoreUnavailableError(f"Redis: {type(error).__name__}: {error}") from error


def _key(job_id: str, part: str) -> str:
    return f"{_PREFIX}{job_id}:{part}"


def _keys(job_id: str, *parts: str) -> list[str]:
    return [_key(job_id, part) for part in parts]


def _active_key(tenant_id: str) -> str:
    return f"eco2:active:{tenant_id}"


def _fields(runs: Sequence[RunSpending]) -> list[str]:
    """Return names and values of the state's fields that hold what these runs cost."""
    return [part for run in runs for part in (f"{_RUN}{run.trace_id}", run.to_json())]


def _time(text: str | None) -> datetime | None:
    return datetime.fromisoformat(text) if text else None


def _event(entry_id: str, fields: Mapping[str, str]) -> StreamEvent:
    return StreamEvent(Position.parse(entry_id), cast("EventKind", fields["kind"]), json.loads(fields["data"]))
