"""How a run ended, read from the exception that ended it."""

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
    """Status and cause; ``refused`` says that the provider answered with an error, so that nothing was billed."""

    status: Status
    error_type: str | None = None
    rate_limited: bool = False
    refused: bool = False


SUCCESS = Outcome("success")
# The run above ended and this one never did: nobody waits for its answer any more.
ABANDONED = Outcome("cancelled")


def outcome_of(error: BaseException) -> Outcome:
    """Tell cancellation and LangGraph's control flow from failure.

    A ``GraphBubbleUp`` is no error: ``ParentCommand`` is how a node hands over to the graph above, everything else
    (``GraphInterrupt``, ``NodeInterrupt``) interrupts. They are known by name, so that LangGraph need not be installed.
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
        # Not the context: that can be another call's error which the application has dealt with.
        current = current.__cause__


def _http_status(error: BaseException) -> int | None:
    for name in ("status_code", "code", "http_status"):
        value = getattr(error, name, None)
        value = getattr(value, "value", value)
        if isinstance(value, int) and 400 <= value < 600:
            return value
    return None
