"""A user's feedback on an answer: to LangSmith's run, and to every sink that takes feedback."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

from langsmith import Client

from graph.streams import JobState

__all__ = ["FEEDBACK_KEY", "FeedbackSender"]

FEEDBACK_KEY = "user_score"

_logger = logging.getLogger(__name__)


class FeedbackSender:
    """Sends feedback on.

    Args:
        client: LangSmith's client; None without tracing.
    """

    def __init__(self, client: Client | None) -> None:
        self._client = client

    async def send(self, job: JobState, *, score: float, comment: str) -> list[str]:
        """Send one score, 0 to 1, and return who has it: ``langsmith``."""
        reached = []
        if self._client is not None and job.trace_id is not None:
            arguments: dict[str, Any] = {"score": score, "comment": comment or None, "trace_id": job.trace_id}
            try:
                await asyncio.to_thread(self._client.create_feedback, job.trace_id, FEEDBACK_KEY, **arguments)
                reached.append("langsmith")
            except Exception as error:
                _logger.error("Feedback on job %s did not reach LangSmith: %s.", job.job_id, error)
        return reached
