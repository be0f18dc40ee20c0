"""Publishes what happens in one run of the graph: nodes, tokens, and the figures of the handler's records."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

from eco2_callbacks import GraphRun, NodeRun, Record
from graph.node_runs import node_of
from graph.streams import Publisher

__all__ = ["ANSWER_NODE", "RunEvents", "RunRecords"]

ANSWER_NODE = "answer"


class RunEvents(BaseCallbackHandler):
    """Publishes the starts of nodes and the answer's tokens as they happen, and the ends of nodes with their figures.

    It is a callback because ``stream_mode="messages"`` would make every model stream.

    Args:
        publisher: Takes the events, on the loop that creates this object.
    """

    run_inline = True

    def __init__(self, publisher: Publisher) -> None:
        super().__init__()
        self._publisher = publisher
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._root: UUID | None = None
        self._nodes: dict[UUID, str] = {}
        self._answer_calls: set[UUID] = set()
        self.record: asyncio.Future[GraphRun] = self._loop.create_future()

    @property
    def has_started(self) -> bool:
        """Whether the graph has begun."""
        return self._root is not None

    def _put(self, kind: Any, **data: Any) -> None:
        # A node that is a plain function runs on another thread.
        if threading.get_ident() == self._thread:
            self._publisher.put(kind, **data)
        else:
            self._loop.call_soon_threadsafe(lambda: self._publisher.put(kind, **data))

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish the start of a node directly below the request."""
        if parent_run_id is None:
            self._root = run_id
            return
        if parent_run_id == self._root and (node := node_of(metadata, kwargs.get("name"))) is not None:
            self._nodes[run_id] = node
            self._put("node", node=node, status="started")

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: list[list[BaseMessage]],
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        tags: list[str] | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Remember the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") == ANSWER_NODE:
            self._answer_calls.add(run_id)

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Publish a piece of the answer."""
        text = chunk.text if chunk is not None else token
        if run_id in self._answer_calls and isinstance(text, str) and text:
            self._put("token", node=ANSWER_NODE, text=text)

    def add_record(self, record: Record) -> None:
        """Publish the end of a node with its figures, or keep the figures of the whole run. For any thread."""
        match record:
            case NodeRun() if (node := self._nodes.pop(record.run_id, None)) is not None:
                usd, seconds = str(record.cost.total_usd), round(record.duration_seconds, 3)
                self._put("node", node=node, status="ended", outcome=record.status, seconds=seconds, usd=usd)
            case GraphRun():
                self._loop.call_soon_threadsafe(self._set_record, record)

    def _set_record(self, record: GraphRun) -> None:
        if not self.record.done():
            self.record.set_result(record)


class RunRecords:
    """A sink of the handler: hands the records of each run to its :class:`RunEvents`."""

    def __init__(self) -> None:
        self._runs: dict[UUID, RunEvents] = {}

    @contextmanager
    def of(self, root: UUID, events: RunEvents) -> Iterator[None]:
        """Hand the records of the run with this root to ``events`` during the block."""
        self._runs[root] = events
        try:
            yield
        finally:
            del self._runs[root]

    def emit(self, record: Record) -> None:
        """Take one record."""
        if (events := self._runs.get(record.trace_id)) is not None:
            events.add_record(record)
