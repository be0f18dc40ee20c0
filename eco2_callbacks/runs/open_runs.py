"""The open runs: what is known of a run between its start and its end."""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections.abc import Callable, Mapping
from datetime import datetime
from threading import get_ident
from typing import Any
from uuid import UUID

from eco2_callbacks.records import RetryReason
from eco2_callbacks.runs.identities import Identity, Texts
from eco2_callbacks.runs.outcomes import Outcome
from eco2_callbacks.runs.places import Place
from eco2_callbacks.runs.request_context import RequestContext, StateLabels
from eco2_callbacks.runs.spans import SpanIds, current_span
from eco2_callbacks.totals import CallFigures

__all__ = [
    "Fallback",
    "OpenGraphRun",
    "OpenNodeRun",
    "OpenRun",
    "OpenToolCall",
    "TimedRun",
    "current_task",
]

_NO_SCORES: Mapping[str, float] = {}


def current_task() -> asyncio.Task[Any] | None:
    """Return the asyncio task that this code runs in; None outside a loop."""
    # `asyncio.current_task()` raises outside a loop, which costs ten times as much as this check.
    loop = _get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


class Fallback:
    """The attempts of one ``with_fallbacks``: after a failed attempt, the next one is a fallback."""

    __slots__ = ("failed",)

    def __init__(self) -> None:
        self.failed = False


class OpenRun:
    """A run between its start and its end. A plain chain run is only a link in the tree.

    Args:
        run_id: LangChain's.
        parent: The run above; None for a topmost run.
        context: What the request's runs share; None below no request.

    Attributes:
        trace_id: Run id of the topmost run above that the handler saw.
        context: What the request's runs share; None below no request.
        parent: The run above; None for a topmost run.
        state: Labels of the state of the graph around; None below no request.
        graph_run: The request; None below no request, or where the request has ended.
        node: The nearest enclosing node.
        tool: The nearest enclosing tool.
        place: The agent, and the chain of agents and nodes.
        identity: On whose behalf it runs.
        name: Of a node's run, its node; of a link between runs, the run's free name.
        agent: The agent whose own run this is; None for any other run.
        retry: Why this run repeats a failed one.
        fallback: On the run of a ``with_fallbacks``: its attempts.
        attempt_of: On each attempt: the ``with_fallbacks`` it belongs to.
        failed_attempts: Failed model and tool calls directly inside this run; see ``RetryDetector``.
        children: The open runs directly below, by the integer of their ids.
        has_nodes: Whether a node ran below.
        defers_inputs: Whether LangSmith's tracer sends this run as a whole when it ends.
        started: Seconds of the handler's clock.
        thread_id: Thread in which it started.
        task: Task in which it started.
        outcome: How the run ended, set with the next two when it ends.
        output: What LangChain passed to the end callback, until the run is recorded.
        duration_seconds: From start to end.
    """

    __slots__ = (
        "agent",
        "attempt_of",
        "children",
        "context",
        "defers_inputs",
        "duration_seconds",
        "failed_attempts",
        "fallback",
        "graph_run",
        "has_nodes",
        "identity",
        "name",
        "node",
        "outcome",
        "output",
        "parent",
        "place",
        "retry",
        "run_id",
        "started",
        "state",
        "task",
        "thread_id",
        "tool",
        "trace_id",
    )
    outcome: Outcome
    duration_seconds: float

    def __init__(
        self,
        run_id: UUID,
        parent: OpenRun | None,
        context: RequestContext | None,
        started: float,
        place: Place,
        identity: Identity,
        name: object = None,
    ) -> None:
        self.run_id = run_id
        self.trace_id: UUID = run_id
        self.started = started
        self.place = place
        self.identity = identity
        self.name = name
        self.parent = parent
        self.context = context
        self.graph_run: OpenGraphRun | None = None
        self.node: OpenNodeRun | None = None
        self.tool: OpenToolCall | None = None
        self.state: StateLabels | None = None
        self.retry: RetryReason | None = None
        if parent is not None:
            self.trace_id = parent.trace_id
            self.state = parent.state
            self.graph_run = parent.graph_run
            self.node = parent if isinstance(parent, OpenNodeRun) else parent.node
            self.tool = parent if isinstance(parent, OpenToolCall) else parent.tool
        elif context is not None:
            self.trace_id = context.trace_id
            self.state = context.state
        self.agent: str | None = None
        self.fallback: Fallback | None = None
        self.attempt_of: Fallback | None = None
        self.failed_attempts: list[Any] | None = None
        self.children: dict[int, OpenRun] | None = None
        self.has_nodes = False
        self.defers_inputs = False
        self.output: Any = None
        self.thread_id = get_ident()
        # As current_task(): a function of our own would cost as much again.
        loop = _get_running_loop()
        self.task = None if loop is None else asyncio.current_task(loop)

    @property
    def enclosing_run_id(self) -> UUID | None:
        """Run id of the nearest tool or node around it, else of the request; None for a topmost run."""
        tool, node = self.tool, self.node
        if tool is not None and tool.node is node:
            return tool.run_id
        if node is not None:
            return node.run_id
        return None if self.trace_id == self.run_id else self.trace_id

    def may_still_end(self) -> bool:
        """Return whether this run's end callback can still fire although the run above ends now.

        ============================  ==========================================================
        This run started in           Its end callback can still fire
        ============================  ==========================================================
        the current task or thread    no: that code has left this run
        another task                  yes, unless the task is done or being cancelled
        another thread                yes: a thread cannot be cancelled
        ============================  ==========================================================
        """
        if self.task is not None:
            return self.task is not current_task() and not self.task.done() and not self.task.cancelling()
        return self.thread_id != get_ident()


