"""Place: where in the application a run is: its agent, and the chain of agents and nodes around it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from eco2_callbacks.runs.text_values import text_of

__all__ = ["Place", "PlaceFinder"]

_SEPARATOR = "/"
# A longer part is cut. Beyond the length of a path nothing is appended: an agent can call itself without end.
_MAX_PART = 120
_MAX_PATH = 1000
# What a graph is called that the application did not name.
_UNNAMED = "LangGraph"
# A name that stands in code: words of letters, with two digits at most at their end, as in "planner_v2". The digits of
# an id stand alone, in a row or inside a word: "job-99", "run1234", "V1StGXR8".
_WORD = r"[^\W\d_]+\d{0,2}"
_CODE_NAME = re.compile(rf"_*{_WORD}(?:[_.-]{_WORD}){{0,7}}")
_MAX_CODE_NAME = 64


class Place:
    """Where a run is; all runs of one place share the object.

    Attributes:
        agent_name: The nearest enclosing agent.
        path: Agents and nodes from the root, joined by ``/``.
        named: The value of ``lc_agent_name`` by which LangChain names the agent; None where none was seen.
    """

    __slots__ = ("agent_name", "named", "path")

    def __init__(self, agent_name: str, path: str, named: object = None) -> None:
        self.agent_name = agent_name
        self.path = path
        self.named = named

    @property
    def last(self) -> str:
        """The last agent or node of the path."""
        return self.path.rpartition(_SEPARATOR)[2]

    def at_node(self, node: str) -> Place:
        """Return the place of a node here."""
        return Place(self.agent_name, _joined(self.path, node), self.named)

    def in_agent(self, name: str, named: object = None) -> Place:
        """Return the place of an agent here; a node that has the agent's name is not repeated."""
        name = _part(name)
        path = self.path if self.last == name else _joined(self.path, name)
        return Place(name, path, self.named if named is None else named)


class PlaceFinder:
    """Finds the place of each run, from its metadata and the place around it.

    ==================================================  ======================================================
    The agent of a run is                               Used by
    ==================================================  ======================================================
    ``lc_agent_name`` of the metadata                   ``create_agent``, deepagents, swarm
    or a graph with a name that is not the root         ``create_react_agent``, supervisor, ``compile(name=)``
    else the handler's ``agent_name``                   everything else
    ==================================================  ======================================================

    The innermost of them counts: a graph called as a tool inherits the metadata of the agent that calls it.

    A graph's run is called by the graph's name, or by the ``run_name`` of its config, which can hold a job's id. A
    name counts only where the enclosing node has it too, or where it looks like a name in code.

    Args:
        agent_name: As the handler's.
    """

    def __init__(self, agent_name: str) -> None:
        self._root = Place(agent_name, _part(agent_name))

    def place_of(self, around: Place | None, metadata: Mapping[str, Any]) -> Place:
        """Return the place of a run: that around it, unless its metadata names another agent."""
        if around is None:
            return self._topmost(metadata)
        named = metadata.get("lc_agent_name")
        if named is around.named or named is None:
            return around
        name = text_of(named)
        if not name or name == around.named:
            return around
        return around.in_agent(name, named)

    def in_graph(self, graph: Place, around: Place, name: object, node: str | None) -> Place:
        """Return the place inside a graph.

        Args:
            graph: The place of the graph's run.
            around: The place around it.
            name: The run's name.
            node: The enclosing node's name.
        """
        # A graph that LangChain names an agent is called by that; what it inherits names an agent further out.
        names_itself = graph.named is not around.named
        if names_itself or not isinstance(name, str) or not name or name == graph.agent_name:
            return graph
        if name == node or (name != _UNNAMED and _is_code_name(name)):
            return graph.in_agent(name)
        return graph

    def _topmost(self, metadata: Mapping[str, Any]) -> Place:
        """Return the place of a run without a run above: LangGraph's namespace tells the nodes around it."""
        named = metadata.get("lc_agent_name")
        place = self._root
        if agent := text_of(named):
            place = Place(_part(agent), _part(agent), named)
        namespace = metadata.get("langgraph_checkpoint_ns")
        if namespace is None or not (text := text_of(namespace)):
            return place
        # Each part is a node and the id of its task; a number tells calls of one node apart.
        nodes = [
            node for part in text[:_MAX_PATH].split("|") if (node := part.partition(":")[0]) and not node.isdigit()
        ]
        path = place.path if not agent or len(nodes) < 2 else _SEPARATOR.join([*map(_part, nodes[:-1]), place.path])
        for node in nodes if not agent else nodes[-1:]:
            path = _joined(path, node)
        return Place(place.agent_name, path, place.named)


def _part(name: str) -> str:
    return name[:_MAX_PART]


def _joined(path: str, name: str) -> str:
    if not path:
        return _part(name)
    return f"{path}{_SEPARATOR}{_part(name)}" if len(path) < _MAX_PATH else path


def _is_code_name(name: str) -> bool:
    return len(name) <= _MAX_CODE_NAME and _CODE_NAME.fullmatch(name) is not None
