"""EnclosingRuns: finds the run inside which a new run starts, whatever parent LangChain names."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple
from uuid import UUID

from langchain_core.runnables.config import var_child_runnable_config

from eco2_callbacks.run_ids import uuid_of
from eco2_callbacks.runs.identities import Identity
from eco2_callbacks.runs.open_runs import OpenNodeRun, OpenRun
from eco2_callbacks.runs.places import Place
from eco2_callbacks.runs.request_context import RequestContext
from eco2_callbacks.runs.run_table import OpenRunTable

__all__ = ["Enclosing", "EnclosingRuns", "context_metadata", "context_run_id", "run_of_context"]

# Chain runs remembered after their end, for work that outlives its request.
_MAX_ENDED = 10_000


class Enclosing(NamedTuple):
    """Where a new run starts: below an open run, or in the context of a request that has ended."""

    parent: OpenRun | None = None
    context: RequestContext | None = None
    place: Place | None = None
    identity: Identity | None = None

    @property
    def node(self) -> OpenNodeRun | None:
        """The nearest enclosing node."""
        parent = self.parent
        return parent if parent is None or isinstance(parent, OpenNodeRun) else parent.node

    def is_in_task(self, metadata: Mapping[str, Any]) -> bool:
        """Return whether LangGraph's task of this metadata has its node's run: what starts inside is no second one."""
        node = self.node
        return node is not None and node.task_namespace == metadata.get("langgraph_checkpoint_ns")


def _below(run: OpenRun) -> Enclosing:
    return Enclosing(run, run.context, run.place, run.identity)


_NONE = Enclosing()


def run_of_context(runs: OpenRunTable) -> OpenRun | None:
    """Return the open run that LangChain's context variable names, None if there is none."""
    run_id = context_run_id()
    return None if run_id is None else runs.get(run_id)


class EnclosingRuns:
    """Finds the enclosing run, and remembers ended runs, so that late work keeps the trace of its request.

    The first source that knows a run wins:

    1. The parent id that LangChain passes.
    2. LangChain's context variable: a call with callbacks of its own, or an attempt of a topmost fallback, names no
       parent but runs in the context of the enclosing run.
    3. LangSmith's current run tree: below ``@traceable`` code LangChain names the LangSmith run as parent. Its
       ancestors stand in ``dotted_order``.

    Each source is looked up among the open runs first. If none of them is open, the same ids are looked up among the
    ended runs.
    """

    def __init__(self, runs: OpenRunTable) -> None:
        self._runs = runs
        self._ended: dict[int, Enclosing] = {}

    def find(self, parent_run_id: UUID | None) -> Enclosing:
        """Return where a run with this parent id starts."""
        if parent_run_id is not None:
            if type(parent_run_id) is not UUID:
                parent_run_id = uuid_of(parent_run_id)
            if (run := self._runs.get(parent_run_id)) is not None:
                return _below(run)
        context_id = context_run_id()
        if context_id is not None and (run := self._runs.get(context_id)) is not None:
            return _below(run)
        if parent_run_id is None and context_id is None:
            return _NONE
        ancestors = list(_ancestors(parent_run_id)) if parent_run_id is not None else []
        for run_id in ancestors:
            if (run := self._runs.get(run_id)) is not None:
                return _below(run)
        if self._ended:
            for ended_id in (parent_run_id, context_id, *ancestors):
                if ended_id is not None and (ended := self._ended.get(ended_id.int)) is not None:
                    return ended
        return _NONE

    def remember_ended(self, run: OpenRun) -> None:
        """Remember the request of a chain run that ended; the oldest entry goes beyond 10,000."""
        if run.context is None:
            return
        ended = self._ended
        ended[run.run_id.int] = Enclosing(None, run.context, run.place, run.identity)
        if len(ended) > _MAX_ENDED:
            # Another thread may have removed it first.
            with suppress(KeyError, RuntimeError, StopIteration):
                del ended[next(iter(ended))]


def context_run_id() -> UUID | None:
    """Return the id of the run that LangChain's context variable names; None outside a run."""
    config = var_child_runnable_config.get()
    if config is None:
        return None
    run_id = getattr(config.get("callbacks"), "parent_run_id", None)
    return None if run_id is None else uuid_of(run_id)


def context_metadata() -> dict[str, Any]:
    """Return the metadata that LangChain would pass to a run started here; empty outside a run."""
    config = var_child_runnable_config.get()
    if config is None:
        return {}
    inherited = getattr(config.get("callbacks"), "inheritable_metadata", None)
    return {**(inherited or {}), **(config.get("metadata") or {})}


def _ancestors(parent_run_id: UUID) -> Iterator[UUID]:
    """Yield the ids above LangSmith's current run tree, the nearest first, if the tree is the named parent.

    ``dotted_order`` holds one part per ancestor, the topmost first: ``<time>Z<uuid>.<time>Z<uuid>``.
    """
    # A run tree can only exist where this module has been imported.
    helpers = sys.modules.get("langsmith.run_helpers")
    tree = helpers.get_current_run_tree() if helpers is not None else None
    if tree is None:
        return
    parts = str(getattr(tree, "dotted_order", "") or "").split(".")
    if str(parent_run_id) not in parts[-1] and getattr(tree, "id", None) != parent_run_id:
        return
    for part in reversed(parts):
        _, mark, run_id = part.rpartition("Z")
        if mark:
            try:
                yield UUID(run_id)
            except ValueError:
                continue
