"""The operations of the API."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any
from uuid import uuid4

from fastapi import APIRouter, Depends, Header, Response
from opentelemetry import trace
from sse_starlette import EventSourceResponse

from graph.api.context import ApiContext, CallerOfRequest, ContextOfApp, JobOfCaller
from graph.api.problems import NO_STORE, ProblemError, problem_responses
from graph.api.schemas import Accepted, ChatRequest, FeedbackRequest, FeedbackSent, JobAnswer
from graph.api.streaming import event_stream
from graph.jobs import Job, QueueUnavailableError
from graph.streams import CANCELLED, START, JobState, Position, StoreUnavailableError, StreamEvent, figures_of

__all__ = ["PREFIX", "router"]

PREFIX = "/api/v1"
_KEY = r"^[\x21-\x7e]{1,200}$"
_EVENT_ID = r"^[0-9]{1,12}-[0-9]{1,12}$"

_logger = logging.getLogger(__name__)


async def _store_nowhere(response: Response) -> None:
    response.headers.update(NO_STORE)


router = APIRouter(prefix=f"{PREFIX}/chat", dependencies=[Depends(_store_nowhere)])


@router.post("", status_code=202, operation_id="ask", responses=problem_responses(400, 408, 409, 413))
async def ask(
    response: Response,
    context: ContextOfApp,
    caller: CallerOfRequest,
    question: ChatRequest,
    idempotency_key: Annotated[str | None, Header(pattern=_KEY)] = None,
) -> Accepted:
    """Ask a question. A repeated request with the same ``Idempotency-Key`` gets the first one's job."""
    if context.draining.is_set():
        raise ProblemError(503, "The server stops; ask again.", headers={"Retry-After": "2"})
    await context.limits.count_question(caller.tenant_id)
    job_id = uuid4().hex
    job = Job(
        job_id=job_id,
        message=question.message,
        image=question.image,
        session_id=question.session_id or job_id,
        tenant_id=caller.tenant_id or None,
        user_id=caller.user_id or None,
        accepted_at=datetime.now(UTC),
    )
    new = replace(
        job.described(),
        idempotency_key=idempotency_key,
        digest=hashlib.sha256(question.model_dump_json().encode()).hexdigest(),
        max_active=context.settings.max_active_jobs,
    )
    accepted = await context.store.accept(new)
    if accepted.outcome == "conflict":
        raise ProblemError(409, "This Idempotency-Key belongs to another question; choose a new key.")
    if accepted.outcome == "too_many":
        raise ProblemError(
            429,
            f"{context.settings.max_active_jobs} questions are unanswered, wanted fewer; wait for an answer.",
            headers={"Retry-After": "5"},
        )
    if accepted.outcome == "repeated":
        first = await context.store.state(accepted.job_id)
        job = job.model_copy(update={"job_id": first.job_id, "session_id": first.session_id})
    if not accepted.published:
        is_new = accepted.job_id == job_id
        await _publish(context, job, is_new=is_new, can_repeat=idempotency_key is not None)
    url = f"{PREFIX}/chat/{job.job_id}"
    response.headers["Location"] = url
    return Accepted(
        job_id=job.job_id,
        session_id=job.session_id or "",
        events_url=f"{url}/events",
        result_url=url,
        otel_trace_id=_current_trace(),
    )


@router.get(
    "/{job_id}/events",
    operation_id="readEvents",
    response_class=EventSourceResponse,
    responses={
        200: {
            "description": "The job's events: queued, started, node, token, snapshot, done, error.",
            "content": {"text/event-stream": {"schema": {"type": "string"}}},
        },
        204: {"description": "The reader has the last event already."},
        **problem_responses(404),
    },
)
async def read_events(
    context: ContextOfApp, job: JobOfCaller, last_event_id: Annotated[str | None, Header(pattern=_EVENT_ID)] = None
) -> Response:
    """Read the job's events as they happen. ``Last-Event-ID`` goes on after an event."""
    after = Position.parse(last_event_id) if last_event_id is not None else None
    if after is not None and job.finished and after == (await context.store.snapshot(job.job_id)).position:
        return Response(status_code=204, headers=NO_STORE)
    return event_stream(
        context.store,
        job.job_id,
        tenant_id=job.tenant_id,
        after=after if after != START else None,
        limits=context.limits,
        stopping=context.stopping,
        on_recovery=context.on_recovery,
        heartbeat_seconds=context.settings.heartbeat_seconds,
    )


@router.get("/{job_id}", operation_id="readAnswer", responses=problem_responses(404))
async def read_answer(job: JobOfCaller) -> JobAnswer:
    """Return the job, with its answer and cost once it has ended."""
    return _answer(job)


@router.delete("/{job_id}", operation_id="cancel", responses=problem_responses(404))
async def cancel(context: ContextOfApp, job: JobOfCaller) -> JobAnswer:
    """Cancel the job. What it has cost is kept. A job that has ended stays as it is."""
    return _answer(await context.store.cancel(job.job_id, CANCELLED))


@router.post(
    "/{job_id}/feedback",
    status_code=202,
    operation_id="sendFeedback",
    responses=problem_responses(400, 404, 408, 409, 413),
)
async def send_feedback(context: ContextOfApp, job: JobOfCaller, feedback: FeedbackRequest) -> FeedbackSent:
    """Send the user's feedback on an answer to LangSmith and the ledger."""
    if not job.finished:
        raise ProblemError(409, "The job has not ended; send feedback on its answer.")
    reached = await context.feedback.send(job, score=feedback.score, comment=feedback.comment)
    return FeedbackSent(job_id=job.job_id, reached=reached)


async def _publish(context: ApiContext, job: Job, *, is_new: bool, can_repeat: bool) -> None:
    """Hand a job to the queue. A job that the queue may have all the same keeps its state, so that it is paid once."""
    try:
        await context.queue.publish(job)
    except QueueUnavailableError as error:
        if is_new and error.is_refused:
            await context.store.withdraw(job.described())
        elif not can_repeat:
            data = {"type": "unavailable", "title": "The queue did not answer"}
            await context.store.cancel(job.job_id, StreamEvent(START, "error", data))
        raise
    try:
        await context.store.mark_published(job.job_id)
    except StoreUnavailableError as error:  # the worker's claim says it too
        _logger.warning("Job %s is in the queue, which the store does not know yet: %s.", job.job_id, error)


def _answer(job: JobState) -> JobAnswer:
    result: dict[str, Any] = dict(job.result)
    failed = job.finished and job.status != "done"
    return JobAnswer(
        job_id=job.job_id,
        session_id=job.session_id,
        status=job.status,
        run=job.run,
        answer=result.get("answer"),
        images=result.get("images") or [],
        intent=result.get("intent") or None,
        # Not the last event's: a worker that lost the job may have paid a call since.
        **figures_of(job.runs),
        seconds=result.get("seconds"),
        error={name: result[name] for name in ("type", "title", "detail") if name in result} if failed else None,
    )


def _current_trace() -> str | None:
    """Return the id of the request's trace; None if no store will have it."""
    span = trace.get_current_span()
    context = span.get_span_context()
    return f"{context.trace_id:032x}" if span.is_recording() and context.trace_flags.sampled else None
