"""Tracker: from the starts and ends of runs to the tree they form, each with its record in the end."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage

from eco2_callbacks.attempts import AttemptWatch, run_of_context
from eco2_callbacks.attribution import UNCLASSIFIED, provider_of, request_model, state_values, text_of
from eco2_callbacks.forsaken import CallWatch
from eco2_callbacks.langsmith import LangSmithRuns
from eco2_callbacks.outcomes import ABANDONED, Outcome
from eco2_callbacks.prometheus import PrometheusSink
from eco2_callbacks.recorder import Recorder, where
from eco2_callbacks.records import Record
from eco2_callbacks.runs import OpenCall, OpenNode, OpenRequest, OpenRun, OpenRuns, OpenTool
from eco2_callbacks.streams import Stream
from eco2_callbacks.traced import Teller, teller_of_event

__all__ = ["Tracker"]

# More runs than any process has open at once, for longer than any request takes: beyond it ends must have been lost.
_MOST_OPEN_RUNS = 100_000
_OLDEST_SECONDS = 6 * 3600.0
_STEP_TAG = "graph:step:"
# LangGraph's own entry, a run only where an edge from it is conditional.
_START = "__start__"
_NOTHING: Mapping[str, Any] = {}


class Tracker:
    """Knows every open run of one handler, and has each one recorded when it ends.

    Args:
        emit: Takes the finished records.
        live: Shows what is open before there is a record of it.
        recorder: Makes the records.
        langsmith: Writes what is known of a run on LangSmith's.
        state_labels, clock, now: As the handler's.
    """

    def __init__(
        self,
        *,
        emit: Callable[[Record], None],
        live: PrometheusSink,
        recorder: Recorder,
        langsmith: LangSmithRuns,
        state_labels: tuple[str, ...],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._emit = emit
        self._live = live
        self._recorder = recorder
        self._langsmith = langsmith
        self._state_labels = state_labels
        self._clock = clock
        self._now = now
        self._runs = OpenRuns(most=_MOST_OPEN_RUNS, oldest_seconds=_OLDEST_SECONDS)
        self._attempts = AttemptWatch(self._runs)
        self._watch = CallWatch()
        live.watch_open_runs(self._count_open_runs)

    def open_chain(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: object,
        inputs: object,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
    ) -> None:
        """Open a chain's run: a request where it is the topmost one seen, a node's run, or a link between runs."""
        if self._runs.get(run_id) is not None:
            return  # attached twice
        metadata = metadata or _NOTHING
        parent = self._parent(parent_run_id)
        node = metadata.get("langgraph_node")
        run: OpenRun
        if isinstance(name, str) and node == name != _START and (step := _step(tags)) is not None:
            run = self._new_node(run_id, parent, name, step, inputs, metadata)
        elif parent is None:
            run = self._new_request(run_id, inputs, tags, metadata)
        else:
            run = OpenRun(run_id=run_id)
        self._open(run, parent, name, tags)

    def open_call(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        *,
        serialized: Mapping[str, Any] | None,
        params: Mapping[str, Any] | None,
        messages: Sequence[BaseMessage] = (),
        prompts: Sequence[str] = (),
    ) -> None:
        """Open a model's call, of a chat model with messages or of a text-completion model with prompts."""
        if self._runs.get(run_id) is not None:
            return  # attached twice
        metadata = metadata or _NOTHING
        params = params if isinstance(params, dict) else _NOTHING
        parent = self._parent(parent_run_id)
        node, intent, tenant_id = where(parent, metadata)
        call = OpenCall(
            run_id=run_id,
            parent_run_id=parent_run_id,
            node_name=node,
            intent=intent,
            tenant_id=tenant_id,
            operation="text_completion" if prompts else "chat",
            provider=provider_of(metadata, serialized),
            request_model=request_model(metadata, params),
            params=params,
            messages=messages,
            prompts=prompts,
            tags=tuple(tags) if tags else (),
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )
        teller = self._open(call, parent, None, tags)
        self._watch.opened(call, teller)
        self._live.call_opened(node, intent, call.provider, call.request_model, tenant_id)

    def open_tool(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        name: str,
        *,
        is_retriever: bool,
    ) -> None:
        """Open a tool's or retriever's call."""
        if self._runs.get(run_id) is not None:
            return  # attached twice
        metadata = metadata or _NOTHING
        parent = self._parent(parent_run_id)
        node, intent, tenant_id = where(parent, metadata)
        run = OpenTool(
            run_id=run_id,
            name=name,
            is_retriever=is_retriever,
            node_name=node,
            intent=intent,
            tenant_id=tenant_id,
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )
        self._open(run, parent, None, None)
        if is_retriever:
            self._live.retriever_opened(name, node)
        else:
            self._live.tool_opened(name)

    def open_call_of(self, run_id: UUID) -> OpenCall | None:
        """Return the open model call of a run id."""
        run = self._runs.get(run_id)
        return run if isinstance(run, OpenCall) else None

    def open_stream(self, call: OpenCall) -> Stream:
        """Return the stream of a call whose first chunk came."""
        call.stream = stream = self._live.stream_opened(call.node_name, call.provider)
        if self._runs.get(call.run_id) is not call:
            self._live.stream_closed(stream)  # closed in between, on another thread
        return stream

    def end(self, run_id: UUID, outcome: Outcome, output: Any = None) -> None:
        """Close a run, and before it those below it that were left behind; one that is not open is passed over."""
        run = self._runs.close(run_id)
        if run is None:
            return  # attached twice, or closed by the run above
        if isinstance(run, OpenCall):
            self._watch.told(run)
        if run.children:
            unended = Outcome("cancelled", outcome.error_type)
            for orphan in self._runs.orphans(run):
                self._finish(orphan, unended, None)
                # The end of a stream can come yet, when it is closed: until then it is watched.
                if not _is_streaming(orphan):
                    if isinstance(orphan, OpenCall):
                        self._watch.told(orphan)
                    why = f"{unended.error_type or 'Cancelled'}: ended with the run above it, untold"
                    self._langsmith.end_untold(orphan, why)
        self._finish(run, outcome, output)
        if self._watch.dropped:
            self._close_dropped()

    def _close_dropped(self) -> None:
        """Close the calls of whose end nobody can tell any more."""
        for call in self._watch.take():
            # The run above may have closed it before, but on LangSmith it is open still.
            if self._runs.close(call.run_id) is not None:
                self._finish(call, ABANDONED, None)
            self._langsmith.end_untold(call, "Cancelled: dropped by its caller, untold")

    def _count_open_runs(self) -> int:
        self._close_dropped()
        return len(self._runs)

    def _abandon(self, run: OpenRun) -> None:
        """Close a run that did not end, and leave those below it open."""
        if self._runs.close(run.run_id) is not None:
            self._runs.release_children(run)
            self._finish(run, ABANDONED, None)

    def close(self) -> None:
        """Close all runs still open as cancelled."""
        self._close_dropped()
        while (run := self._runs.newest()) is not None:
            self._abandon(run)

    def _parent(self, parent_run_id: UUID | None) -> OpenRun | None:
        if parent_run_id is not None:
            return self._runs.get(parent_run_id)
        return run_of_context(self._runs)

    def _new_request(
        self, run_id: UUID, inputs: object, tags: Sequence[str] | None, metadata: Mapping[str, Any]
    ) -> OpenRequest:
        intent, tenant_id = text_of(metadata.get("intent")) or UNCLASSIFIED, text_of(metadata.get("tenant_id"))
        request = OpenRequest(
            run_id=run_id,
            intent=intent,
            tenant_id=tenant_id,
            # Resumed after an interrupt: what nodes put into the state before that still holds.
            resumed=inputs is None or type(inputs).__name__ == "Command",
            tags=tuple(tags or ()),
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
            close_session=self._live.request_opened(intent, tenant_id),
        )
        request.request = request
        return request

    def _new_node(
        self, run_id: UUID, parent: OpenRun | None, name: str, step: int, inputs: object, metadata: Mapping[str, Any]
    ) -> OpenNode:
        # A task is told by its checkpoint namespace, which a retry of it keeps.
        task = str(metadata.get("langgraph_checkpoint_ns", run_id))
        tasks: set[str] = set()
        if parent is not None and (request := parent.request) is not None:
            tasks = request.tasks.setdefault((task.rpartition("|")[0], step), tasks)
            if request.resumed and not request.state:
                request.state.update(state_values(inputs, self._state_labels))
        tasks.add(task)
        self._live.node_opened(name)
        return OpenNode(
            run_id=run_id,
            name=name,
            step=step,
            tasks=tasks,
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )

    def _open(self, run: OpenRun, parent: OpenRun | None, name: object, tags: Sequence[str] | None) -> Teller | None:
        run.top = run.run_id if parent is None else parent.top
        if parent is not None:
            run.parent, run.request = parent, parent.request
            run.node = parent if isinstance(parent, OpenNode) else parent.node
        if parent is not None or tags or name is not None:
            self._attempts.opened(run, name, tags)
        evicted = self._runs.add(run)
        teller = None
        # Below an untraced run only a tracer of its own traces one: asked for models' calls alone, for the asking costs
        # a few microseconds.
        if parent is None or parent.traced is not None or isinstance(run, OpenCall):
            teller = teller_of_event()
            self._langsmith.follow(run, teller)
        if evicted is not None:
            self._live.run_evicted()
            self._abandon(evicted)
        if self._watch.dropped:
            self._close_dropped()
        return teller

    def _finish(self, run: OpenRun, outcome: Outcome, output: Any) -> None:
        record: Record | None = None
        try:
            if isinstance(run, OpenCall) and run.stream is not None:
                self._live.stream_closed(run.stream)
            if run.attempts is not None or run.attempt_of is not None:
                self._attempts.closed(run, outcome)
            record = self._recorder.record(run, outcome, output)
            if record is not None:
                self._emit(record)
        finally:
            # Whatever went wrong here: LangSmith's end of the run may wait for it.
            if run.traced is not None:
                self._langsmith.write(run, record)


def _is_streaming(run: OpenRun) -> bool:
    """Say whether a run's own end is still to come, when its stream is closed."""
    return isinstance(run, OpenCall) and run.stream is not None


def _step(tags: Sequence[str] | None) -> int | None:
    for tag in tags or ():
        if isinstance(tag, str) and tag.startswith(_STEP_TAG):
            number = tag.removeprefix(_STEP_TAG)
            return int(number) if number.isdecimal() else None
    return None
