"""Recognises LangGraph's nodes among the runs, and which of them run beside each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenNodeRun, OpenRun
from eco2_callbacks.runs.text_values import text_of

__all__ = ["is_node", "is_step_of_graph", "mark_parallel", "step_of"]

_GRAPH_STEP_TAG = "graph:step:"
_TASK_STEP_TAG = "seq:step:"
_TASK_PATH = "__pregel_push"


def is_node(tags: Sequence[str] | None, metadata: Mapping[str, Any]) -> bool:
    """Return whether a chain named like its ``langgraph_node`` is the node's own run.

    A graph's node carries the tag ``graph:step:N``. A task of the functional API carries ``seq:step:N`` like any step
    of a sequence; its path starts with ``__pregel_push``.
    """
    for tag in tags or ():
        if isinstance(tag, str):
            if tag.startswith(_GRAPH_STEP_TAG):
                return True
            if tag.startswith(_TASK_STEP_TAG):
                path = metadata.get("langgraph_path")
                return isinstance(path, list | tuple) and bool(path) and text_of(path[0]) == _TASK_PATH
    return False


def is_step_of_graph(tags: Sequence[str] | None) -> bool:
    """Return whether a node belongs to a step of a graph, whose nodes start together; tasks do not."""
    return any(isinstance(tag, str) and tag.startswith(_GRAPH_STEP_TAG) for tag in tags or ())


def step_of(tags: Sequence[str] | None, metadata: Mapping[str, Any]) -> int | None:
    """Return the step of LangGraph's loop that a node runs in, None where it is not known."""
    for tag in tags or ():
        if isinstance(tag, str) and tag.startswith(_GRAPH_STEP_TAG):
            number = tag.removeprefix(_GRAPH_STEP_TAG)
            return int(number) if number.isdecimal() else None
    step = metadata.get("langgraph_step")
    return step if isinstance(step, int) else None


def mark_parallel(node: OpenNodeRun) -> None:
    """Mark tasks, and nodes of nested graphs, that run beside each other below one run, as with ``asyncio.gather``."""
    if node.parent is not None and node.parent.children is not None and len(node.parent.children) > 1:
        for other in reversed(list(node.parent.children.values())):
            if isinstance(other, OpenNodeRun) and other.task_namespace != node.task_namespace:
                node.parallel = True
                if other.parallel:
                    break  # it marked those before it
                other.parallel = True
    run: OpenRun = node
    while (above := run.parent) is not None:
        if run is not node and above.children is not None and len(above.children) > 1:
            siblings = [
                run,
                *(other for other in list(above.children.values()) if other is not run and other.has_nodes),
            ]
            if len(siblings) > 1:
                for sibling in siblings:
                    _mark_nodes_below(sibling)
        above.has_nodes = True
        if above is node.node or isinstance(above, OpenGraphRun):
            break
        run = above


def _mark_nodes_below(run: OpenRun) -> None:
    if isinstance(run, OpenNodeRun):
        run.parallel = True
    for child in list((run.children or {}).values()):
        _mark_nodes_below(child)
