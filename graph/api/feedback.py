"""A user's feedback on an answer: to LangSmith's run."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from langsmith import Client

from graph.streams import JobState

__all__ = ["FEEDBACK_KEY", "FeedbackSender"]

FEEDBACK_KEY = "user_score"
_ATTEMPTS = 2

_logger = logging.getLogger(__name__)


class FeedbackSender:
    """Sends feedback on.

    Args:
        client: LangSmith's client; None without tracing.
        project: LangSmith's project of the runs.
    """

    def __init__(self, client: Client | None, project: str = "default") -> None:
        self._client, self._project = client, project
        self._project_id: Any = None

    async def send(self, job: JobState, *, score: float, comment: str) -> list[str]:
        """Send one score, 0 to 1, and return who has it: ``langsmith``."""
        if self._client is None or job.trace_id is None:
            return []
        try:
            await asyncio.to_thread(self._to_langsmith, self._client, job.trace_id, score, comment)
        except Exception as error:
            _logger.error("Feedback on job %s did not reach LangSmith: %s.", job.job_id, type(error).__name__)
            return []
        return ["langsmith"]

    def _to_langsmith(self, client: Client, trace_id: str, score: float, comment: str) -> None:
        if self._project_id is None:  # LangSmith finds a run by its project
            self._project_id = client.read_project(project_name=self._project).id
        client.create_feedback(
            trace_id,
            FEEDBACK_KEY,
            score=score,
            comment=comment or None,
            trace_id=trace_id,
            session_id=self._project_id,
            stop_after_attempt=_ATTEMPTS,
        )
