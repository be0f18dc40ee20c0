"""RunStart: what a sink that follows running work gets when a run starts."""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias
from uuid import UUID

import msgspec

from eco2_callbacks.runs import OpenGraphRun, OpenLLMCall, OpenNodeRun, OpenRun, OpenToolCall

__all__ = ["RunKind", "RunStart", "run_start"]

RunKind: TypeAlias = Literal["request", "node", "llm_call", "tool", "retriever"]


class RunStart(msgspec.Struct, frozen=True, kw_only=True):
    """A run that has started. Its record follows when it ends.

    Attributes:
        run_id: The run's id. The record of a request has it as ``trace_id``.
        trace_id: Run id of the topmost run that the handler saw.
        kind: The kind of record that follows.
        name: The node's, model's or tool's name; ``""`` for a request.
        node_run_id: Run id of the nearest enclosing node; None outside a node.
        step: The graph's step of a node.
        started_at: Wall time with a time zone.
    """

    run_id: UUID
    trace_id: UUID
    kind: RunKind
    name: str = ""
    node_run_id: UUID | None = None
    step: int | None = None
    started_at: datetime


def run_start(run: OpenRun) -> RunStart | None:
    """Return the start of a run; None for a link between runs, which gets no record."""
    step, kind, name = None, "request", ""
    if isinstance(run, OpenNodeRun):
        kind, name, step = "node", run.name, run.step
    elif isinstance(run, OpenLLMCall):
        kind, name = "llm_call", run.request_model
    elif isinstance(run, OpenToolCall):
        kind, name = "retriever" if run.is_retriever else "tool", run.name
    elif not isinstance(run, OpenGraphRun):
        return None
    return RunStart(
        run_id=run.run_id,
        trace_id=run.trace_id,
        kind=kind,  # type: ignore[arg-type]
        name=name,
        node_run_id=None if run.node is None else run.node.run_id,
        step=step,
        started_at=run.started_at,
    )
