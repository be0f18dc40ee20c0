"""Timeline: what the command line knows of requests, while they run and after; pure figures, no drawing."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from typing import Any, Literal, TypeAlias
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk

from eco2_callbacks import Cost, GraphRun, LLMCall, NodeRun, Record, TokenUsage
from eco2_callbacks.records import Status
from graph.node_runs import node_of

__all__ = ["Figures", "Row", "Timeline", "Trace", "as_json", "saved_seconds", "steps", "totals"]

State: TypeAlias = Status | Literal["running"]
_utc_now = partial(datetime.now, UTC)
_STEP_TAG = "graph:step:"
_UNCLASSIFIED = "unclassified"


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What was counted of something, and how often it ran."""

    runs: int = 0
    seconds: float = 0.0
    usage: TokenUsage = field(default_factory=TokenUsage)
    cost: Cost = field(default_factory=Cost)
    estimated: bool = False
    unpriced_calls: int = 0

    @classmethod
    def sum(cls, runs: Iterable[NodeRun | GraphRun | LLMCall]) -> Figures:
        """Return the figures of all these runs together."""
        runs = list(runs)
        return cls(
            runs=len(runs),
            seconds=sum(run.duration_seconds for run in runs),
            usage=TokenUsage.sum(run.usage for run in runs if run.usage is not None),
            cost=Cost.sum(run.cost for run in runs if run.cost is not None),
            estimated=any(run.estimated for run in runs),
            unpriced_calls=sum(_unpriced_calls(run) for run in runs),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One run of a node: when, counted from its request's start, for how long, and what it spent.

    ``figures`` are those at the end; of a node that is still running they hold its seconds so far.
    """

    node: str
    step: int | None = None
    started_seconds: float
    status: State = "running"
    error_type: str | None = None
    figures: Figures

    @property
    def ended_seconds(self) -> float:
        """When it ended, or now."""
        return self.started_seconds + self.figures.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One request with its nodes in the order of their starts; ``answer`` is what has been streamed of it so far."""

    intent: str = _UNCLASSIFIED
    status: State = "running"
    error_type: str | None = None
    figures: Figures
    rows: tuple[Row, ...] = ()
    answer: str = ""
    first_token_seconds: float | None = None


class Timeline(BaseCallbackHandler):
    """Follows requests: a sink of the handler for all that has ended, a callback beside it for what has not.

    A record is made at the end of a run, so a picture that is live needs the starts from elsewhere. A callback is told
    them under the run id that the record bears, and changes nothing about the requests: ``stream_mode="messages"``
    would make every model stream, also those that a node merely invokes, and ``"tasks"`` has ids of its own.

    Args:
        now: Aware wall time, the handler's.
        answering: The node whose stream is the answer.
        on_text: Is given each piece of the answer as it comes.
    """

    run_inline = True

    def __init__(
        self,
        *,
        now: Callable[[], datetime] = _utc_now,
        answering: str = "answer",
        on_text: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._now = now
        self._answering = answering
        self._on_text = on_text
        self._lock = threading.Lock()  # the picture is drawn on another thread
        self._open: dict[UUID, _Request] = {}
        self._above: dict[UUID, _Request] = {}
        self._answers: dict[UUID, _Request] = {}

    @property
    def traces(self) -> list[Trace]:
        """All requests in the order of their starts, as they stand now."""
        with self._lock:
            now = self._now()
            return [_trace(request, now, self._answering) for request in self._open.values()]

    @property
    def nodes(self) -> list[NodeRun]:
        """The records of all nodes."""
        with self._lock:
            return [run for request in self._open.values() for run in request.nodes.values()]

    @property
    def calls(self) -> list[LLMCall]:
        """The records of all model calls."""
        with self._lock:
            return [call for request in self._open.values() for call in request.calls]

    @property
    def requests(self) -> list[GraphRun]:
        """The records of all requests that have ended."""
        with self._lock:
            return [request.run for request in self._open.values() if request.run is not None]

    def emit(self, record: Record) -> None:
        """Take the record of something that ended."""
        with self._lock:
            if (request := self._open.get(record.trace_id)) is None:
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
        """Note the start of a request, or of a node directly below it: what runs deeper is counted in that node."""
        with self._lock:
            if parent_run_id is None:
                self._open[run_id] = self._above[run_id] = _Request(started_at=self._now())
            elif (request := self._above.get(parent_run_id)) is not None:
                self._above[run_id] = request
                if parent_run_id in self._open and (node := node_of(metadata, kwargs.get("name"))) is not None:
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
        """Note the call that writes the answer."""
        if (metadata or {}).get("langgraph_node") != self._answering or parent_run_id is None:
            return
        with self._lock:
            if (request := self._above.get(parent_run_id)) is not None:
                self._answers[run_id] = request

    def on_llm_new_token(
        self,
        token: str | list[str | dict[str, Any]],
        *,
        chunk: GenerationChunk | ChatGenerationChunk | None = None,
        run_id: UUID,
        **kwargs: Any,
    ) -> None:
        """Take in a piece of the answer."""
        if (request := self._answers.get(run_id)) is None:
            return
        text = chunk.text if chunk is not None else token
        if isinstance(text, str) and text:
            with self._lock:
                request.answer.append(text)
            if self._on_text is not None:
                self._on_text(text)


def steps(rows: Iterable[Row]) -> list[tuple[Row, ...]]:
    """Return the rows by the graph's steps, in order: those of one step were started side by side."""
    by_step: dict[Hashable, list[Row]] = {}
    for row in rows:
        by_step.setdefault(row.step if row.step is not None else id(row), []).append(row)
    return [tuple(step) for step in by_step.values()]


def saved_seconds(rows: Sequence[Row]) -> float:
    """Return how much longer these rows would have taken one after the other: their sum less the time they cover."""
    covered = end = 0.0
    for row in sorted(rows, key=lambda row: row.started_seconds):
        covered += max(0.0, row.ended_seconds - max(end, row.started_seconds))
        end = max(end, row.ended_seconds)
    return max(0.0, sum(row.figures.seconds for row in rows) - covered)


def totals(timeline: Timeline) -> dict[str, dict[str, Figures]]:
    """Return what all requests together came to, by node, by model and by intent."""
    return {
        "node": _by(timeline.nodes, lambda run: run.node),
        "model": _by(timeline.calls, lambda call: call.model),
        "intent": _by(timeline.requests, lambda request: request.intent),
    }


def as_json(timeline: Timeline) -> dict[str, Any]:
    """Return requests, their nodes and totals in JSON's types; a cost that nobody knows is None.

    Dollars are added up exactly and become floats at the end.
    """
    return {
        "requests": [
            {
                "intent": trace.intent,
                "nodes": [
                    {"node": row.node, "started_seconds": round(row.started_seconds, 6), **_numbers(row.figures)}
                    for row in trace.rows
                ],
                "cost_usd": _usd(trace.figures),
            }
            for trace in timeline.traces
        ],
        "totals": {
            "requests": len(timeline.requests),
            **_numbers(Figures.sum(timeline.requests)),
            "unpriced_calls": Figures.sum(timeline.requests).unpriced_calls,
            **{
                f"{kind}s": {name: _numbers(figures) for name, figures in by.items()}
                for kind, by in totals(timeline).items()
            },
        },
    }


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


def _trace(request: _Request, now: datetime, answering: str) -> Trace:
    run = request.run
    origin = request.started_at if run is None else run.started_at
    ended = request.nodes
    rows = tuple(
        _ended_row(ended[run_id], origin) if run_id in ended else _running_row(start, origin, now)
        for run_id, start in request.started.items()
    )
    known = [node.intent for node in ended.values() if node.intent != _UNCLASSIFIED]
    first_tokens = [
        _since(origin, call.started_at) + call.time_to_first_token_seconds
        for call in request.calls
        if call.node == answering and call.time_to_first_token_seconds is not None
    ]
    return Trace(
        intent=run.intent if run is not None else known[-1] if known else _UNCLASSIFIED,
        status="running" if run is None else run.status,
        error_type=None if run is None else run.error_type,
        figures=(
            Figures.sum([run])
            if run is not None
            else Figures(
                runs=1, seconds=_since(origin, now), usage=TokenUsage.sum(node.usage for node in ended.values())
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
        started_seconds=_since(origin, node.started_at),
        status=node.status,
        error_type=node.error_type,
        figures=Figures.sum([node]),
    )


def _running_row(start: _Start, origin: datetime, now: datetime) -> Row:
    return Row(
        node=start.node,
        step=start.step,
        started_seconds=_since(origin, start.started_at),
        figures=Figures(runs=1, seconds=_since(start.started_at, now)),
    )


def _since(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())


def _step(tags: Sequence[str] | None) -> int | None:
    for tag in tags or ():
        if tag.startswith(_STEP_TAG):
            return int(tag.removeprefix(_STEP_TAG))
    return None


def _unpriced_calls(run: NodeRun | GraphRun | LLMCall) -> int:
    return int(run.unpriced_reason is not None) if isinstance(run, LLMCall) else run.unpriced_calls


def _by(runs: Iterable[Any], name_of: Callable[[Any], str]) -> dict[str, Figures]:
    groups: dict[str, list[Any]] = {}
    for run in runs:
        groups.setdefault(name_of(run), []).append(run)
    return {name: Figures.sum(group) for name, group in groups.items()}


def _numbers(figures: Figures) -> Mapping[str, float | None]:
    return {
        "seconds": round(figures.seconds, 6),
        "input_tokens": figures.usage.input_tokens,
        "output_tokens": figures.usage.output_tokens,
        "cost_usd": _usd(figures),
    }


def _usd(figures: Figures) -> float | None:
    total_usd: Decimal = figures.cost.total_usd
    return None if figures.unpriced_calls and not total_usd else float(total_usd)
