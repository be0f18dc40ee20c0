"""Streams left, cancelled and timed out, on the official models: whichever way they end, they end in the books."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from langchain_core.language_models import BaseChatModel

from eco2_callbacks import GraphRun, NodeRun
from tests.support.failing_provider import Api, FailingProvider, Plan, said_until
from tests.support.ledger_checks import WHOLE, Books, so_far, until
from tests.support.official_models import APIS, Official, graph_of

ASKED = "How do I sort a bottle?"
# What a stream brings before nothing comes any more; whoever reads it leaves earlier.
STALLED, READ = 3, 2
ON_ONE_LOOP = pytest.mark.asyncio(loop_scope="module")
pytestmark = pytest.mark.filterwarnings("ignore:.* is in beta", "ignore:The v3 streaming protocol")

Way = Callable[[BaseChatModel, Books], Awaitable[None]]


async def read(model: Any, books: Books) -> None:
    async for _ in model.astream(ASKED, books.config):
        pass


async def read_graph(graph: Any, books: Books) -> None:
    async for _ in graph.astream({"message": ASKED}, books.config, stream_mode="messages"):
        pass


# Ways to leave a stream, which has stalled or stands at its second piece.


async def break_off(model: BaseChatModel, books: Books) -> None:
    async for _ in model.astream(ASKED, books.config):
        if books.pieces == READ:
            break


async def close(model: BaseChatModel, books: Books) -> None:
    stream = model.astream(ASKED, books.config)
    while books.pieces < READ:
        await anext(stream)
    await stream.aclose()


async def collect(model: BaseChatModel, books: Books) -> None:
    held: list[Any] = [model.astream(ASKED, books.config)]
    held.append(held)
    while books.pieces < READ:
        await anext(held[0])
    del held
    gc.collect()


async def cancel(model: BaseChatModel, books: Books) -> None:
    task = asyncio.create_task(read(model, books))
    await until(lambda: books.pieces == STALLED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def give_up(model: BaseChatModel, books: Books) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5) as limit:
            expiry = asyncio.create_task(expire(limit, books))
            await read(model, books)
    await expiry


async def expire(limit: asyncio.Timeout, books: Books) -> None:
    await until(lambda: books.pieces == STALLED)
    limit.reschedule(0)


async def close_v3(model: BaseChatModel, books: Books) -> None:
    async with await model.astream_events(ASKED, books.config, version="v3") as stream:
        await anext(aiter(stream))
        await until(lambda: books.pieces == STALLED)


async def cancel_v3(model: BaseChatModel, books: Books) -> None:
    async def consume() -> None:
        async with await model.astream_events(ASKED, books.config, version="v3") as stream:
            async for _ in stream:
                pass

    task = asyncio.create_task(consume())
    await until(lambda: books.pieces == STALLED)
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
async def test_a_stream_left_is_billed_so_far(
    provider: FailingProvider, official: Official, books: Books, api: Api, leave: Way, pieces: int, error_type: str
) -> None:
    """What had been streamed when nobody wanted more is in the books as an estimate, and nothing stays open."""
    provider.answers(ASKED, Plan(ends="stall", after=STALLED))

    await leave(official.model(api), books)
    await until(lambda: not books.open_runs)

    (call,) = books.balance(("cancelled", error_type, so_far(api, said_until(api, pieces), "cancelled")))
    assert call.streamed_tokens == pieces


def break_off_sync(model: BaseChatModel, books: Books) -> None:
    for _ in model.stream(ASKED, books.config):
        if books.pieces == READ:
            break


def close_sync(model: BaseChatModel, books: Books) -> None:
    stream: Any = model.stream(ASKED, books.config)
    while books.pieces < READ:
        next(stream)
    stream.close()


def collect_sync(model: BaseChatModel, books: Books) -> None:
    held: list[Any] = [model.stream(ASKED, books.config)]
    held.append(held)
    while books.pieces < READ:
        next(held[0])
    del held
    gc.collect()


def break_off_v3(model: BaseChatModel, books: Books) -> None:
    for _ in model.stream_events(ASKED, books.config, version="v3"):
        if books.pieces == READ:
            break
    gc.collect()


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
def test_a_stream_left_without_a_loop_is_billed_so_far(
    provider: FailingProvider,
    official: Official,
    books: Books,
    api: Api,
    leave: Callable[[BaseChatModel, Books], None],
    error_type: str | None,
) -> None:
    """The same without asyncio; of a v3 stream that nobody reads on LangChain tells nobody, and still it is billed."""
    provider.answers(ASKED, Plan(ends="stall", after=STALLED))

    leave(official.model(api), books)

    (call,) = books.balance(("cancelled", error_type, so_far(api, said_until(api, READ), "cancelled")))
    assert call.streamed_tokens == READ


# The same inside a node, which streams as the graph is streamed.


async def break_off_graph(graph: Any, books: Books) -> None:
    async for _ in graph.astream({"message": ASKED}, books.config, stream_mode="messages"):
        if books.pieces == STALLED:
            break


async def close_graph(graph: Any, books: Books) -> None:
    stream = graph.astream({"message": ASKED}, books.config, stream_mode="messages")
    await anext(stream)
    await until(lambda: books.pieces == STALLED)
    await stream.aclose()


async def cancel_graph(graph: Any, books: Books) -> None:
    task = asyncio.create_task(read_graph(graph, books))
    await until(lambda: books.pieces == STALLED)
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def give_up_graph(graph: Any, books: Books) -> None:
    with suppress(TimeoutError):
        async with asyncio.timeout(5) as limit:
            expiry = asyncio.create_task(expire(limit, books))
            await read_graph(graph, books)
    await expiry


async def take_too_long(graph: Any, books: Books) -> None:
    graph.step_timeout = 0.2
    with suppress(TimeoutError):
        await read_graph(graph, books)


async def abort_v3(graph: Any, books: Books) -> None:
    async def consume() -> None:
        async for _ in stream:
            pass

    async with await graph.astream_events({"message": ASKED}, books.config, version="v3") as stream:
        task = asyncio.create_task(consume())
        await until(lambda: books.pieces == STALLED)
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
        # Amid a step it is cancelled, between two it is closed.
        (abort_v3, "cancelled", "CancelledError|GeneratorExit"),
    ],
)
async def test_a_graph_left_is_billed_so_far(
    provider: FailingProvider,
    official: Official,
    books: Books,
    api: Api,
    leave: Callable[[Any, Books], Awaitable[None]],
    status: str,
    cause: str,
) -> None:
    """Inside a graph LangChain tells nobody of the model's end: it ends with its node, at LangSmith too."""
    provider.answers(ASKED, Plan(ends="stall", after=STALLED))

    await leave(graph_of(official.model(api)), books)
    await until(lambda: not books.open_runs)

    pieces = books.pieces
    assert 0 < pieces <= STALLED  # fewer only where the clock decides
    (call,) = books.balance(("cancelled", "CancelledError", so_far(api, said_until(api, pieces), "cancelled")))
    assert (call.node, call.streamed_tokens) == ("answer", pieces)
    assert books.ended(NodeRun) == [("cancelled", "CancelledError")]
    assert books.ended(GraphRun) in [[(status, possible)] for possible in cause.split("|")]


def break_off_graph_sync(graph: Any, books: Books) -> None:
    for _ in graph.stream({"message": ASKED}, books.config, stream_mode="messages"):
        break


def take_too_long_sync(graph: Any, books: Books) -> None:
    graph.step_timeout = 0.05
    with suppress(TimeoutError):
        for _ in graph.stream({"message": ASKED}, books.config, stream_mode="messages"):
            pass


def abort_v3_sync(graph: Any, books: Books) -> None:
    stream = graph.stream_events({"message": ASKED}, books.config, version="v3")
    for _ in stream:
        if books.pieces:
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
def test_a_thread_goes_on_without_its_graph(
    provider: FailingProvider,
    official: Official,
    books: Books,
    api: Api,
    leave: Callable[[Any, Books], None],
    ended: tuple[str, str],
) -> None:
    """Nobody can cancel a thread: a model that a synchronous node asked answers to the end, and is billed for that."""
    provider.answers(ASKED, Plan(pause_seconds=0.005 if api != "gemini" else 0.02))

    leave(graph_of(official.model(api)), books)

    books.balance(("success", None, WHOLE))
    assert books.ended(NodeRun) == [("success", None)]
    assert books.ended(GraphRun) == [ended]
