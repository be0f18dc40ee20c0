"""A user's feedback on an answer: to LangSmith's run and to the ledger."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

from langsmith import Client

from eco2_callbacks import LedgerSink, NodeRun
from graph.streams import JobState

__all__ = ["FEEDBACK_KEY", "FeedbackSender", "feedback_client"]

FEEDBACK_KEY = "user_score"
_NODE = "user_feedback"
_ATTEMPTS = 2

_logger = logging.getLogger(__name__)


def feedback_client() -> Client:
    """Return a client of LangSmith for feedback, whose request ends with LangSmith's answer.

    With batches, the client puts feedback into a queue and reports no failure. Users would read that LangSmith has it.
    """
    return Client(auto_batch_tracing=False)


class FeedbackSender:
    """Sends feedback on.

    Args:
        client: A :func:`feedback_client`; None without tracing.
        project: LangSmith's project of the runs.
        ledger: The ledger; None without one.
    """

    def __init__(
        self, client: Client | None = None, *, project: str = "default", ledger: LedgerSink | None = None
    ) -> None:
        self._client, self._project, self._ledger = client, project, ledger
        self._project_id: Any = None

    async def send(self, job: JobState, *, score: float, comment: str) -> list[str]:
        """Send one score, 0 to 1, and return who has it: ``ledger`` (without the comment), ``langsmith``."""
        if job.trace_id is None:
            return []
        reached = []
        if self._ledger is not None:
            self._ledger.emit(_record(job, score))
            reached.append("ledger")
        if self._client is None:
            return reached
        try:
            await asyncio.to_thread(self._to_langsmith, self._client, job.trace_id, score, comment)
        except Exception as error:
            _logger.error("Feedback on job %s did not reach LangSmith: %s.", job.job_id, type(error).__name__)
            return reached
        return [*reached, "langsmith"]

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


def _record(job: JobState, score: float) -> NodeRun:
    """Return the score as the ledger keeps scores: of a node, here the user."""
    return NodeRun(
        run_id=uuid4(),
        trace_id=UUID(job.trace_id),
        node=_NODE,
        path=_NODE,
        job_id=job.job_id,
        tenant_id=job.tenant_id,
        user_id=job.user_id or None,
        session_id=job.session_id or None,
        intent=job.result.get("intent") or "unclassified",
        started_at=datetime.now(UTC),
        duration_seconds=0.0,
        feedback={FEEDBACK_KEY: score},
    )
