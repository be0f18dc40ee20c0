"""FeedbackSender: sends quality scores to LangSmith as feedback, in the background."""

from __future__ import annotations

import logging
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary

from langsmith import Client
from langsmith.run_trees import RunTree

from eco2_callbacks.sinks import BatchWorker

__all__ = ["FeedbackSender"]

_logger = logging.getLogger(__name__)
_QUIET_SECONDS = 60.0


class FeedbackSender:
    """Sends scores from a bounded queue; after a failure it sends nothing for a minute.

    Args:
        on_lost: Called for each score that did not reach LangSmith.
    """

    def __init__(self, on_lost: Callable[[], None]) -> None:
        # Apart from the sender: the worker's thread keeps it, and must not keep the worker's owner.
        self._delivery = delivery = _Delivery(on_lost)
        self._worker = BatchWorker(
            "eco2-langsmith-feedback",
            on_failure=lambda: delivery.lost(repr(sys.exception())),
            on_dropped=lambda: delivery.lost("too many wait, or the handler was closed"),
        )

    def send(self, run: RunTree, scores: Mapping[str, float]) -> None:
        """Queue the scores of a run."""
        client = run.client
        if getattr(client, "tracing_mode", "langsmith") == "otel" or run.replicas:
            return  # LangSmith has no such run, or only copies of it with other ids
        for key, score in scores.items():
            # Only the ids are queued: the run itself holds its inputs and outputs.
            about = {"run_id": run.id, "trace_id": run.trace_id, "start_time": run.start_time}
            self._worker.submit(partial(self._delivery.send, client, run.session_name, key=key, score=score, **about))

    def close(self, timeout_seconds: float) -> None:
        """Send what waits, as far as the time allows."""
        self._worker.close(timeout_seconds)

    def flush(self, timeout_seconds: float) -> bool:
        """Wait until everything queued so far was sent; return whether the time sufficed."""
        return self._worker.flush(timeout_seconds)


class _Delivery:
    """Sends single scores, and pauses after a failure."""

    def __init__(self, on_lost: Callable[[], None]) -> None:
        self._on_lost = on_lost
        self._quiet_until = 0.0
        self._projects: WeakKeyDictionary[Client, dict[str | None, tuple[Any, float]]] = WeakKeyDictionary()

    def send(self, client: Client, project: str | None, **feedback: Any) -> None:
        """Send one score."""
        if time.monotonic() < self._quiet_until:
            self._on_lost()
            return
        project_id = self._project_id(client, project)
        client.create_feedback(**feedback, session_id=project_id, stop_after_attempt=2)

    def _project_id(self, client: Client, project: str | None) -> Any:
        """Return the id of a project, which LangSmith wants with a run's feedback; None if it cannot be read."""
        projects = self._projects.setdefault(client, {})
        project_id, read_at = projects.get(project, (None, -_QUIET_SECONDS))
        if project_id is None and time.monotonic() - read_at >= _QUIET_SECONDS:
            # A project is created with its first run, which may not have arrived yet.
            with suppress(Exception):
                project_id = client.read_project(project_name=project).id
            projects[project] = project_id, time.monotonic()
        return project_id

    def lost(self, why: str) -> None:
        """Count a score that did not reach LangSmith, and send none for a minute."""
        self._on_lost()
        if time.monotonic() >= self._quiet_until:
            self._quiet_until = time.monotonic() + _QUIET_SECONDS
            _logger.warning(
                "Feedback did not reach LangSmith (%s); none is sent for %.0f seconds, and each lost score is counted "
                'in eco2_callbacks_errors_total{callback="feedback"}.',
                why,
                _QUIET_SECONDS,
            )
