"""Job state and token streams: one port, kept in Redis or in the process, written in batches, read without loss."""

from __future__ import annotations

from graph.streams.events import CANCELLED, START, EventKind, Position, StreamEvent
from graph.streams.memory import MemoryJobStore
from graph.streams.port import (
    Acceptance,
    Appended,
    Claim,
    JobNotFoundError,
    JobState,
    JobStatus,
    JobStore,
    NewJob,
    Snapshot,
    StoreUnavailableError,
)
from graph.streams.publisher import Publisher
from graph.streams.reader import OnRecovery, follow
from graph.streams.redis_store import RedisJobStore, connect_redis, events_key
from graph.streams.spending import RunSpending, figures_of, tokens_of

__all__ = [
    "CANCELLED",
    "START",
    "Acceptance",
    "Appended",
    "Claim",
    "EventKind",
    "JobNotFoundError",
    "JobState",
    "JobStatus",
    "JobStore",
    "MemoryJobStore",
    "NewJob",
    "OnRecovery",
    "Position",
    "Publisher",
    "RedisJobStore",
    "RunSpending",
    "Snapshot",
    "StoreUnavailableError",
    "StreamEvent",
    "connect_redis",
    "events_key",
    "figures_of",
    "follow",
    "tokens_of",
]
