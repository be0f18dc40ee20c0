"""Outcome: how a run ended, read from its exception."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import CancelledError as FutureCancelledError
from typing import NamedTuple

from eco2_callbacks.records import Status

__all__ = ["ABANDONED", "SUCCESS", "Outcome", "outcome_of"]

_RATE_LIMITED = frozenset({"RateLimitError", "GoogleRateLimitError", "ResourceExhausted", "TooManyRequests"})
_LONGEST_CHAIN = 8


class Outcome(NamedTuple):
    """Status and cause of an end.

    ``refused`` means that the provider answered with an HTTP error, so that it billed nothing.
    """

    status: Status
    error_type: str | None = None
    rate_limited: bool = False
    refused: bool = False


SUCCESS = Outcome("success")
# The caller left the run before its end callback fired.
ABANDONED = Outcome("cancelled")


def outcome_of(error: BaseException) -> Outcome:
    """Return the outcome that an exception stands for.

    =====================================================  =============================
    Exception                                              Status
    =====================================================  =============================
    LangGraph's ``ParentCommand``                          success: control flow
    any other ``GraphBubbleUp`` (``GraphInterrupt``, ...)  interrupted
    a cancellation, ``GeneratorExit``, Ctrl-C              cancelled
    anything else                                          error
    =====================================================  =============================

    LangGraph's classes are recognised by name, so that LangGraph need not be installed.
    """
    name = type(error).__name__
    lineage = {cls.__name__ for cls in type(error).__mro__}
    if "GraphBubbleUp" in lineage:
        return Outcome("success") if "ParentCommand" in lineage else Outcome("interrupted", name)
    if isinstance(error, asyncio.CancelledError | FutureCancelledError | GeneratorExit | KeyboardInterrupt):
        return Outcome("cancelled", name)
    statuses = [status for cause in _causes(error) if (status := _http_status(cause)) is not None]
    return Outcome("error", name, rate_limited=429 in statuses or bool(lineage & _RATE_LIMITED), refused=bool(statuses))


def _causes(error: BaseException) -> Iterator[BaseException]:
    current: BaseException | None = error
    for _ in range(_LONGEST_CHAIN):
        if current is None:
            return
        yield current
        # Not __context__: that can be the error of another call, which the application has handled.
        current = current.__cause__


def _http_status(error: BaseException) -> int | None:
    """Return the HTTP status that an exception holds, or its response: an object, or botocore's mapping."""
    response = getattr(error, "response", None)
    for holder in (error, response):
        for name in ("status_code", "code", "http_status"):
            value = getattr(holder, name, None)
            value = getattr(value, "value", value)
            if isinstance(value, int) and 400 <= value < 600:
                return value
    if isinstance(response, dict) and isinstance(metadata := response.get("ResponseMetadata"), dict):
        value = metadata.get("HTTPStatusCode")
        return value if isinstance(value, int) and 400 <= value < 600 else None
    return None
