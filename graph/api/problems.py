"""Errors of the API as RFC 9457 problem details."""

from __future__ import annotations

import http
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field
from starlette.exceptions import HTTPException

from graph.jobs import QueueUnavailableError
from graph.streams import StoreUnavailableError

__all__ = ["NO_STORE", "PROBLEM_TYPE", "Problem", "ProblemError", "add_problem_handlers", "problem_responses"]

PROBLEM_TYPE = "application/problem+json"
# An answer belongs to its caller, and a job changes: without this, a CDN keeps it as long as its own default says.
NO_STORE: Mapping[str, str] = MappingProxyType({"Cache-Control": "no-store"})
_RETRY_SECONDS = 2

_logger = logging.getLogger(__name__)


class InvalidField(BaseModel):
    """One invalid part of a request."""

    field: str
    reason: str


class Problem(BaseModel):
    """RFC 9457 problem details."""

    type: str = "about:blank"
    title: str
    status: int
    detail: str = ""
    errors: list[InvalidField] = Field(default_factory=list)


class ProblemError(Exception):
    """Answers a request with a problem.

    Args:
        status: The HTTP status.
        detail: What came, what was wanted, what to do; without the request's content.
        headers: Further headers.
    """

    def __init__(self, status: int, detail: str, *, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status, self.detail, self.headers = status, detail, headers


def problem_responses(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI description of the problems of an operation."""
    schema = {"schema": {"$ref": "#/components/schemas/Problem"}}
    return {
        status: {"description": http.HTTPStatus(status).phrase, "content": {PROBLEM_TYPE: schema}}
        for status in statuses
    }


def add_problem_handlers(app: FastAPI) -> None:
    """Answer every error of the app with a problem."""

    @app.exception_handler(ProblemError)
    async def _problem(_: Request, error: ProblemError) -> JSONResponse:
        return problem_response(error.status, error.detail, headers=error.headers)

    @app.exception_handler(HTTPException)
    async def _http(_: Request, error: HTTPException) -> JSONResponse:
        return problem_response(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> JSONResponse:
        errors = [{"field": ".".join(map(str, line["loc"])), "reason": _reason(line)} for line in error.errors()]
        return problem_response(422, "The request is invalid; 'errors' names its parts.", errors=errors)

    @app.exception_handler(StoreUnavailableError)
    @app.exception_handler(QueueUnavailableError)
    async def _unavailable(_: Request, error: Exception) -> JSONResponse:
        _logger.error("A request cannot be served: %s.", error)
        detail = "The service cannot take the request now; repeat it with the same Idempotency-Key."
        return problem_response(503, detail, headers={"Retry-After": str(_RETRY_SECONDS)})

    @app.exception_handler(Exception)
    async def _unexpected(_: Request, error: Exception) -> JSONResponse:  # Starlette logs it with its traceback
        return problem_response(500, f"The server failed with {type(error).__name__}.")


def problem_response(
    status: int,
    detail: str,
    *,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> JSONResponse:
    """Return a problem as a response."""
    content: dict[str, Any] = {
        "type": "about:blank",
        "title": http.HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
        "errors": errors or [],
    }
    return JSONResponse(content, status, headers={**NO_STORE, **(headers or {})}, media_type=PROBLEM_TYPE)


def _reason(line: Mapping[str, Any]) -> str:
    """Return why a part is invalid. The message of a length or type names no content."""
    return str(line["msg"]).removeprefix("Value error, ")
