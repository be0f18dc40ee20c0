"""Streams of the official models, closed, cancelled or timed out: each is recorded and billed once."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

from eco2_callbacks import GraphRun, NodeRun
from tests.support.failing_provider import Api, FailingProvider, Plan, text_of_pieces
from tests.support.ledger_checks import WHOLE, LedgerChecks, estimate_so_far, wait_until
from tests.support.official_models import APIS, OfficialModels, graph_of

PROMPT = "How do I sort a bottle?"
# How many pieces a stream brings before it stalls, and how many its consumer reads.
STALLED, READ = 3, 2
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore:.* is in beta", "ignore:The v3 streaming protocol")

Leave = Callable[[BaseChatModel, LedgerChecks], Awaitable[None]]


async def read(model: Any, checks: LedgerChecks) -> None:
    async for _ in model.astream(PROMPT, checks.config):
        pass


async def read_graph(graph: Any, checks: LedgerChecks) -> None:
    async for _ in graph.astream({"message": PROMPT}, checks.config, stream_mode="messages"):
        pass


# Ways to end a stream early: after it has stalled, or at its second piece.


async def break_off(model: BaseChatModel, checks: LedgerChecks) -> None:
    async for _ in model.astream(PROMPT, checks.config):
        if checks.pieces == READ:
            break


async def close(model: BaseChatModel, checks: LedgerChecks) -> None:
    stream = model.astream(PROMPT, checks.config)
    while checks.pieces < READ:
        await anext(stream)
    await stream.aclose()


async def collect(model: BaseChatModel, checks: LedgerChecks) -> None:
    held: list[Any] = [model.astream(PROMPT, checks.config)]
    held.append(held)
    while checks.pieces < READ:
        await anext(held[0])
    del held
    gc.collect()


async def cancel(model: BaseChatModel, checks: LedgerChecks) -> None:
    task = asyncio.create_task(read(model, checks))
    await wait_until(lambda: checks.pieces == STALLED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def give_up(model: BaseChatModel, checks: LedgerChecks) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5) as limit:
            expiry = asyncio.create_task(expire(limit, checks))
            await read(model, checks)
    await expiry


async def expire(limit: asyncio.Timeout, checks: LedgerChecks) -> None:
    await wait_until(lambda: checks.pieces == STALLED)
    limit.reschedule(0)


async def close_v3(model: BaseChatModel, checks: LedgerChecks) -> None:
    async with await model.astream_events(PROMPT, checks.config, version="v3") as stream:
        await anext(aiter(stream))
        await wait_until(lambda: checks.pieces == STALLED)


async def cancel_v3(model: BaseChatModel, checks: LedgerChecks) -> None:
    async def consume() -> None:
        async with await model.astream_events(PROMPT, checks.config, version="v3") as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(consume())
    await wait_until(lambda: checks.pieces == STALLED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("leave", "pieces", "error_type"),
    [
        (break_off, READ, "GeneratorExit"),
        (close, READ, "GeneratorExit"),
        (collect, READ, "GeneratorExit"),
        (cancel, STALLED, "CancelledError"),
        (give_up, STALLED, "CancelledError"),
        (close_v3, STALLED, "CancelledError"),
        (cancel_v3, STALLED, "CancelledError"),
    ],
)
async def test_a_stream_ended_early_is_billed_so_far(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    leave: Leave,
    pieces: int,
    error_type: str,
) -> None:
    """The text streamed so far is recorded as an estimate, and nothing stays open."""
    provider.set_plans(PROMPT, Plan(ends="stall", after=STALLED))

    await leave(official_models.model(api), checks)
    await wait_until(lambda: not checks.open_runs)

    (call,) = checks.assert_balanced(
        ("cancelled", error_type, estimate_so_far(api, text_of_pieces(api, pieces), "cancelled"))
    )
    assert call.streamed_tokens == pieces


def break_off_sync(model: BaseChatModel, checks: LedgerChecks) -> None:
    for _ in model.stream(PROMPT, checks.config):
        if checks.pieces == READ:
            break


def close_sync(model: BaseChatModel, checks: LedgerChecks) -> None:
    stream: Any = model.stream(PROMPT, checks.config)
    while checks.pieces < READ:
        next(stream)
    stream.close()


def collect_sync(model: BaseChatModel, checks: LedgerChecks) -> None:
    held: list[Any] = [model.stream(PROMPT, checks.config)]
    held.append(held)
    while checks.pieces < READ:
        next(held[0])
    del held
    gc.collect()


def break_off_v3(model: BaseChatModel, checks: LedgerChecks) -> None:
    for _ in model.stream_events(PROMPT, checks.config, version="v3"):
        if checks.pieces == READ:
            break
    checks.handler.close()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("leave", "error_type"),
    [
        (break_off_sync, "GeneratorExit"),
        (close_sync, "GeneratorExit"),
        (collect_sync, "GeneratorExit"),
        (break_off_v3, None),
    ],
)
def test_a_sync_stream_ended_early_is_billed_so_far(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    leave: Callable[[BaseChatModel, LedgerChecks], None],
    error_type: str | None,
) -> None:
    """The same without asyncio, and for a v3 stream below no run: no end callback fires, so close() ends it."""
    provider.set_plans(PROMPT, Plan(ends="stall", after=STALLED))

    leave(official_models.model(api), checks)

    (call,) = checks.assert_balanced(
        ("cancelled", error_type, estimate_so_far(api, text_of_pieces(api, READ), "cancelled"))
    )
    assert call.streamed_tokens == READ


# The same inside a node: its model streams when the graph is streamed.


async def break_off_graph(graph: Any, checks: LedgerChecks) -> None:
    async for _ in graph.astream({"message": PROMPT}, checks.config, stream_mode="messages"):
        if checks.pieces == STALLED:
            break


async def close_graph(graph: Any, checks: LedgerChecks) -> None:
    stream = graph.astream({"message": PROMPT}, checks.config, stream_mode="messages")
    await anext(stream)
    await wait_until(lambda: checks.pieces == STALLED)
    await stream.aclose()


async def cancel_graph(graph: Any, checks: LedgerChecks) -> None:
    task = asyncio.create_task(read_graph(graph, checks))
    await wait_until(lambda: checks.pieces == STALLED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def give_up_graph(graph: Any, checks: LedgerChecks) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5) as limit:
            expiry = asyncio.create_task(expire(limit, checks))
            await read_graph(graph, checks)
    await expiry


async def take_too_long(graph: Any, checks: LedgerChecks) -> None:
    graph.step_timeout = 3.0  # the first piece has to come before that
    with suppress(TimeoutError):
        await read_graph(graph, checks)


async def abort_v3(graph: Any, checks: LedgerChecks) -> None:
    async def consume() -> None:
        async for _ in stream:
            pass

    async with await graph.astream_events({"message": PROMPT}, checks.config, version="v3") as stream:
        task = asyncio.create_task(consume())
        await wait_until(lambda: checks.pieces == STALLED)
        await stream.abort()
        await task


@ON_ONE_LOOP
@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("leave", "status", "cause"),
    [
        (break_off_graph, "cancelled", "GeneratorExit"),
        (close_graph, "cancelled", "GeneratorExit"),
        (cancel_graph, "cancelled", "CancelledError"),
        (give_up_graph, "cancelled", "CancelledError"),
        (take_too_long, "error", "TimeoutError"),
        # Inside a step it is cancelled, between two steps it is closed.
        (abort_v3, "cancelled", "CancelledError|GeneratorExit"),
    ],
)
async def test_a_graph_ended_early_is_billed_so_far(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    leave: Callable[[Any, LedgerChecks], Awaitable[None]],
    status: str,
    cause: str,
) -> None:
    """No end callback fires for the model inside a graph; it ends with its node, on LangSmith as well."""
    provider.set_plans(PROMPT, Plan(ends="stall", after=STALLED))

    await leave(graph_of(official_models.model(api)), checks)
    await wait_until(lambda: not checks.open_runs)

    pieces = checks.pieces
    assert 0 < pieces <= STALLED  # fewer only where a timeout ends it
    (call,) = checks.assert_balanced(
        ("cancelled", "CancelledError", estimate_so_far(api, text_of_pieces(api, pieces), "cancelled"))
    )
    assert (call.node, call.streamed_tokens) == ("answer", pieces)
    assert checks.ended(NodeRun) == [("cancelled", "CancelledError")]
    assert checks.ended(GraphRun) in [[(status, possible)] for possible in cause.split("|")]


def break_off_graph_sync(graph: Any, checks: LedgerChecks) -> None:
    for _ in graph.stream({"message": PROMPT}, checks.config, stream_mode="messages"):
        break


def take_too_long_sync(graph: Any, checks: LedgerChecks) -> None:
    graph.step_timeout = 0.05
    with suppress(TimeoutError):
        for _ in graph.stream({"message": PROMPT}, checks.config, stream_mode="messages"):
            pass


def abort_v3_sync(graph: Any, checks: LedgerChecks) -> None:
    stream = graph.stream_events({"message": PROMPT}, checks.config, version="v3")
    for _ in stream:
        if checks.pieces:
            break
    stream.abort()


@pytest.mark.parametrize("api", APIS)
@pytest.mark.parametrize(
    ("leave", "ended"),
    [
        (break_off_graph_sync, ("cancelled", "GeneratorExit")),
        (take_too_long_sync, ("error", "TimeoutError")),
        (abort_v3_sync, ("cancelled", "GeneratorExit")),
    ],
)
def test_a_thread_continues_without_its_graph(
    provider: FailingProvider,
    official_models: OfficialModels,
    checks: LedgerChecks,
    api: Api,
    leave: Callable[[Any, LedgerChecks], None],
    ended: tuple[str, str],
) -> None:
    """A thread cannot be cancelled: the call of a synchronous node ends normally and is billed in full."""
    provider.set_plans(PROMPT, Plan(pause_seconds=0.005 if api != "gemini" else 0.02))

    leave(graph_of(official_models.model(api)), checks)

    checks.assert_balanced(("success", None, WHOLE))
    assert checks.ended(NodeRun) == [("success", None)]
    assert checks.ended(GraphRun) == [ended]
