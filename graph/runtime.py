"""The runtime of the command line and the worker: the graph, its handler and the recordings."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from langgraph.graph.state import CompiledStateGraph
from prometheus_client import CollectorRegistry

from eco2_callbacks import Eco2CallbackHandler, LedgerSink, Settings, Sink
from graph import models
from graph.app import make_handler, open_graph
from graph.clients import CharacterServer
from graph.replay import recorded_seconds, replay
from graph.state import turn

__all__ = ["CASSETTES", "Graph", "Runtime", "character_service"]

CASSETTES = Path(__file__).parent.parent / "cassettes" / "demo"
"""The demo's recordings."""
Graph: TypeAlias = CompiledStateGraph[Any, None, Any, Any]
_utc_now = partial(datetime.now, UTC)


class MakeHandler(Protocol):
    """Creates the handler. ``clock`` and ``now`` are the handler's own arguments."""

    def __call__(
        self,
        settings: Settings,
        *,
        sinks: Sequence[Sink] = (),
        registry: CollectorRegistry,
        ledger: LedgerSink | None = None,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], datetime] = _utc_now,
    ) -> Eco2CallbackHandler:
        """Return the application's handler."""


@contextmanager
def character_service() -> Iterator[None]:
    """Run the character service during the block. It uses gRPC, so no HTTP recording can replace it."""
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
class Runtime:
    """The dependencies of the command line and the worker. Tests replace them.

    Attributes:
        open_graph: Opens the compiled graph with its checkpointer, and closes it after the block.
        make_handler: Creates the handler for the graph.
        make_turn: Returns a turn's initial state: ``make_turn(message, image=...)``.
        check_models: Raises ``GraphConfigError`` if a model's key is missing.
        cassettes: The folder of the recordings: ``<intent>.yaml`` and ``google/<intent>.yaml``.
        replay: Replays a recording at a speed.
        recorded_seconds: Returns the sum of the durations of a recording's answers.
        run_services: Runs services without recordings during the block.
    """

    open_graph: Callable[[], AbstractAsyncContextManager[Graph]] = open_graph
    make_handler: MakeHandler = make_handler
    make_turn: Callable[..., Any] = turn
    check_models: Callable[[], None] = models.check
    cassettes: Path = CASSETTES
    replay: Callable[..., AbstractContextManager[Any]] = replay
    recorded_seconds: Callable[[Path], float] = recorded_seconds
    run_services: Callable[[], AbstractContextManager[None]] = character_service