class TimedRun(OpenRun):
    """A run that becomes a record.

    Attributes:
        started_at: Wall time.
        metadata: As LangChain passed it.
        tags: As LangChain passed them.
        span: The OpenTelemetry span that was current at the start. A run can be closed from other code, so the span
            that is current at the end may be another one.
    """

    __slots__ = ("metadata", "span", "started_at", "tags")
    metadata: Mapping[str, Any]
    span: SpanIds
    started_at: datetime
    tags: tuple[str, ...]


class OpenGraphRun(TimedRun):
    """A root chain run: one request.

    Attributes:
        own_context: The same object as ``context``, never None here.
        resumed: Whether the request continues an interrupted one.
        continues: Whether it starts from a state of before, as a resumed one does.
        interrupted: Whether a node of the request was interrupted.
        calls: The model calls below that are recorded.
        last_call: Provider, model and requested model of the last of them.
        tool_calls: The tool calls below that are recorded; one inside another does not count.
        tasks: Task namespaces seen so far, by graph namespace and step.
        failed_tasks: Task namespaces and steps whose run failed.
        on_cancelled: Called with it if its task is cancelled before any run starts below, while it is watched.
        left_at: When that happened, in seconds of the handler's clock.
        intent: Set when it ends, with the next two.
        shared: What is known of the whole request.
    """

    __slots__ = (
        "calls",
        "continues",
        "failed_tasks",
        "intent",
        "interrupted",
        "last_call",
        "left_at",
        "on_cancelled",
        "own_context",
        "resumed",
        "shared",
        "tasks",
        "tenant_id",
        "tool_calls",
    )
    intent: str
    tenant_id: str
    shared: Texts

    def __init__(
        self,
        run_id: UUID,
        *,
        own_context: RequestContext,
        started: float,
        started_at: datetime,
        place: Place,
        identity: Identity,
        metadata: Mapping[str, Any],
        tags: tuple[str, ...],
        resumed: bool,
        continues: bool,
    ) -> None:
        super().__init__(run_id, None, own_context, started, place, identity)
        self.started_at = started_at
        self.metadata = metadata
        self.tags = tags
        self.span = current_span()
        self.own_context = own_context
        self.resumed = resumed
        self.continues = continues
        self.interrupted = False
        self.calls: list[CallFigures] = []
        self.last_call: tuple[str, str, str] = ("", "", "")
        self.tool_calls = 0
        self.tasks: dict[tuple[str, object], set[str]] = {}
        self.failed_tasks: set[tuple[str, object]] | None = None
        self.on_cancelled: Callable[[OpenGraphRun], None] | None = None
        self.left_at: float | None = None
        self.graph_run = self

    def on_task_done(self, task: asyncio.Task[Any]) -> None:
        """Called by the loop, at any time: only note that the request was cancelled as it began."""
        if self.on_cancelled is not None and self.children is None and task.cancelled():
            self.on_cancelled(self)


class OpenNodeRun(TimedRun):
    """A LangGraph node's run, or a task's of the functional API.

    Attributes:
        task_namespace: LangGraph's checkpoint namespace of the task; a retry keeps it.
        tasks: Task namespaces seen in the same step, shared by all its runs.
        calls: The model calls below that are recorded.
        parallel: Whether a node of another nested graph ran beside this one; at its end, any other node.
        intent: Set when it ends, with the next two.
        shared: What is known of the whole request.
        scores: Quality scores in its output.
    """

    __slots__ = ("calls", "intent", "parallel", "scores", "shared", "step", "task_namespace", "tasks", "tenant_id")
    name: str
    intent: str
    tenant_id: str
    shared: Texts

    def __init__(
        self,
        run_id: UUID,
        parent: OpenRun | None,
        context: RequestContext | None,
        *,
        started: float,
        started_at: datetime,
        place: Place,
        identity: Identity,
        metadata: Mapping[str, Any],
        name: str,
        step: int | None,
        task_namespace: str,
        tasks: set[str],
    ) -> None:
        super().__init__(run_id, parent, context, started, place, identity, name)
        self.started_at = started_at
        self.metadata = metadata
        self.tags = ()
        self.span = current_span()
        self.step = step
        self.task_namespace = task_namespace
        self.tasks = tasks
        self.scores: Mapping[str, float] = _NO_SCORES
        self.parallel = False
        self.calls: list[CallFigures] = []

    @property
    def is_parallel(self) -> bool:
        """Whether another run of the same step, or of a graph beside this one, was seen."""
        return self.parallel or len(self.tasks) > 1


class OpenToolCall(TimedRun):
    """A tool's or retriever's run."""

    __slots__ = ("input_text", "intent", "is_retriever", "node_name", "tenant_id")
    name: str

    def __init__(
        self,
        run_id: UUID,
        parent: OpenRun | None,
        context: RequestContext | None,
        *,
        started: float,
        started_at: datetime,
        place: Place,
        identity: Identity,
        metadata: Mapping[str, Any],
        name: str,
        is_retriever: bool,
        input_text: str,
        node_name: str,
        intent: str,
        tenant_id: str,
    ) -> None:
        super().__init__(run_id, parent, context, started, place, identity, name)
        self.started_at = started_at
        self.metadata = metadata
        self.tags = ()
        self.span = current_span()
        self.is_retriever = is_retriever
        self.input_text = input_text
        self.node_name = node_name
        self.intent = intent
        self.tenant_id = tenant_id
