"""What the API works with, and who asks."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import Annotated

from fastapi import Depends, Path, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer

from graph.api.auth import Authenticator, Caller
from graph.api.feedback import FeedbackSender
from graph.api.limits import TenantLimits
from graph.api.problems import ProblemError
from graph.api.settings import ApiSettings
from graph.jobs import JobQueue
from graph.streams import JobNotFoundError, JobState, JobStore, OnRecovery

__all__ = ["ApiContext", "CallerOfRequest", "ContextOfApp", "JobOfCaller", "authenticate"]

_JOB_ID = r"^[A-Za-z0-9][A-Za-z0-9._:@-]{0,127}$"
_bearer = HTTPBearer(auto_error=False, description="A token of the token file, or a JWT.")


@dataclass(frozen=True, slots=True, kw_only=True)
class ApiContext:
    """What the API works with.

    Attributes:
        store: Job state and streams.
        queue: Takes the jobs.
        authenticator: Says who is asking.
        limits: The limits of each tenant.
        feedback: Sends feedback on.
        settings: The API's settings.
        on_recovery: Counts readers that took up a stream again.
        draining: Set when the server takes no more questions.
        stopping: Set when streams must end.
    """

    store: JobStore
    queue: JobQueue
    authenticator: Authenticator
    limits: TenantLimits
    feedback: FeedbackSender
    settings: ApiSettings
    on_recovery: OnRecovery
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)


async def _context(request: Request) -> ApiContext:
    context: ApiContext = request.app.state.context
    return context


ContextOfApp = Annotated[ApiContext, Depends(_context)]


async def authenticate(request: Request) -> Caller:
    """Return who asks, by the request's headers alone; checked once a request.

    Raises:
        ProblemError: 401 if the credential is missing or invalid.
    """
    if not hasattr(request.state, "caller"):
        context, credential = await _context(request), await _bearer(request)
        request.state.caller = await context.authenticator.caller(credential.credentials if credential else None)
    caller: Caller = request.state.caller
    return caller


async def _caller(
    request: Request,
    _: Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)] = None,  # for the description
) -> Caller:
    return await authenticate(request)


CallerOfRequest = Annotated[Caller, Depends(_caller)]


async def _job(
    job_id: Annotated[str, Path(pattern=_JOB_ID)], context: ContextOfApp, caller: CallerOfRequest
) -> JobState:
    try:
        state = await context.store.state(job_id)
    except JobNotFoundError:
        state = None
    # The same answer for another's job: an id says nothing to a stranger.
    if state is None or (state.tenant_id, state.user_id) != (caller.tenant_id, caller.user_id):
        raise ProblemError(404, "There is no such job, or it has expired.")
    return state


JobOfCaller = Annotated[JobState, Depends(_job)]
