"""The worker: takes jobs from a Redis stream, runs the graph and publishes the answers' tokens."""

from __future__ import annotations

from graph.worker.jobs import GROUP, JOBS, Job, JobQueue, connect
from graph.worker.process import run_worker
from graph.worker.settings import WorkerSettings
from graph.worker.tokens import stream_name
from graph.worker.worker import Worker

__all__ = ["GROUP", "JOBS", "Job", "JobQueue", "Worker", "WorkerSettings", "connect", "run_worker", "stream_name"]
