"""The worker: takes jobs from the queue, runs the graph and publishes the answers' events."""

from __future__ import annotations

from graph.worker.run_events import RunRecords
from graph.worker.settings import WorkerSettings, read_secret_files
from graph.worker.worker import Worker

__all__ = ["RunRecords", "Worker", "WorkerSettings", "read_secret_files"]
