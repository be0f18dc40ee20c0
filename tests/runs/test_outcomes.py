"""outcome_of: failures, cancellations and LangGraph's control flow are distinguished."""

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

from eco2_callbacks.runs.outcomes import ABANDONED, SUCCESS, Outcome, outcome_of


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
    """The name of a 429 in google-api-core."""


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
def test_a_cancelled_run_is_no_failure(error: BaseException, name: str) -> None:
    """A cancelled run is cancelled whatever error came before."""
    assert outcome_of(error) == Outcome("cancelled", name)


@pytest.mark.parametrize(
    ("error", "name"),
    [(GraphInterrupt([Interrupt("Sure?")]), "GraphInterrupt"), (GraphBubbleUp(), "GraphBubbleUp")],
    ids=["interrupt", "bubble_up"],
)
def test_an_interrupted_run_is_no_failure(error: BaseException, name: str) -> None:
    """A graph that interrupts is interrupted."""
    assert outcome_of(error) == Outcome("interrupted", name)


def test_a_handover_to_the_parent_graph_is_a_success() -> None:
    """A node that hands over by a command to its parent has succeeded."""
    assert outcome_of(ParentCommand(Command(graph=Command.PARENT, goto="writer"))) == SUCCESS == Outcome("success")


def test_a_subclass_of_an_interrupt_interrupts() -> None:
    """An application's subclass of an interrupt is an interrupt."""

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
def test_a_failure_records_whether_the_provider_refused(error: BaseException, expected: Outcome) -> None:
    """An outcome holds the error's class, whether it was a rate limit, and whether the provider refused."""
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
    """An HTTP status from 400 to 599 is a refusal and 429 a rate limit, under any attribute name."""
    assert outcome_of(ProviderError(**codes)) == Outcome("error", "ProviderError", rate_limited, refused)


def test_a_wrapped_refusal_is_one() -> None:
    """An error that wraps the provider's error keeps its own name and the provider's status."""
    error = caused(
        RuntimeError("chain failed"), caused(ValueError("model failed"), refusal(openai.RateLimitError, 429))
    )

    assert outcome_of(error) == Outcome("error", "RuntimeError", rate_limited=True, refused=True)


def test_an_error_after_a_handled_refusal_is_no_refusal() -> None:
    """An error raised while another call's refusal was handled is no refusal itself."""
    try:
        try:
            raise refusal(openai.RateLimitError, 429)
        except openai.RateLimitError:
            raise RuntimeError("clean-up failed")  # noqa: B904
    except RuntimeError as error:
        outcome = outcome_of(error)

    assert outcome == Outcome("error", "RuntimeError")


@pytest.mark.parametrize(("wrappers", "found"), [(6, True), (7, True), (8, False)], ids=["below", "at", "above"])
def test_a_chain_of_causes_is_followed_for_eight_errors(wrappers: int, found: bool) -> None:
    """Eight errors of a chain are checked, the outermost included."""
    error: BaseException = refusal(openai.RateLimitError, 429)
    for _ in range(wrappers):
        error = caused(RuntimeError(), error)

    assert outcome_of(error) == Outcome("error", "RuntimeError", rate_limited=found, refused=found)


def test_a_ring_of_causes_ends() -> None:
    """Errors that are each other's cause do not cause a loop."""
    first, second = ValueError(), TypeError()
    first.__cause__, second.__cause__ = second, first

    assert outcome_of(first) == Outcome("error", "ValueError")


def test_an_abandoned_run_is_cancelled_without_a_cause() -> None:
    """A run without an end callback is cancelled without an error type."""
    assert Outcome("cancelled", None, rate_limited=False, refused=False) == ABANDONED
