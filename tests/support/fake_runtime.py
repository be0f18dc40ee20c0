"""A runtime for tests of the command line and the worker: a small graph with parallel branches on fake models."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from itertools import product
from pathlib import Path
from typing import Any, TypedDict

from langgraph.checkpoint.memory import InMemorySaver
from langgraph.graph import END, START, StateGraph

from eco2_callbacks import Eco2CallbackHandler, Settings
from graph.cli import CONVERSATIONS, cassette_folder
from graph.errors import GraphConfigError
from graph.replay import ReplayClock
from graph.runtime import Graph, Runtime
from tests.support.fake_model import FakeModel

INTENTS = {conversation.message: name for name, conversation in CONVERSATIONS["ko"].items()}
_clocks: list[ReplayClock] = []


class State(TypedDict, total=False):
    message: str
    image: str
    intent: str
    place: str
    found: str
    answer: str
    images: list[str]


async def pause(seconds: float) -> None:
    """Wait on the clock of the current replay, else in real time."""
    if _clocks:
        await _clocks[-1].sleep_until(_clocks[-1].seconds() + seconds, not_before=0)
    else:
        await asyncio.sleep(seconds)


async def intent(state: State) -> State:
    await pause(0.03)
    await FakeModel().ainvoke(state["message"])
    return {"intent": INTENTS.get(state["message"], "general")}


async def router(state: State) -> State:
    return {}


async def location(state: State) -> State:
    await FakeModel().ainvoke("where")
    await pause(0.12)
    await FakeModel().ainvoke("in words")
    return {"place": "강남역 11번 출구"}


async def web_search(state: State) -> State:
    await pause(0.08)
    await FakeModel().ainvoke("search")
    return {"found": "소식"}


async def answer(state: State) -> State:
    await pause(0.02)
    model = FakeModel(words=["강남역 ", "11번 출구 앞에 ", "페트병 수거함이 있습니다."])
    return {"answer": "".join([chunk.text async for chunk in model.astream(state["message"])])}


async def raise_timeout(state: State) -> State:
    raise TimeoutError("too late")


def build(checkpointer: Any = None, **nodes: Callable[..., Any]) -> Graph:
    """Return the graph. The given nodes replace those of the same name."""
    graph = StateGraph(State)
    for node in (intent, router, location, web_search, answer):
        graph.add_node(node.__name__, nodes.get(node.__name__, node))
    graph.add_edge(START, "intent")
    graph.add_edge("intent", "router")
    graph.add_edge("router", "location")
    graph.add_edge("router", "web_search")
    graph.add_edge(["location", "web_search"], "answer")
    graph.add_edge("answer", END)
    return graph.compile(checkpointer=checkpointer)


def runtime(tmp_path: Path, **nodes: Callable[..., Any]) -> Runtime:
    """Return a runtime without network access, with an empty recording of every conversation."""
    saver = InMemorySaver()
    for provider, language in product(("openai", "google"), CONVERSATIONS):
        folder = cassette_folder(tmp_path, provider=provider, language=language)
        folder.mkdir(parents=True, exist_ok=True)
        for name in CONVERSATIONS[language]:
            (folder / f"{name}.yaml").touch()

    @asynccontextmanager
    async def open_graph() -> AsyncIterator[Graph]:
        yield build(saver, **nodes)

    @contextmanager
    def replay(path: Path, *, clock: ReplayClock) -> Iterator[None]:
        _clocks.append(clock)
        try:
            yield
        finally:
            _clocks.pop()

    def make_handler(settings: Settings, **options: Any) -> Eco2CallbackHandler:
        return Eco2CallbackHandler(prices=settings.prices, agent_name="eco2", **options)

    def check_models() -> None:
        if not os.environ.get("OPENAI_API_KEY"):
            raise GraphConfigError("OPENAI_API_KEY is unset, wanted a key for provider 'openai'; set it.")

    return Runtime(
        open_graph=open_graph,
        make_handler=make_handler,
        make_turn=lambda message, *, image="": {"message": message, "image": image},
        check_models=check_models,
        cassettes=tmp_path,
        replay=replay,
        recorded_seconds=lambda path: 0.3,
    )
