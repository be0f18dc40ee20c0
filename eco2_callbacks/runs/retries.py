"""RetryDetector: marks runs that repeat a failed one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

from eco2_callbacks.records import RetryReason
from eco2_callbacks.runs.enclosing import run_of_context
from eco2_callbacks.runs.open_call import OpenLLMCall
from eco2_callbacks.runs.open_runs import Fallback, OpenNodeRun, OpenRun, OpenToolCall
from eco2_callbacks.runs.outcomes import Outcome
from eco2_callbacks.runs.run_table import OpenRunTable

__all__ = ["RetryDetector"]

_RETRY_TAG = "retry:attempt:"
_FALLBACKS = "RunnableWithFallbacks"
# A node that fails in a loop keeps only its latest failures.
_MAX_FAILED_ATTEMPTS = 16


class _FailedCall(NamedTuple):
    """A failed model call: the same messages to the same model repeat it, to another one they fall back."""

    messages: Sequence[Any]
    model: tuple[Any, ...]


class _FailedTool(NamedTuple):
    """A failed tool call: the same tool with the same input repeats it."""

    name: str
    input_text: str


class RetryDetector:
    """Marks runs that repeat a failed one, and with them all runs below.

    =======================================================  =======================================================
    A run repeats a failed one where                         Used by
    =======================================================  =======================================================
    it carries the tag ``retry:attempt:N``                   ``with_retry``
    it runs in a ``with_fallbacks`` after a failed attempt   ``with_fallbacks``
    its LangGraph task and step have failed or timed out     ``RetryPolicy``
    the same node sent the same messages in a failed call    ``ModelRetryMiddleware``; another model is a fallback,
                                                             as in ``ModelFallbackMiddleware``
    the same node made the same tool call, which failed      ``ToolRetryMiddleware``
    =======================================================  =======================================================

    A ``with_fallbacks`` with a ``run_name`` of its own cannot be recognised by name; the rule by messages still applies
    to its calls inside a node.
    """

    def __init__(self, runs: OpenRunTable) -> None:
        self._runs = runs
        self._fallbacks: set[UUID] = set()
        # Whether a fallback was seen, or a failure: before, no run repeats one, and no success has to be looked at.
        self.has_attempts = False

    def __len__(self) -> int:
        return len(self._fallbacks)

    def on_start(self, run: OpenRun, name: object, tags: Sequence[str] | None) -> None:
        """Mark a run that is about to open; its parent and node are set."""
        parent = run.parent
        if parent is not None:
            run.retry = parent.retry
        for tag in tags or ():
            if isinstance(tag, str) and tag.startswith(_RETRY_TAG):
                run.retry = "retry"
        if self._fallbacks and (fallback := self._fallback_around(parent)) is not None:
            run.attempt_of = fallback
            if fallback.failed:
                run.retry = "fallback"
        if isinstance(name, str) and name.startswith(_FALLBACKS):
            run.fallback = Fallback()
            self.has_attempts = True
            self._fallbacks.add(run.run_id)
        if run.retry is None and self.has_attempts:
            run.retry = self._repeats(run)

    def on_end(self, run: OpenRun, outcome: Outcome) -> None:
        """Remember a failed attempt; forget a fallback that ended, and the failures of a call that now succeeded."""
        failed = outcome.status == "error"
        # LangGraph cancels a node that exceeds its ``timeout=``, and its RetryPolicy repeats it.
        may_repeat = failed or (outcome.status == "cancelled" and isinstance(run, OpenNodeRun))
        self.has_attempts = self.has_attempts or may_repeat
        if failed and run.attempt_of is not None:
            run.attempt_of.failed = True
        if run.fallback is not None:
            self._fallbacks.discard(run.run_id)
        if isinstance(run, OpenNodeRun):
            if may_repeat and (graph_run := run.graph_run) is not None:
                if graph_run.failed_tasks is None:
                    graph_run.failed_tasks = set()
                graph_run.failed_tasks.add((run.task_namespace, run.step))
        elif isinstance(run, OpenLLMCall | OpenToolCall) and (scope := _scope(run)) is not None:
            if failed:
                attempts = scope.failed_attempts = scope.failed_attempts or []
                attempts.append(_attempt(run))
                del attempts[:-_MAX_FAILED_ATTEMPTS]
            elif scope.failed_attempts and outcome.status == "success":
                scope.failed_attempts = [item for item in scope.failed_attempts if not _is_repeated(item, run)]

    def _repeats(self, run: OpenRun) -> RetryReason | None:
        if isinstance(run, OpenNodeRun):
            failed = None if run.graph_run is None else run.graph_run.failed_tasks
            return "retry" if failed and (run.task_namespace, run.step) in failed else None
        if not isinstance(run, OpenLLMCall | OpenToolCall):
            return None
        scope = _scope(run)
        if scope is None or not scope.failed_attempts:
            return None
        for attempt in reversed(scope.failed_attempts):
            if _is_repeated(attempt, run):
                same_model = not isinstance(run, OpenLLMCall) or _equal(attempt.model, run.requested())
                return "retry" if same_model else "fallback"
        return None

    def _fallback_around(self, parent: OpenRun | None) -> Fallback | None:
        if parent is not None and parent.fallback is not None:
            return parent.fallback
        around = run_of_context(self._runs)
        return None if around is None else around.fallback


def _scope(run: OpenRun) -> OpenRun | None:
    """Return the run that keeps the failed attempts around a call: the nearest tool or node, else the request."""
    if run.tool is not None and run.tool.node is run.node:
        return run.tool
    return run.node or run.graph_run


def _attempt(run: OpenLLMCall | OpenToolCall) -> _FailedCall | _FailedTool:
    if isinstance(run, OpenLLMCall):
        return _FailedCall(run.messages or run.prompts, run.requested())
    return _FailedTool(run.name, run.input_text)


def _is_repeated(attempt: Any, run: OpenLLMCall | OpenToolCall) -> bool:
    if isinstance(run, OpenLLMCall):
        return isinstance(attempt, _FailedCall) and _equal(attempt.messages, run.messages or run.prompts)
    return bool(attempt == _FailedTool(run.name, run.input_text))


def _equal(first: Sequence[Any], second: Sequence[Any]) -> bool:
    try:
        return first is second or list(first) == list(second)
    except Exception:  # a class of the application may raise when it is compared
        return False
