"""Sinks: how finished records reach the application's own outputs."""

from __future__ import annotations

from eco2_callbacks.sinks.batch_processor import SinkObserver, check_sinks
from eco2_callbacks.sinks.batch_worker import BatchWorker
from eco2_callbacks.sinks.protocol import LiveSink, Sink
from eco2_callbacks.sinks.run_start import RunKind, RunStart

__all__ = ["BatchWorker", "LiveSink", "RunKind", "RunStart", "Sink", "SinkObserver", "check_sinks"]
