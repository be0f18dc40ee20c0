"""Tracker: builds the tree of runs from their starts and ends, and has each run recorded when it ends."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.messages import BaseMessage

from eco2_callbacks import forks
from eco2_callbacks.run_ids import uuid_of
from eco2_callbacks.runs.abandoned import AbandonedCallDetector
from eco2_callbacks.runs.attribution import state_values
from eco2_callbacks.runs.cancelled_requests import CancelledRequests
from eco2_callbacks.runs.enclosing import EnclosingRuns
from eco2_callbacks.runs.graph_nodes import is_node, mark_parallel
from eco2_callbacks.runs.identities import IdentityReader
from eco2_callbacks.runs.observers import RunObserver
from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenNodeRun, OpenRun, OpenToolCall
from eco2_callbacks.runs.outcomes import ABANDONED, SUCCESS, Outcome
from eco2_callbacks.runs.passed_answers import PassedAnswers
from eco2_callbacks.runs.places import PlaceFinder
from eco2_callbacks.runs.record_queue import RecordQueue
from eco2_callbacks.runs.recorder import Recorder
from eco2_callbacks.runs.retries import RetryDetector
from eco2_callbacks.runs.run_opener import Found, RunOpener
from eco2_callbacks.runs.run_table import OpenRunTable
from eco2_callbacks.runs.streams import Stream
from eco2_callbacks.runs.text_values import text_of
from eco2_callbacks.usage import ServedModel, request_model, served_model

__all__ = ["Tracker"]

# No process has more runs open at once, and no request takes longer: beyond these bounds an end was lost.
_MAX_OPEN_RUNS = 100_000
_MAX_AGE_SECONDS = 6 * 3600.0
_MAX_ANNOUNCED = 1_000
# LangGraph's own entry point; it is a run only where an edge from it is conditional.
_START = "__start__"
_NO_METADATA: Mapping[str, Any] = {}


class _Announced(NamedTuple):
    """What was looked up for a call that is about to start."""

    found: Found
    served: ServedModel
    request_model: str


class Tracker(forks.ForkAware):
    """Knows every open run of one handler.

    Args:
        recorder: Notes what a record needs of a run that ends.
        queue: Takes the ended runs.
        observers: Follow the starts; called in this order.
        on_failure: Called, while the exception is handled, with the callback's name and the run id.
        places: Finds the place of a run.
        identities: Reads on whose behalf a run spends.
        state_labels: As the handler's.
        on_first_call: Called once, when the first model call starts.
        clock: As the handler's.
        now: As the handler's.
    """

    def __init__(
        self,
        *,
        recorder: Recorder,
        queue: RecordQueue,
        observers: Sequence[RunObserver],
        on_failure: Callable[[str, UUID | None], None],
        places: PlaceFinder,
        identities: IdentityReader,
        state_labels: tuple[str, ...],
        on_first_call: Callable[[], None] | None,
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._recorder = recorder
        self._queue = queue
        self._observers = tuple(observers)
        self._on_start = tuple(
            observer.on_start for observer in observers if type(observer).on_start is not RunObserver.on_start
        )
        self._on_link_end = tuple(
            observer.on_link_end for observer in observers if type(observer).on_link_end is not RunObserver.on_link_end
        )
        self._on_failure = on_failure
        self._state_labels = state_labels
        self._on_first_call = on_first_call
        self._clock = clock
        self._now = now
        self._runs = OpenRunTable(max_open=_MAX_OPEN_RUNS, max_age_seconds=_MAX_AGE_SECONDS)
        # Returns the open run with an integer of a run id; for the path of every streamed token.
        self.open_run = self._runs.by_int
        self._enclosing = EnclosingRuns(self._runs)
        self._opener = RunOpener(
            self._enclosing,
            places=places,
            identities=identities,
            state_labels=state_labels,
            clock=clock,
            now=now,
        )
        self._retries = RetryDetector(self._runs)
        self._abandoned = AbandonedCallDetector(clock)
        self._cancelled_requests = CancelledRequests(clock)
        self._passed_answers = PassedAnswers()
        # What was looked up for calls that are about to start.
        self._announced: dict[int, _Announced] = {}
        forks.register(self)

    def is_open(self, run_id: UUID) -> bool:
        """Return whether a run is open."""
        return self._runs.get(run_id) is not None

    def open_call(self, run_id: UUID) -> OpenLLMCall | None:
        """Return the open model call with a run id; None if there is none."""
        run = self._runs.get(uuid_of(run_id))
        return run if isinstance(run, OpenLLMCall) else None

    def request_started_at(self, trace_id: UUID) -> datetime | None:
        """Return when an open request started; None if there is none."""
        run = self._runs.get(trace_id)
        return run.started_at if isinstance(run, OpenGraphRun) else None

    def open_run_count(self) -> int:
        """Return how many runs are open, after closing those that their callers have left."""
        self._abandoned.on_read()
        self._close_abandoned()
        return len(self._runs)

    def add_observer(self, observer: RunObserver) -> None:
        """Have one more observer follow the runs that start from now on."""
        self._observers = (*self._observers, observer)
        self._queue.add_observer(observer)

    def labels_at(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any],
        served: ServedModel | None,
        model: str,
    ) -> tuple[UUID | None, dict[str, object]]:
        """Return trace and labels of a call that is about to start; no trace where it would be a topmost run.

        Args:
            run_id: The call's.
            parent_run_id: As LangChain names it.
            metadata: The call's.
            served: Who serves the model; None where nothing starts.
            model: The requested model.
        """
        found = self._opener.look_up(parent_run_id, metadata)
        if served is not None:
            if len(self._announced) >= _MAX_ANNOUNCED:
                self._announced.clear()
            self._announced[run_id.int] = _Announced(found, served, model)
        enclosing, identity, (node, intent, tenant_id), place = found
        parent, context = enclosing.parent, enclosing.context
        trace_id = parent.trace_id if parent is not None else None if context is None else context.trace_id
        _, user_id, session_id, job_id, feature, prompt_version = identity.texts
        return trace_id, {
            "tenant_id": tenant_id,
            "user_id": user_id,
            "session_id": session_id,
            "job_id": job_id,
            "feature": feature,
            "prompt_version": prompt_version,
            "agent_name": place.agent_name,
            "intent": intent,
            "node": node,
        }

    def discard(self, run_id: UUID, reason: str) -> None:
        """Close a call that was announced and never sent; it makes no record."""
        self._announced.pop(run_id.int, None)
        run = self._runs.close(run_id)
        if run is None:
            return
        if isinstance(run, OpenLLMCall):
            self._abandoned.unwatch(run)
        run.outcome, run.output, run.duration_seconds = ABANDONED, None, 0.0
        for observer in self._observers:
            self._guard(run, observer.on_end, run, None)
            self._guard(run, observer.on_recorded)
            self._guard(run, observer.on_unfinished, run, reason)

    def start_chain(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        name: object,
        inputs: object,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any] | None,
        *,
        defers_inputs: bool = False,
    ) -> None:
        """Open a chain's run.

        A node's run becomes a ``NodeRun``; a topmost chain is a request; any other chain is a link between runs. Work
        that starts after its request ended is no new request.
        """
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        if self._runs.get(run_id) is not None:
            return  # attached twice
        metadata = metadata or _NO_METADATA
        enclosing = self._enclosing.find(parent_run_id)
        node = text_of(metadata.get("langgraph_node"))
        run: OpenRun
        is_named = isinstance(name, str) and node == name != _START
        if is_named and is_node(tags, metadata) and not enclosing.is_in_task(metadata):
            run = self._opener.new_node(run_id, enclosing, node, inputs, tags, metadata)
        elif enclosing.parent is None and enclosing.context is None:
            run = self._opener.new_request(run_id, inputs, tags, metadata)
            self._cancelled_requests.watch(run)
        else:
            run = self._opener.new_link(run_id, enclosing, name, metadata)
        run.defers_inputs = defers_inputs
        self._start(run, name, tags)

    def start_call(
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
        operation: str | None = None,
        watched: bool = False,
    ) -> None:
        """Open a model's call; ``watched`` where LangChain's own model runs it, so that it can be found abandoned."""
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        if parent_run_id is not None and type(parent_run_id) is not UUID:
            parent_run_id = uuid_of(parent_run_id)
        if (known := self._runs.get(run_id)) is not None:
            if isinstance(known, OpenLLMCall):
                known.attachments += 1
            return
        metadata = metadata or _NO_METADATA
        params = params if isinstance(params, dict) else _NO_METADATA
        # A gate has looked most calls up already.
        announced = self._announced.pop(run_id.int, None) if self._announced else None
        found, served, model = announced or (
            self._opener.look_up(parent_run_id, metadata),
            served_model(metadata, serialized),
            request_model(metadata, params),
        )
        enclosing, identity, (node, intent, tenant_id), place = found
        parent, context = enclosing.parent, enclosing.context
        call = OpenLLMCall(
            run_id,
            parent,
            context,
            parent_run_id=parent_run_id,
            node_name=node,
            intent=intent,
            tenant_id=tenant_id,
            place=place,
            identity=identity,
            operation=operation or ("text_completion" if prompts else "chat"),
            served=served,
            request_model=model,
            serialized=serialized,
            params=params,
            messages=messages,
            prompts=prompts,
            tags=tuple(tags) if tags else (),
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )
        if self._on_first_call is not None:
            on_first_call, self._on_first_call = self._on_first_call, None
            on_first_call()
        self._start(call, None, tags)
        if watched:
            self._abandoned.watch(call)

    def start_tool(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any] | None,
        name: str,
        *,
        input_text: str,
        is_retriever: bool,
    ) -> None:
        """Open a tool's or retriever's run."""
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        if self._runs.get(run_id) is not None:
            return  # attached twice
        metadata = metadata or _NO_METADATA
        run = self._opener.new_tool(
            run_id, parent_run_id, metadata, name, input_text=input_text, is_retriever=is_retriever
        )
        self._start(run, None, None)

    def start_stream(self, call: OpenLLMCall) -> Stream:
        """Return the stream of a call whose first chunk arrived."""
        stream = call.start_stream()
        for observer in self._observers:
            self._guard(call, observer.on_stream_start, call)
        return stream

    def end(self, run_id: UUID, outcome: Outcome, output: Any = None) -> None:
        """Close a run, and before it the unfinished runs below; a run that is not open is ignored."""
        if type(run_id) is not UUID:
            run_id = uuid_of(run_id)
        run = self._runs.close(run_id)
        if run is None:
            return  # attached twice, or closed by the run above
        if isinstance(run, OpenLLMCall):
            if outcome is not SUCCESS:
                self._abandoned.on_end(run, outcome)
            else:
                if run.watch is not None:
                    self._abandoned.unwatch(run)
                # Where no other call is open, none passes this answer on.
                if self._abandoned.calls_by_place or self._passed_answers.answers:
                    self._guard(run, self._passed_answers.on_end, run, output)
        if run.children:
            unfinished = Outcome("cancelled", outcome.error_type)
            for child in self._runs.close_unfinished_below(run):
                self._finish_without_callback(
                    child, unfinished, f"{unfinished.error_type or 'Cancelled'}: the run above ended before this one"
                )
        self._finish(run, outcome, output)
        if self._abandoned.abandoned or self._cancelled_requests.found:
            self._close_abandoned()

    def close(self) -> None:
        """Close all open runs as cancelled."""
        self._close_abandoned()
        while (run := self._runs.newest()) is not None:
            self._evict(run)
            if isinstance(run, OpenLLMCall):
                for observer in self._observers:
                    self._guard(run, observer.on_unfinished, run, "Cancelled: the handler was closed before this call")
        self._queue.settle()

    def after_fork_in_child(self) -> None:
        """Leave the open runs to the parent; work below them keeps their trace, intent and tenant."""
        self._abandoned.clear_after_fork()
        self._cancelled_requests.clear_after_fork()
        self._passed_answers = PassedAnswers()
        for run in self._runs.clear_after_fork():
            self._enclosing.remember_ended(run)

    def _start(self, run: OpenRun, name: object, tags: Sequence[str] | None) -> None:
        if run.parent is not None or tags or name is not None:
            self._retries.on_start(run, name, tags)
        if self._abandoned.calls_by_place:
            self._abandoned.on_start(run)
        evicted = self._runs.add(run)
        if isinstance(run, OpenNodeRun):
            mark_parallel(run)
        for on_start in self._on_start:
            try:  # guarded in place: these calls happen for every run
                on_start(run)
            except Exception:
                self._on_failure("emit", run.run_id)
        if evicted is not None:
            for observer in self._observers:
                self._guard(run, observer.on_evicted)
            self._evict(evicted)
        if self._abandoned.abandoned or self._cancelled_requests.found:
            self._close_abandoned()

    def _finish(self, run: OpenRun, outcome: Outcome, output: Any) -> None:
        """Update what other runs can see, and have the run recorded and passed to the observers."""
        run.outcome, run.output = outcome, output
        left_at = getattr(run, "left_at", None) if outcome is ABANDONED else None
        run.duration_seconds = (self._clock() if left_at is None else left_at) - run.started
        try:
            if outcome is not SUCCESS or self._retries.has_attempts:
                self._retries.on_end(run, outcome)
            if not isinstance(run, OpenLLMCall | OpenToolCall):
                if isinstance(run, OpenGraphRun):
                    self._cancelled_requests.unwatch(run)
                self._update_tree(run, outcome, output)
                self._recorder.capture(run)
        finally:
            # Whatever went wrong: an observer may hold something back until the run ends.
            if type(run) is OpenRun:
                for on_link_end in self._on_link_end:
                    self._guard(run, on_link_end, run)
                run.output = None
            else:
                self._queue.submit(run)

    def _update_tree(self, run: OpenRun, outcome: Outcome, output: Any) -> None:
        if isinstance(run, OpenNodeRun):
            if outcome.status == "interrupted" and run.graph_run is not None:
                run.graph_run.interrupted = True
            if output is not None and run.state is not None:
                run.state.values.update(state_values(output, self._state_labels))
        self._enclosing.remember_ended(run)

    def _finish_without_callback(self, run: OpenRun, outcome: Outcome, reason: str) -> None:
        """Finish a run whose end callback did not fire."""
        self._finish(run, outcome, None)
        if isinstance(run, OpenLLMCall):
            if run.stream is not None and run.task is not None and not run.task.done():
                return  # its generator may still be closed: until its task is done it stays watched
            self._abandoned.unwatch(run)
        for observer in self._observers:
            self._guard(run, observer.on_unfinished, run, reason)

    def _close_abandoned(self) -> None:
        reason = "Cancelled: the caller left this call before its end"
        for call in self._abandoned.pop_abandoned():
            if self._runs.get(call.run_id) is None:
                # The run above closed it before; its end on LangSmith was left to its generator.
                for observer in self._observers:
                    self._guard(call, observer.on_unfinished, call, reason)
            elif call.stream is None and self._runs.close(call.run_id) is not None:
                self._finish_without_callback(call, ABANDONED, reason)
        for request in self._cancelled_requests.pop_found():
            if self._runs.close(request.run_id) is not None:
                self._finish_without_callback(request, ABANDONED, "Cancelled: its task was cancelled as it began")

    def _evict(self, run: OpenRun) -> None:
        """Close a run that did not end, and leave those below open."""
        if self._runs.close(run.run_id) is not None:
            if isinstance(run, OpenLLMCall):
                self._abandoned.unwatch(run)
            self._runs.release_children(run)
            self._finish(run, ABANDONED, None)

    def _guard(self, run: OpenRun, call: Callable[..., None], *arguments: Any) -> None:
        """Call an observer; what it raises is logged and counted, and affects nothing else."""
        try:
            call(*arguments)
        except Exception:
            self._on_failure("emit", run.run_id)
