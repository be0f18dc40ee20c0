"""outcome_of: failure told from cancellation and from LangGraph's control flow."""

from __future__ import annotations

import asyncio
import concurrent.futures
from http import HTTPStatus

import httpx2
import openai
import pytest
from google.genai.errors import ClientError, ServerError
from langgraph.errors import GraphBubbleUp, GraphInterrupt, ParentCommand
from langgraph.types import Command, Interrupt

from eco2_callbacks.outcomes import ABANDONED, SUCCESS, Outcome, outcome_of


def refusal(kind: type[openai.APIStatusError], status: int) -> openai.APIStatusError:
    request = httpx2.Request("POST", "https://api.openai.com/v1/responses")
    return kind("refused", response=httpx2.Response(status, request=request), body=None)


def caused(error: BaseException, cause: BaseException | None) -> BaseException:
    error.__cause__ = cause
    return error


class ProviderError(Exception):
    def __init__(self, **codes: object) -> None:
        self.__dict__.update(codes)


class ResourceExhausted(Exception):  # noqa: N818
    """What google-api-core calls a 429."""


class OwnRateLimit(ResourceExhausted):
    pass


@pytest.mark.parametrize(
    ("error", "name"),
    [
        (asyncio.CancelledError(), "CancelledError"),
        (concurrent.futures.CancelledError(), "CancelledError"),
        (GeneratorExit(), "GeneratorExit"),
        (KeyboardInterrupt(), "KeyboardInterrupt"),
        (caused(asyncio.CancelledError(), refusal(openai.RateLimitError, 429)), "CancelledError"),
    ],
    ids=["task", "future", "consumer_left", "ctrl_c", "cancelled_in_a_retry"],
)
def test_a_cancelled_run_did_not_fail(error: BaseException, name: str) -> None:
    """A run that nobody waits for any more was cancelled, whatever else had gone wrong before."""
    assert outcome_of(error) == Outcome("cancelled", name)


@pytest.mark.parametrize(
    ("error", "name"),
    [(GraphInterrupt([Interrupt("Sure?")]), "GraphInterrupt"), (GraphBubbleUp(), "GraphBubbleUp")],
    ids=["interrupt", "bubble_up"],
)
def test_an_interrupted_run_did_not_fail(error: BaseException, name: str) -> None:
    """A graph that stops to ask is interrupted."""
    assert outcome_of(error) == Outcome("interrupted", name)


def test_a_hand_over_to_the_graph_above_is_success() -> None:
    """A node that hands over by a command to its parent has done its work."""
    assert outcome_of(ParentCommand(Command(graph=Command.PARENT, goto="writer"))) == SUCCESS == Outcome("success")


def test_a_subclass_of_an_interrupt_interrupts() -> None:
    """An application's own kind of interrupt is one too."""

    class Approval(GraphInterrupt):
        pass

    assert outcome_of(Approval()) == Outcome("interrupted", "Approval")


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (ValueError("x"), Outcome("error", "ValueError")),
        (TimeoutError(), Outcome("error", "TimeoutError")),
        (refusal(openai.RateLimitError, 429), Outcome("error", "RateLimitError", rate_limited=True, refused=True)),
        (refusal(openai.BadRequestError, 400), Outcome("error", "BadRequestError", refused=True)),
        (refusal(openai.InternalServerError, 503), Outcome("error", "InternalServerError", refused=True)),
        (ClientError(429, {}), Outcome("error", "ClientError", rate_limited=True, refused=True)),
        (ClientError(404, {}), Outcome("error", "ClientError", refused=True)),
        (ServerError(500, {}), Outcome("error", "ServerError", refused=True)),
        (ResourceExhausted(), Outcome("error", "ResourceExhausted", rate_limited=True)),
        (OwnRateLimit(), Outcome("error", "OwnRateLimit", rate_limited=True)),
    ],
    ids=[
        "plain",
        "timeout",
        "openai_429",
        "openai_400",
        "openai_503",
        "gemini_429",
        "gemini_404",
        "gemini_500",
        "google_name",
        "subclass_of_name",
    ],
)
def test_a_failure_tells_whether_the_provider_refused(error: BaseException, expected: Outcome) -> None:
    """A failure is told with its class, whether it was a rate limit, and whether the provider said no."""
    assert outcome_of(error) == expected


@pytest.mark.parametrize(
    ("codes", "refused", "rate_limited"),
    [
        ({"status_code": 399}, False, False),
        ({"status_code": 400}, True, False),
        ({"status_code": 428}, True, False),
        ({"status_code": 429}, True, True),
        ({"status_code": 430}, True, False),
        ({"status_code": 599}, True, False),
        ({"status_code": 600}, False, False),
        ({"http_status": 429}, True, True),
        ({"code": 429}, True, True),
        ({"code": HTTPStatus.TOO_MANY_REQUESTS}, True, True),
        ({"code": "rate_limit_exceeded", "status_code": 429}, True, True),
        ({"status_code": None, "code": "429"}, False, False),
    ],
    ids=str,
)
def test_a_status_of_400_to_599_is_a_refusal(codes: dict[str, object], refused: bool, rate_limited: bool) -> None:
    """An HTTP status from 400 to 599 is a refusal and 429 a rate limit, under whichever name it stands."""
    assert outcome_of(ProviderError(**codes)) == Outcome("error", "ProviderError", rate_limited, refused)


def test_a_wrapped_refusal_is_one() -> None:
    """An error that wraps the provider's keeps its own name and the provider's answer."""
    error = caused(
        RuntimeError("chain failed"), caused(ValueError("model failed"), refusal(openai.RateLimitError, 429))
    )

    assert outcome_of(error) == Outcome("error", "RuntimeError", rate_limited=True, refused=True)


def test_an_error_after_a_refusal_that_was_dealt_with_is_none() -> None:
    """An error raised while another call's refusal was handled says nothing of its own bill."""
    try:
        try:
            raise refusal(openai.RateLimitError, 429)
        except openai.RateLimitError:
            raise RuntimeError("clean-up failed")  # noqa: B904
    except RuntimeError as error:
        outcome = outcome_of(error)

    assert outcome == Outcome("error", "RuntimeError")


@pytest.mark.parametrize(("wrappers", "found"), [(6, True), (7, True), (8, False)], ids=["below", "at", "above"])
def test_a_chain_of_causes_is_followed_so_far(wrappers: int, found: bool) -> None:
    """Eight errors of a chain are looked at, the outermost included."""
    error: BaseException = refusal(openai.RateLimitError, 429)
    for _ in range(wrappers):
        error = caused(RuntimeError(), error)

    assert outcome_of(error) == Outcome("error", "RuntimeError", rate_limited=found, refused=found)


def test_a_ring_of_causes_ends() -> None:
    """Errors that name each other as their cause are looked at and left."""
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first

    assert outcome_of(first) == Outcome("error", "ValueError")


def test_an_abandoned_run_is_cancelled_without_a_cause() -> None:
    """A run whose end never came was cancelled by nobody in particular."""
    assert Outcome("cancelled", None, rate_limited=False, refused=False) == ABANDONED
