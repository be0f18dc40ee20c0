"""The metrics of jobs, as METRICS.md's section "Jobs" names them."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Literal, TypeAlias

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Metric
from prometheus_client.registry import Collector

from graph.jobs.settings import QUEUE

__all__ = ["DeadReason", "JobMetrics"]

DeadReason: TypeAlias = Literal["malformed", "poison", "expired"]
_DEAD_REASONS: tuple[DeadReason, ...] = ("malformed", "poison", "expired")
_WAIT_SECONDS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TURNAROUND_SECONDS = (0.5, 1, 2, 3, 4, 5, 6, 8, 10, 15, 20, 30, 60, 120)


class JobMetrics(Collector):
    """Counts jobs on a registry.

    Args:
        registry: The registry; one object per registry.
        slots: How many jobs the worker runs at once; 0 in a process without a worker.
    """

    def __init__(self, registry: CollectorRegistry, *, slots: int = 0) -> None:
        waiting = Gauge("chat_jobs_waiting", "Jobs that no worker has taken yet.", ["queue"], registry=None)
        wait = Histogram(
            "chat_job_wait_seconds",
            "Seconds from a job's acceptance to a worker's start.",
            ["queue"],
            buckets=_WAIT_SECONDS,
            registry=None,
        )
        self._turnaround = Histogram(
            "chat_turnaround_seconds",
            "Seconds from a question's acceptance to the end of its answer.",
            ["intent", "status"],
            buckets=_TURNAROUND_SECONDS,
            registry=None,
        )
        dead = Counter(
            "chat_jobs_dead_total", "Jobs moved to the dead-letter queue.", ["queue", "reason"], registry=None
        )
        redeliveries = Counter(
            "chat_job_redeliveries_total",
            "Jobs that a worker started after another one had started them.",
            ["queue"],
            registry=None,
        )
        mismatches = Counter(
            "chat_queue_mismatches_total",
            "Starts that found the queue with another maximum length than the setting's.",
            ["queue"],
            registry=None,
        )
        self._busy = Gauge("chat_worker_slots_busy", "Slots that jobs of this worker hold now.", registry=None)
        all_slots = Gauge("chat_worker_slots", "Jobs that this worker can run at once.", registry=None)
        all_slots.set(slots)
        self._ready = Gauge("chat_ready", "1 if this process can serve, as /readyz says; 0 if not.", registry=None)
        self._waiting, self._wait = waiting.labels(QUEUE), wait.labels(QUEUE)
        self._redeliveries, self._mismatches = redeliveries.labels(QUEUE), mismatches.labels(QUEUE)
        self._dead = {reason: dead.labels(QUEUE, reason) for reason in _DEAD_REASONS}
        self._families = (
            waiting,
            wait,
            self._turnaround,
            dead,
            redeliveries,
            mismatches,
            self._busy,
            all_slots,
            self._ready,
        )
        registry.register(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the families for a scrape, without the samples ``_created``, which no query reads."""
        for family in self._families:
            for metric in family.collect():
                metric.samples = [sample for sample in metric.samples if not sample.name.endswith("_created")]
                yield metric

    def set_waiting(self, jobs: int | None) -> None:
        """Set how many jobs no worker has taken yet; None is unknown, which is NaN and not 0."""
        self._waiting.set(math.nan if jobs is None else jobs)

    def set_ready(self, *, ready: bool) -> None:
        """Set whether the process can serve."""
        self._ready.set(ready)

    def watch_busy(self, busy: Callable[[], int]) -> None:
        """Show at each scrape how many slots are busy."""
        self._busy.set_function(busy)

    def started(self, wait_seconds: float) -> None:
        """Count the first start of a job."""
        self._wait.observe(max(0.0, wait_seconds))

    def redelivered(self) -> None:
        """Count a start after another worker's start."""
        self._redeliveries.inc()

    def mismatched(self) -> None:
        """Count a start that found the queue with another maximum length."""
        self._mismatches.inc()

    def dead(self, reason: DeadReason) -> None:
        """Count a job moved to the dead-letter queue."""
        self._dead[reason].inc()

    def ended(self, intent: str, status: str, turnaround_seconds: float) -> None:
        """Count the end of an answer."""
        self._turnaround.labels(intent, status).observe(max(0.0, turnaround_seconds))
