"""Stage: the graph, its handler and its recordings, as the command line uses them."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from langgraph.graph.state import CompiledStateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, Settings
from eco2_callbacks.records import Sink
from graph import cassette, models
from graph.app import make_handler, open_graph
from graph.clients.character_server import CharacterServer
from graph.state import turn

__all__ = ["CASSETTES", "Clock", "Graph", "Stage", "character_service", "environment"]

CASSETTES = Path(__file__).parent.parent / "cassettes" / "demo"
Graph: TypeAlias = CompiledStateGraph[Any, None, Any, Any]
_utc_now = partial(datetime.now, UTC)


class Clock:
    """A clock that goes faster than time, so that what is replayed faster is measured as long as it really took.

    Args:
        speed: How many of its seconds a second has.
        monotonic, now: Time itself.
    """

    def __init__(
        self,
        speed: float,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> None:
        self._speed = speed
        self._monotonic = monotonic
        self._started = self.seconds()
        self._started_at = now()

    def seconds(self) -> float:
        """Return monotonic seconds."""
        return self._monotonic() * self._speed

    def now(self) -> datetime:
        """Return aware wall time."""
        return self._started_at + timedelta(seconds=self.seconds() - self._started)


class MakeHandler(Protocol):
    """Makes the handler; the last two arguments are the handler's own."""

    def __call__(
        self,
        settings: Settings,
        *,
        sinks: Sequence[Sink] = (),
        registry: CollectorRegistry,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> Eco2CallbackHandler:
        """Return the application's handler."""


@contextmanager
def environment(**variables: str) -> Iterator[None]:
    """Put these variables in the place of all settings of ours, and of what a recording replaces, until it ends."""
    ours = {name: os.environ.pop(name) for name in list(os.environ) if name.startswith("ECO2_")}
    try:
        with cassette.environment(**variables):
            yield
    finally:
        os.environ.update(ours)


@contextmanager
def character_service() -> Iterator[None]:
    """Run the character service, which no recording of HTTP holds, while the block does."""
    before = os.environ.get("ECO2_CHARACTER_ADDRESS")
    with CharacterServer() as server:
        os.environ["ECO2_CHARACTER_ADDRESS"] = server.address
        try:
            yield
        finally:
            os.environ.pop("ECO2_CHARACTER_ADDRESS")
            if before is not None:
                os.environ["ECO2_CHARACTER_ADDRESS"] = before


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """What the command line plays on.

    Attributes:
        graph: The compiled graph with its checkpointer, for as long as the block runs.
        make_handler: Makes the handler that measures it.
        turn: What a conversation's turn begins with: ``turn(message, image=...)``.
        check: Raises ``GraphConfigError`` where a key is missing that the models need.
        cassettes: Where the recordings lie: ``<intent>.yaml``, and ``google/<intent>.yaml``.
        replay: Answers from a recording, at a speed.
        recorded_seconds: How long the answers of a recording took, one after the other.
        services: Runs what cannot be recorded, such as the character service, while its block does.
    """

    graph: Callable[[], AbstractAsyncContextManager[Graph]] = open_graph
    make_handler: MakeHandler = make_handler
    turn: Callable[..., Any] = turn
    check: Callable[[], None] = models.check
    cassettes: Path = CASSETTES
    replay: Callable[..., AbstractContextManager[Any]] = cassette.replay
    recorded_seconds: Callable[[Path], float] = cassette.seconds
    services: Callable[[], AbstractContextManager[None]] = character_service
