"""The open runs by run id: what is known of each run between its start and its end, the only mutable state."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from langchain_core.messages import BaseMessage

from eco2_callbacks.records import Cost, LLMCall, RetryReason
from eco2_callbacks.spans import SpanIds, current_span
from eco2_callbacks.streams import Stream
from eco2_callbacks.traced import TracedRun
from eco2_callbacks.usage import TokenUsage

__all__ = ["Account", "Attempts", "OpenCall", "OpenNode", "OpenRequest", "OpenRun", "OpenRuns", "OpenTool", "TimedRun"]


def _current_task() -> asyncio.Task[Any] | None:
    # Asked first: without a loop `current_task` raises, which costs ten times as much.
    loop = asyncio._get_running_loop()
    return None if loop is None else asyncio.current_task(loop)


class Account:
    """What was spent below a run, kept call by call and added up once at its end."""

    __slots__ = ("_costs", "_usages", "estimated", "llm_calls", "model", "provider", "tool_calls", "unpriced_calls")

    def __init__(self) -> None:
        self._usages: list[TokenUsage] = []
        self._costs: list[Cost] = []
        self.llm_calls = 0
        self.tool_calls = 0
        self.unpriced_calls = 0
        self.estimated = False
        self.provider = ""
        self.model = ""

    def add(self, call: LLMCall) -> None:
        """Take one model call in."""
        self.llm_calls += 1
        self.provider, self.model = call.provider, call.model
        if call.usage is not None:
            self._usages.append(call.usage)
        if call.cost is not None:
            self._costs.append(call.cost)
        elif call.unpriced_reason is not None:
            self.unpriced_calls += 1
        self.estimated = self.estimated or call.estimated

    def usage(self) -> TokenUsage:
        """Return what all calls consumed."""
        return TokenUsage.sum(self._usages)

    def cost(self) -> Cost:
        """Return what all priced calls cost."""
        return Cost.sum(self._costs)


@dataclass(slots=True)
class Attempts:
    """The attempts of one fallback: after a failed one, the next is a fallback."""

    failed: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class OpenRun:
    """A run between its start and its end; a plain chain run is only a link in the tree.

    ``top`` is the run id of the topmost run above it that was seen. ``attempts`` is set on a fallback's own run,
    ``attempt_of`` on the runs that it tries one after another. ``traced`` is the run as LangSmith sees it. ``thread``
    and ``task`` are what it was started in.
    """

    run_id: UUID
    top: UUID = field(init=False)
    parent: OpenRun | None = None
    request: OpenRequest | None = None
    node: OpenNode | None = None
    retry: RetryReason | None = None
    attempts: Attempts | None = None
    attempt_of: Attempts | None = None
    children: dict[UUID, OpenRun] | None = None
    traced: TracedRun | None = None
    thread: int = field(default_factory=threading.get_ident)
    task: asyncio.Task[Any] | None = field(default_factory=_current_task)

    def may_still_end(self) -> bool:
        """Say, while the run above ends, whether the code that would tell this one's end can still be running.

        It cannot where the run above ends in the same task or thread, which has then left this run behind, nor in a
        task that is done or being cancelled. It can in a task of its own, and in a thread, which nobody can cancel.
        """
        if self.task is not None:
            return self.task is not _current_task() and not self.task.done() and not self.task.cancelling()
        return self.thread != threading.get_ident()


@dataclass(slots=True, eq=False, kw_only=True)
class TimedRun(OpenRun):
    """A run that becomes a record; ``span`` is the OpenTelemetry span it started in."""

    started: float
    started_at: datetime
    metadata: Mapping[str, Any]
    tags: tuple[str, ...] = ()
    # Not the one it ends in: a run can be closed from elsewhere, as a stream that nobody reads on.
    span: SpanIds = field(default_factory=current_span)


@dataclass(slots=True, eq=False, kw_only=True)
class OpenRequest(TimedRun):
    """A root chain run: one request."""

    intent: str
    tenant_id: str
    close_session: Callable[[], None]
    resumed: bool = False
    account: Account = field(default_factory=Account)
    state: dict[str, str] = field(default_factory=dict)
    interrupted: bool = False
    tasks: dict[tuple[str, object], set[str]] = field(default_factory=dict)


@dataclass(slots=True, eq=False, kw_only=True)
class OpenNode(TimedRun):
    """A LangGraph node's run; ``tasks`` are the tasks seen in its step, shared by all of them."""

    name: str
    step: int | None
    tasks: set[str]
    account: Account = field(default_factory=Account)


