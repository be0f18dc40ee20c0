"""Which runs repeat a failed one: attempts of ``with_retry`` and of ``with_fallbacks``."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from eco2_callbacks.outcomes import Outcome
from eco2_callbacks.runs import Attempts, OpenRun, OpenRuns

__all__ = ["AttemptWatch", "run_of_context"]

_RETRY_TAG = "retry:attempt:"
_FALLBACKS = "RunnableWithFallbacks"


def run_of_context(runs: OpenRuns) -> OpenRun | None:
    """Return the open run inside which this code runs, whatever parent LangChain names.

    A call that is given callbacks of its own inside a node names no parent, nor does an attempt of a fallback that is
    itself the topmost run; both run in the context of the run they belong to.
    """
    callbacks = (var_child_runnable_config.get() or {}).get("callbacks")
    run_id = getattr(callbacks, "parent_run_id", None)
    return None if run_id is None else runs.get(run_id)


class AttemptWatch:
    """Marks runs that repeat a failed one.

    A retry is told by LangChain's tag. A fallback has none: its attempts run below it or, outside ``batch``, beside it
    and in its context; after a failed attempt the next one is the fallback. What runs below a repeated run is repeated
    too. A fallback that was given a ``run_name`` cannot be told from any other chain.
    """

    def __init__(self, runs: OpenRuns) -> None:
        self._runs = runs
        self._fallbacks: set[UUID] = set()

    def opened(self, run: OpenRun, name: object, tags: Sequence[str] | None) -> None:
        """Mark a run that is about to open; its parent is set."""
        if run.parent is not None:
            run.retry = run.parent.retry
        for tag in tags or ():
            if isinstance(tag, str) and tag.startswith(_RETRY_TAG):
                run.retry = "retry"
        if self._fallbacks and (attempts := self._attempts_around(run.parent)) is not None:
            run.attempt_of = attempts
            if attempts.failed:
                run.retry = "fallback"
        if isinstance(name, str) and name.startswith(_FALLBACKS):
            run.attempts = Attempts()
            self._fallbacks.add(run.run_id)

    def closed(self, run: OpenRun, outcome: Outcome) -> None:
        """Remember a failed attempt, and forget a fallback that ended."""
        if outcome.status == "error" and run.attempt_of is not None:
            run.attempt_of.failed = True
        if run.attempts is not None:
            self._fallbacks.discard(run.run_id)

    def __len__(self) -> int:
        return len(self._fallbacks)

    def _attempts_around(self, parent: OpenRun | None) -> Attempts | None:
        if parent is not None and parent.attempts is not None:
            return parent.attempts
        around = run_of_context(self._runs)
        return None if around is None else around.attempts
