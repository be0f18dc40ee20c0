"""RunOpener: looks up where a run starts, and makes the open runs of chains and tools."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from eco2_callbacks.runs.attribution import UNCLASSIFIED, labels_of_run, state_values
from eco2_callbacks.runs.enclosing import Enclosing, EnclosingRuns
from eco2_callbacks.runs.graph_nodes import is_step_of_graph, step_of
from eco2_callbacks.runs.identities import Identity, IdentityReader, merge_shared
from eco2_callbacks.runs.open_runs import OpenGraphRun, OpenNodeRun, OpenRun, OpenToolCall
from eco2_callbacks.runs.places import Place, PlaceFinder
from eco2_callbacks.runs.request_context import RequestContext, StateLabels
from eco2_callbacks.runs.text_values import text_of

__all__ = ["Found", "RunOpener"]


# Where a call starts, on whose behalf, its node, intent and tenant, and its place.
Found: TypeAlias = tuple[Enclosing, Identity, tuple[str, str, str], Place]


class RunOpener:
    """Makes open runs; the tracker puts them into the tree.

    Args:
        enclosing: Finds the run around another one.
        places: Finds the place of a run.
        identities: Reads on whose behalf a run spends.
        state_labels: As the handler's.
        clock: As the handler's.
        now: As the handler's.
    """

    def __init__(
        self,
        enclosing: EnclosingRuns,
        *,
        places: PlaceFinder,
        identities: IdentityReader,
        state_labels: tuple[str, ...],
        clock: Callable[[], float],
        now: Callable[[], datetime],
    ) -> None:
        self._enclosing = enclosing
        self._places = places
        self._identities = identities
        self._state_labels = state_labels
        self._clock = clock
        self._now = now

    def look_up(self, parent_run_id: UUID | None, metadata: Mapping[str, Any]) -> Found:
        """Return where a call starts."""
        enclosing = self._enclosing.find(parent_run_id)
        identity = self._identity_of(enclosing, metadata)
        parent, context = enclosing.parent, enclosing.context
        state = parent.state if parent is not None else None if context is None else context.state
        labels = labels_of_run(state, context, metadata, identity)
        if not labels[0] and parent is not None and (around := enclosing.node) is not None:
            # A config with callbacks and metadata of its own hides LangGraph's.
            labels = around.name, labels[1], labels[2]
        return enclosing, identity, labels, self._places.place_of(enclosing.place, metadata)

    def new_request(
        self, run_id: UUID, inputs: object, tags: Sequence[str] | None, metadata: Mapping[str, Any]
    ) -> OpenGraphRun:
        """Return a topmost chain's run: a request."""
        intent = text_of(metadata.get("intent")) or UNCLASSIFIED
        identity = self._identities.identity_of(None, None, metadata, in_graph="langgraph_node" in metadata)
        return OpenGraphRun(
            run_id,
            own_context=RequestContext(run_id, intent, identity),
            place=self._places.place_of(None, metadata),
            identity=identity,
            resumed=_is_resumed(inputs, metadata),
            # No input, or a Command: what nodes put into the state before still holds.
            continues=inputs is None or type(inputs).__name__ == "Command",
            tags=tuple(tags or ()),
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )

    def new_node(
        self,
        run_id: UUID,
        enclosing: Enclosing,
        name: str,
        inputs: object,
        tags: Sequence[str] | None,
        metadata: Mapping[str, Any],
    ) -> OpenNodeRun:
        """Return a node's run."""
        step = step_of(tags, metadata)
        task_namespace = text_of(metadata.get("langgraph_checkpoint_ns")) or str(run_id)
        tasks: set[str] = set()
        parent = enclosing.parent
        if parent is not None and (request := parent.graph_run) is not None:
            if is_step_of_graph(tags):
                tasks = request.tasks.setdefault((task_namespace.rpartition("|")[0], step), tasks)
            state = _state_of_graph(parent) or request.own_context.state
            if request.continues and not state.values:
                state.values.update(state_values(inputs, self._state_labels))
        tasks.add(task_namespace)
        return OpenNodeRun(
            run_id,
            parent,
            enclosing.context,
            place=self._place_of_node(enclosing, name, metadata),
            identity=self._identity_of(enclosing, metadata),
            name=name,
            step=step,
            task_namespace=task_namespace,
            tasks=tasks,
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )

    def new_link(self, run_id: UUID, enclosing: Enclosing, name: object, metadata: Mapping[str, Any]) -> OpenRun:
        """Return the run of any other chain: a link between runs."""
        around = enclosing.place
        place = self._places.place_of(around, metadata)
        identity = enclosing.identity or self._identity_of(enclosing, metadata)
        run = OpenRun(run_id, enclosing.parent, enclosing.context, self._clock(), place, identity, name)
        if around is not None and place.path != around.path:
            run.agent = place.agent_name  # else the node around it has the same name, and counts
        return run

    def new_tool(
        self,
        run_id: UUID,
        parent_run_id: UUID | None,
        metadata: Mapping[str, Any],
        name: str,
        *,
        input_text: str,
        is_retriever: bool,
    ) -> OpenToolCall:
        """Return a tool's or retriever's run."""
        enclosing, identity, (node, intent, tenant_id), place = self.look_up(parent_run_id, metadata)
        context = enclosing.context
        if context is None and enclosing.parent is None:
            # What a graph below puts into its state holds for what comes after.
            context = RequestContext(run_id, text_of(metadata.get("intent")) or UNCLASSIFIED, identity)
        return OpenToolCall(
            run_id,
            enclosing.parent,
            context,
            name=name,
            is_retriever=is_retriever,
            input_text=input_text,
            node_name=node,
            intent=intent,
            tenant_id=tenant_id,
            place=place,
            identity=identity,
            metadata=metadata,
            started_at=self._now(),
            started=self._clock(),
        )

    def _place_of_node(self, enclosing: Enclosing, name: str, metadata: Mapping[str, Any]) -> Place:
        """Return the place of a node's run. That the run above is a graph shows when its first node starts."""
        graph, around = enclosing.parent, enclosing.place
        if graph is not None and graph.agent is None and graph.parent is not None and type(graph) is OpenRun:
            node = None if graph.node is None else graph.node.name
            inside = self._places.in_graph(graph.place, graph.parent.place, graph.name, node)
            if inside is not graph.place:
                if inside.path != graph.place.path:
                    graph.agent = inside.agent_name
                graph.place = around = inside
        place = self._places.place_of(around, metadata)
        # Without a run above, the namespace of the metadata ends with the node itself.
        return place if around is None and place.last == name else place.at_node(name)

    def _identity_of(self, enclosing: Enclosing, metadata: Mapping[str, Any]) -> Identity:
        context, around = enclosing.context, enclosing.identity
        sibling = None if context is None else context.last_identity
        identity = self._identities.identity_of(around, sibling, metadata, in_graph="langgraph_node" in metadata)
        if context is not None and identity is not sibling and identity is not around:
            context.last_identity = identity
            context.shared = merge_shared(context.shared, identity)
        return identity


def _is_resumed(inputs: object, metadata: Mapping[str, Any]) -> bool:
    """Return whether a graph with this input continues an interrupted run: only a thread keeps one."""
    if inputs is None:
        return "thread_id" in metadata
    return type(inputs).__name__ == "Command" and getattr(inputs, "resume", None) is not None


def _state_of_graph(graph: OpenRun) -> StateLabels | None:
    """Return the labels of a graph's state, at the start of one of its nodes; a graph inside a node has its own."""
    above = graph.parent
    if above is not None and graph.state is above.state and type(graph) is OpenRun and (graph.node or graph.tool):
        graph.state = StateLabels(graph.state)
    return graph.state
