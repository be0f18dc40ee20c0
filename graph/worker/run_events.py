"""Publishes what happens in one run of the graph: nodes, calls, tokens, and the figures of the handler's records."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Literal, TypeAlias
from uuid import UUID

import msgspec

from eco2_callbacks import GraphRun, LLMCall, NodeRun, Record, RetrieverCall, ToolCall, Totals
from graph.answer_stream import ANSWER_NODE, AnswerStream
from graph.node_runs import node_of
from graph.streams import Publisher, RunSpending, tokens_of
from graph.worker.run_spans import RunSpans

__all__ = ["RunEvents", "RunRecords"]

CallType: TypeAlias = Literal["model", "tool", "retriever"]


class RunEvents(AnswerStream):
    """Publishes the starts of nodes and calls and the answer's tokens as they happen, and the ends with their figures.

    Args:
        publisher: Takes the events, on the loop that creates this object.
        accepted_at: When the question was accepted: the zero of the events' time.
        started_at: Returns when a root started, as its record will say.
        spans: Gets the same starts and records; None makes no spans.
    """

    def __init__(
        self,
        publisher: Publisher,
        *,
        accepted_at: datetime,
        started_at: Callable[[UUID], datetime | None],
        spans: RunSpans | None = None,
    ) -> None:
        super().__init__()
        self._publisher, self._accepted_at, self._spans = publisher, accepted_at, spans
        self._started_at = started_at
        self._loop = asyncio.get_running_loop()
        self._thread = threading.get_ident()
        self._root: UUID | None = None
        self._open_calls: set[UUID] = set()
        self._node_names: dict[UUID, str] = {}
        self._node_of_run: dict[UUID, UUID] = {}  # of every run below a node, and of the node's own
        self.record: asyncio.Future[GraphRun] = self._loop.create_future()

    @property
    def has_started(self) -> bool:
        """Whether the graph has begun."""
        return self._root is not None

    def _put(self, kind: Any, **data: Any) -> None:
        self._on_loop(lambda: self._publisher.put(kind, **data))

    def _on_loop(self, change: Callable[[], None]) -> None:
        # A node that is a plain function runs on another thread.
        if threading.get_ident() == self._thread:
            change()
        else:
            self._loop.call_soon_threadsafe(change)

    def _at_seconds(self, moment: datetime) -> float:
        return round(max(0.0, (moment - self._accepted_at).total_seconds()), 3)

    def on_chain_start(
        self,
        serialized: dict[str, Any] | None,
        inputs: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish the start of a node directly below the request."""
        if parent_run_id is None:
            self._root = run_id
            started_at = self._started_at(run_id) or _now()
            started = RunSpending(run=self._publisher.run, trace_id=str(run_id), started_at=started_at)
            self._on_loop(lambda: self._publisher.set_spending(started))
        elif parent_run_id != self._root:
            self._enter(run_id, parent_run_id)
        elif (node := node_of(metadata, kwargs.get("name"))) is not None:
            self._node_of_run[run_id] = run_id
            self._node_names[run_id] = node
            if self._spans is not None:
                self._spans.start(run_id, parent=None, kind="node", name=node)
            self._put("node", id=str(run_id), node=node, status="started", at_seconds=self._at_seconds(_now()))

    def on_chat_model_start(
        self,
        serialized: dict[str, Any],
        messages: Any,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        metadata: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish the start of a model call, and remember the one that writes the answer."""
        super().on_chat_model_start(serialized, messages, run_id=run_id, metadata=metadata)
        self._on_loop(lambda: self._open_call(run_id))
        self._start_call(run_id, parent_run_id, "model", (metadata or {}).get("ls_model_name") or kwargs.get("name"))

    def on_tool_start(
        self,
        serialized: dict[str, Any] | None,
        input_str: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish the start of a tool."""
        self._start_call(run_id, parent_run_id, "tool", kwargs.get("name") or (serialized or {}).get("name"))

    def on_retriever_start(
        self,
        serialized: dict[str, Any] | None,
        query: str,
        *,
        run_id: UUID,
        parent_run_id: UUID | None = None,
        **kwargs: Any,
    ) -> None:
        """Publish the start of a retriever."""
        self._start_call(run_id, parent_run_id, "retriever", kwargs.get("name") or (serialized or {}).get("name"))

    def on_answer_text(self, text: str) -> None:
        """Publish a piece of the answer."""
        self._put("token", node=ANSWER_NODE, text=text)

    def add_record(self, record: Record) -> None:
        """Publish the end of a step with its figures, or keep the figures of the whole run. For any thread."""
        if self._spans is not None:
            self._spans.end(record)
        match record:
            case NodeRun() if (node := self._node_names.get(record.run_id)) is not None:
                usd = record.cost.total_usd
                figures: dict[str, Any] = {
                    "usd": str(usd) if usd or not record.unpriced_calls else None,
                    "tokens": tokens_of(record.usage),
                    **({"estimated": True} if record.estimated else {}),
                    **({"unpriced_calls": record.unpriced_calls} if record.unpriced_calls else {}),
                }
                self._put("node", id=str(record.run_id), node=node, **self._ended(record), **figures)
            case LLMCall():
                self._on_loop(lambda: self._spend(record))
                figures = {
                    "usd": str(record.cost.total_usd) if record.cost is not None else None,
                    "tokens": tokens_of(record.usage) if record.usage is not None else None,
                    **({"estimated": True} if record.estimated else {}),
                    **({"retry": record.retry} if record.retry else {}),
                }
                node_id = self._node_of_run.get(record.run_id) or self._node_of_run.get(
                    record.parent_run_id or record.run_id
                )
                self._end_call(record, node_id, "model", record.model or record.request_model, figures)
            case ToolCall():
                self._end_call(record, self._node_of_run.get(record.run_id), "tool", record.tool_name, {})
            case RetrieverCall():
                self._end_call(record, self._node_of_run.get(record.run_id), "retriever", record.retriever, {})
            case GraphRun():
                self._loop.call_soon_threadsafe(self._set_record, record)

    def _enter(self, run_id: UUID, parent: UUID | None) -> UUID | None:
        """Remember which node a run belongs to, and return that node's run."""
        node_id = self._node_of_run.get(parent) if parent is not None else None
        if node_id is not None:
            self._node_of_run[run_id] = node_id
        return node_id

    def _start_call(self, run_id: UUID, parent: UUID | None, kind: CallType, name: object) -> None:
        node_id, name = self._enter(run_id, parent), str(name or kind)
        if self._spans is not None:
            self._spans.start(run_id, parent=node_id, kind=kind, name=name)
        if node_id is not None:
            step = {"id": str(run_id), "node_id": str(node_id), "node": self._node_names[node_id]}
            self._put("call", **step, type=kind, name=name, status="started", at_seconds=self._at_seconds(_now()))

    def _end_call(
        self,
        record: LLMCall | ToolCall | RetrieverCall,
        node_id: UUID | None,
        kind: CallType,
        name: str,
        figures: dict[str, Any],
    ) -> None:
        if node_id is not None:
            step = {"id": str(record.run_id), "node_id": str(node_id), "node": self._node_names[node_id]}
            self._put("call", **step, type=kind, name=name, **self._ended(record), **figures)

    def _ended(self, record: LLMCall | ToolCall | RetrieverCall | NodeRun) -> dict[str, Any]:
        return {
            "status": "ended",
            "at_seconds": self._at_seconds(record.started_at),
            "outcome": record.status,
            "seconds": round(record.duration_seconds, 3),
        }

    def _open_call(self, run_id: UUID) -> None:
        self._open_calls.add(run_id)
        self._set_spending()

    def _spend(self, call: LLMCall) -> None:
        self._open_calls.discard(call.run_id)
        self._set_spending(call)

    def _set_spending(self, *ended: LLMCall) -> None:
        """Have the next write store the run's cost, with the event that says so."""
        if (spending := self._publisher.spending) is not None:
            totals = Totals.sum([spending.totals, Totals.of(ended)])
            self._publisher.set_spending(
                msgspec.structs.replace(spending, totals=totals, open_calls=len(self._open_calls))
            )

    def _set_record(self, record: GraphRun) -> None:
        if (spending := self._publisher.spending) is not None:
            # The root's record is the last: a call that has no record by now gets none, and is not open.
            self._publisher.set_spending(msgspec.structs.replace(spending, open_calls=0, is_recorded=True))
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


def _now() -> datetime:
    return datetime.now(UTC)
