"""Collects requests while they run and after they end, for the command line."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

from eco2_callbacks import GraphRun, LLMCall, NodeRun, Record, TokenUsage
from graph.cli.figures import UNCLASSIFIED, Figures, Row, Trace
from graph.node_runs import node_of

__all__ = ["Timeline"]

_utc_now = partial(datetime.now, UTC)
_STEP_TAG = "graph:step:"


class Timeline(BaseCallbackHandler):
    """Collects requests: as a sink of the handler the ended runs, as a callback the running ones.

    The handler emits a record at the end of a run, so a live view needs the starts from a callback. Both use the same
    run ids. The stream modes of LangGraph do not fit: ``"messages"`` makes every model stream, and ``"tasks"`` has
    its own ids.

    Args:
        now: Wall time with time zone; pass the handler's.
        answer_node: The node whose stream is the answer.
        on_text: Receives each piece of the answer.
    """

    run_inline = True

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utc_now,
        answer_node: str = "answer",
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._now = now
        self._answer_node = answer_node
        self._on_text = on_text
        self._lock = threading.Lock()  # the view is drawn on another thread
        self._requests: dict[UUID, _Request] = {}
        self._request_of_run: dict[UUID, _Request] = {}
        self._request_of_answer_call: dict[UUID, _Request] = {}

    @property
    def traces(self) -> list[Trace]:
        """All requests in the order of their starts, in their current state."""
        with self._lock:
            now = self._now()
            return [_trace(request, now, self._answer_node) for request in self._requests.values()]

    @property
    def nodes(self) -> list[NodeRun]:
        """The records of all nodes."""
        with self._lock:
            return [run for request in self._requests.values() for run in request.nodes.values()]

    @property
    def calls(self) -> list[LLMCall]:
        """The records of all model calls."""
        with self._lock:
            return [call for request in self._requests.values() for call in request.calls]

    @property
    def requests(self) -> list[GraphRun]:
        """The records of all requests that have ended."""
        with self._lock:
            return [request.run for request in self._requests.values() if request.run is not None]

    def emit(self, record: Record) -> None:
        """Add the record of an ended run."""
        with self._lock:
            if (request := self._requests.get(record.trace_id)) is None:
                return
            match record:
                case NodeRun() if record.run_id in request.started:
                    request.nodes[record.run_id] = record
                case LLMCall():
                    request.calls.append(record)
                case GraphRun():
                    request.run = record

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
        """Add a request, or a node directly below it. Deeper runs are part of that node."""
        with self._lock:
            if parent_run_id is None:
                self._requests[run_id] = self._request_of_run[run_id] = _Request(started_at=self._now())
            elif (request := self._request_of_run.get(parent_run_id)) is not None:
                self._request_of_run[run_id] = request
                if parent_run_id in self._requests and (node := node_of(metadata, kwargs.get("name"))) is not None:
                    request.started[run_id] = _Start(node=node, step=_step(tags), started_at=self._now())

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
        if (metadata or {}).get("langgraph_node") != self._answer_node or parent_run_id is None:
            return
        with self._lock:
            if (request := self._request_of_run.get(parent_run_id)) is not None:
                self._request_of_answer_call[run_id] = request

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Add a piece of the answer."""
        if (request := self._request_of_answer_call.get(run_id)) is None:
            return
        text = chunk.text if chunk is not None else token
        if isinstance(text, str) and text:
            with self._lock:
                request.answer.append(text)
            if self._on_text is not None:
                self._on_text(text)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    node: str
    step: int | None
    started_at: datetime


@dataclass(slots=True, kw_only=True)
class _Request:
    started_at: datetime
    started: dict[UUID, _Start] = field(default_factory=dict)
    nodes: dict[UUID, NodeRun] = field(default_factory=dict)
    calls: list[LLMCall] = field(default_factory=list)
    answer: list[str] = field(default_factory=list)
    run: GraphRun | None = None


def _trace(request: _Request, now: datetime, answer_node: str) -> Trace:
    run = request.run
    origin = request.started_at if run is None else run.started_at
    ended_nodes = request.nodes
    rows = tuple(
        _ended_row(ended_nodes[run_id], origin) if run_id in ended_nodes else _running_row(start, origin, now)
        for run_id, start in request.started.items()
    )
    intents = [node.intent for node in ended_nodes.values() if node.intent != UNCLASSIFIED]
    first_tokens = [
        _seconds_between(origin, call.started_at) + call.time_to_first_token_seconds
        for call in request.calls
        if call.node == answer_node and call.time_to_first_token_seconds is not None
    ]
    return Trace(
        intent=run.intent if run is not None else intents[-1] if intents else UNCLASSIFIED,
        status="running" if run is None else run.status,
        error_type=None if run is None else run.error_type,
        figures=(
            Figures.sum([run])
            if run is not None
            else Figures(
                runs=1,
                seconds=_seconds_between(origin, now),
                usage=TokenUsage.sum(node.usage for node in ended_nodes.values()),
            )
        ),
        rows=rows,
        answer="".join(request.answer),
        first_token_seconds=min(first_tokens, default=None),
    )


def _ended_row(node: NodeRun, origin: datetime) -> Row:
    return Row(
        node=node.node,
        step=node.step,
        started_seconds=_seconds_between(origin, node.started_at),
        status=node.status,
        error_type=node.error_type,
        figures=Figures.sum([node]),
    )


def _running_row(start: _Start, origin: datetime, now: datetime) -> Row:
    return Row(
        node=start.node,
        step=start.step,
        started_seconds=_seconds_between(origin, start.started_at),
        figures=Figures(runs=1, seconds=_seconds_between(start.started_at, now)),
    )


def _seconds_between(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())


def _step(tags: Sequence[str] | None) -> int | None:
    for tag in tags or ():
        if tag.startswith(_STEP_TAG):
            return int(tag.removeprefix(_STEP_TAG))
    return None