@dataclass(slots=True, eq=False, kw_only=True)
class OpenTool(TimedRun):
    """A tool's or retriever's run."""

    name: str
    node_name: str
    intent: str
    tenant_id: str
    is_retriever: bool = False


@dataclass(slots=True, eq=False, kw_only=True)
class OpenCall(TimedRun):
    """A model's run.

    ``stream`` is set from its first chunk on. What it streamed is kept for the case that it is cut short: chunks, or
    texts where there were none. In a v3 stream ``last_event`` is set, and ``told`` once an
    event told a usage.
    """

    parent_run_id: UUID | None
    node_name: str
    intent: str
    tenant_id: str
    operation: str
    provider: str
    request_model: str
    params: Mapping[str, Any]
    messages: Sequence[BaseMessage] = ()
    prompts: Sequence[str] = ()
    stream: Stream | None = None
    chunks: list[Any] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)
    last_event: Any = None
    told: Any = None


class OpenRuns:
    """The table of open runs, bounded in number and age and safe to use from several threads.

    Args:
        most: How many runs may be open; beyond it the oldest is evicted.
        oldest_seconds: How long a topmost run may be open: of a cancelled call without a run above nobody is told.
    """

    def __init__(self, *, most: int, oldest_seconds: float) -> None:
        self._most = most
        self._oldest_seconds = oldest_seconds
        self._runs: dict[UUID, OpenRun] = {}
        self._topmost: dict[UUID, TimedRun] = {}
        # Reentrant: the garbage collector can end an abandoned stream in the middle of anything.
        self._lock = threading.RLock()
        # Bound once: this look-up happens for every streamed token.
        self.get = self._runs.get

    def __len__(self) -> int:
        return len(self._runs)

    def add(self, run: OpenRun) -> OpenRun | None:
        """Open a run; return the one to be closed in its place, if too many are open or one is too old."""
        parent, evicted = run.parent, None
        with self._lock:
            if len(self._runs) >= self._most:
                evicted = self._runs[next(iter(self._runs))]
            self._runs[run.run_id] = run
            if parent is not None and parent.run_id in self._runs:
                if parent.children is None:
                    parent.children = {}
                parent.children[run.run_id] = run
            elif isinstance(run, TimedRun):
                oldest = next(iter(self._topmost.values()), run)
                if run.started - oldest.started > self._oldest_seconds:
                    evicted = oldest
                self._topmost[run.run_id] = run
        return evicted

    def close(self, run_id: UUID) -> OpenRun | None:
        """Close a run and return it; None if it is not open (never seen, or closed before)."""
        with self._lock:
            run = self._runs.pop(run_id, None)
            if run is not None:
                self._topmost.pop(run_id, None)
                if run.parent is not None and run.parent.children is not None:
                    run.parent.children.pop(run_id, None)
        return run

    def orphans(self, run: OpenRun) -> list[OpenRun]:
        """Close the runs below a closed one that were left behind, and return them, the lowest first.

        One whose end may still come stays open, with all below it.
        """
        below, orphans = [run], []
        while below:
            parent = below.pop()
            with self._lock:
                children = list((parent.children or {}).values())
            for child in children:
                if child.may_still_end():
                    self._release(child)
                # One that another thread just closed makes its own record.
                elif self.close(child.run_id) is not None:
                    orphans.append(child)
                    below.append(child)
        return orphans[::-1]

    def release_children(self, run: OpenRun) -> None:
        """Let the runs below a closed one go on without it."""
        with self._lock:
            children = list((run.children or {}).values())
        for child in children:
            self._release(child)

    def _release(self, run: OpenRun) -> None:
        with self._lock:
            if isinstance(run, TimedRun) and run.run_id in self._runs:
                self._topmost[run.run_id] = run

    def newest(self) -> OpenRun | None:
        """Return the run opened last, None if none is open."""
        with self._lock:
            return next(reversed(self._runs.values()), None)
