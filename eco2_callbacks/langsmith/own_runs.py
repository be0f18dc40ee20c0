"""Runs that the handler itself sends to LangSmith, for calls that LangChain does not trace."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, Literal
from uuid import UUID

from langsmith.run_helpers import get_current_run_tree, get_tracing_context
from langsmith.run_trees import RunTree
from langsmith.utils import tracing_is_enabled

from eco2_callbacks.langsmith.run_tree_hooks import started_run

__all__ = ["RunTree", "end_own_run", "start_own_run"]

# Where a topmost run is sent, as LangSmith's ``tracing_context`` names it.
_DESTINATION = ("client", "project_name", "address")


def start_own_run(
    run_id: UUID,
    parent: RunTree | None,
    *,
    name: str,
    run_type: Literal["llm", "tool"],
    inputs: Mapping[str, Any],
    metadata: Mapping[str, Any],
    tags: Sequence[str],
) -> RunTree | None:
    """Send the start of a run; return None where nothing is traced.

    Args:
        run_id: The run's id, as in the handler's record.
        parent: The run above, where the handler itself sent that; None takes LangSmith's current run tree, which
            LangChain's tracer and ``@traceable`` set.
        name: The run's name.
        run_type: As LangSmith names it.
        inputs: What was sent.
        metadata: Of the run; that of LangSmith's ``tracing_context`` is added.
        tags: Of the run; those of LangSmith's ``tracing_context`` are added.
    """
    if tracing_is_enabled() is not True:
        return None
    parent = parent or get_current_run_tree()
    context = get_tracing_context()
    # @traceable leaves there how its own runs were made.
    outer = {key: value for key, value in (context.get("metadata") or {}).items() if key != "ls_method"}
    fields: dict[str, Any] = {
        "run_type": run_type,
        "inputs": dict(inputs),
        "tags": list(dict.fromkeys([*tags, *(context.get("tags") or ())])),
        "extra": {"metadata": {**outer, **metadata}},
    }
    if parent is not None:
        run = parent.create_child(name, run_id=run_id, **fields)
        # A parent keeps its children until it ends, and nothing reads them.
        with suppress(ValueError):
            parent.child_runs.remove(run)
    else:
        destination = {key: context[key] for key in _DESTINATION if context.get(key) is not None}
        run = RunTree(name=name, id=run_id, **fields, **destination)
    run.post()
    return run


def end_own_run(run: RunTree, *, outputs: Mapping[str, Any], error: str | None) -> None:
    """Send the end of a run, unless it was sent when the run above ended."""
    if started_run(run.id) is not run:
        return
    run.end(outputs=dict(outputs), error=error)
    run.patch()
