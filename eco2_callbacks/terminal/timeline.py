"""Timeline: the requests of a handler, while they run and after they end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from typing import TypeVar
from uuid import UUID

from eco2_callbacks.forks import ForkLock
from eco2_callbacks.records import GraphRun, LLMCall, NodeRun, Record
from eco2_callbacks.sinks import RunStart
from eco2_callbacks.terminal.figures import UNCLASSIFIED, Figures, Row, Trace

__all__ = ["Timeline"]

_Kind = TypeVar("_Kind", NodeRun, LLMCall, GraphRun)
_utc_now = partial(datetime.now, UTC)


class Timeline:
    """A sink that collects requests: their starts and their records.

    Args:
        now: Wall time with a time zone; pass the handler's.
        answer_node: The node whose streamed answer the user reads, for ``Trace.first_token_seconds``; None for none.
    """

    def __init__(self, *, now: Callable[[], datetime] = _utc_now, answer_node: str | None = None) -> None:
        self._now = now
        self._answer_node = answer_node
        self._lock = ForkLock()  # the view is drawn on another thread
        self.clear()

    def clear(self) -> None:
        """Forget everything."""
        self._traces: dict[UUID, _OpenTrace] = {}

    @property
    def traces(self) -> list[Trace]:
        """All requests in the order of their starts, in their current state."""
        with self._lock.held:
            now = self._now()
            return [_trace(trace, now, self._answer_node) for trace in self._traces.values()]

    @property
    def nodes(self) -> list[NodeRun]:
        """The records of all nodes."""
        return self._of(NodeRun)

    @property
    def calls(self) -> list[LLMCall]:
        """The records of all model calls."""
        return self._of(LLMCall)

    @property
    def requests(self) -> list[GraphRun]:
        """The records of all requests that have ended."""
        return self._of(GraphRun)

    def on_start(self, run: RunStart) -> None:
        """Add a run that has started."""
        with self._lock.held:
            trace = self._traces.get(run.trace_id)
            if trace is None:
                trace = self._traces[run.trace_id] = _OpenTrace(run)
            trace.open.add(run.run_id)
            # What runs inside a node is part of the node's figures, except for the nodes of a nested graph.
            if run is not trace.first and (run.kind == "node" or run.node_run_id is None):
                trace.started[run.run_id] = run

    def emit(self, record: Record) -> None:
        """Add the record of a run that has ended; one whose start is unknown came from ``handler.emit``."""
        with self._lock.held:
            if (trace := self._traces.get(record.trace_id)) is not None:
                run_id = _run_id(record)
                trace.open.discard(run_id)
                trace.records[run_id] = record

    def pop_ended(self) -> list[Trace]:
        """Forget the requests in which nothing runs any more, and return them."""
        with self._lock.held:
            ended = [trace_id for trace_id, trace in self._traces.items() if not trace.open]
            now = self._now()
            return [_trace(self._traces.pop(trace_id), now, self._answer_node) for trace_id in ended]

    def _of(self, kind: type[_Kind]) -> list[_Kind]:
        with self._lock.held:
            records = [record for trace in self._traces.values() for record in trace.records.values()]
        return [record for record in records if isinstance(record, kind)]


@dataclass(slots=True)
class _OpenTrace:
    """What is known of one request, or of one run outside of any request.

    Attributes:
        first: The topmost run.
        started: The runs that get a row, by run id, in the order of their starts.
        open: Ids of all runs that have not ended.
        records: The records of those that have, by run id.
    """

    first: RunStart
    started: dict[UUID, RunStart] = field(default_factory=dict)
    open: set[UUID] = field(default_factory=set)
    records: dict[UUID, Record] = field(default_factory=dict)


def _trace(trace: _OpenTrace, now: datetime, answer_node: str | None) -> Trace:
    origin = trace.first.started_at
    record = trace.records.get(trace.first.run_id)
    records = trace.records.values()
    nodes = [run for run in records if isinstance(run, NodeRun)]
    intents = [run.intent for run in nodes if run.intent != UNCLASSIFIED]
    calls = [run for run in records if isinstance(run, LLMCall)]
    intent = record.intent if record is not None else intents[-1] if intents else UNCLASSIFIED
    first_tokens = [
        _seconds_between(origin, call.started_at) + call.time_to_first_token_seconds
        for call in calls
        if answer_node is not None and call.node == answer_node and call.time_to_first_token_seconds is not None
    ]
    below: dict[UUID | None, list[RunStart]] = {}
    for run in trace.started.values():
        below.setdefault(run.node_run_id if run.node_run_id in trace.started else None, []).append(run)
    rows = [_row(run, below, trace.records, origin, now) for run in below.get(None, ())]
    if record is not None:
        figures = Figures.sum([record])
    else:
        figures = replace(Figures.sum(calls), runs=1, seconds=_seconds_between(origin, now))
    return Trace(
        name=_name(trace, record, intent),
        intent=intent,
        status="running" if record is None else record.status,
        error_type=None if record is None else record.error_type,
        figures=figures,
        rows=tuple(rows),
        first_token_seconds=min(first_tokens, default=None),
    )


def _name(trace: _OpenTrace, record: Record | None, intent: str) -> str:
    if trace.first.kind != "request":
        return trace.first.name
    if intent != UNCLASSIFIED:
        return intent
    return "…" if record is None else getattr(record, "agent_name", "") or "request"


def _row(
    run: RunStart,
    below: Mapping[UUID | None, Sequence[RunStart]],
    records: Mapping[UUID, Record],
    origin: datetime,
    now: datetime,
) -> Row:
    record = records.get(run.run_id)
    return Row(
        name=run.name,
        step=run.step,
        started_seconds=_seconds_between(origin, run.started_at),
        status="running" if record is None else record.status,
        error_type=None if record is None else record.error_type,
        figures=(
            Figures(runs=1, seconds=_seconds_between(run.started_at, now)) if record is None else Figures.sum([record])
        ),
        rows=tuple(_row(inner, below, records, origin, now) for inner in below.get(run.run_id, ())),
    )


def _run_id(record: Record) -> UUID:
    return record.trace_id if isinstance(record, GraphRun) else record.run_id


def _seconds_between(earlier: datetime, later: datetime) -> float:
    return max(0.0, (later - earlier).total_seconds())
