"""Quality scores in the output of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from eco2_callbacks.arguments import check_mapping, check_text
from eco2_callbacks.errors import ConfigError
from eco2_callbacks.runs.attribution import updates_of, value_at

__all__ = ["Feedback", "check_feedback", "read_scores"]

# node -> score's key -> dotted path in the node's output
Feedback: TypeAlias = Mapping[str, Mapping[str, str]]


def check_feedback(feedback: Feedback | None) -> Feedback:
    """Return the quality scores of nodes; none for None.

    Raises:
        ConfigError: If it is no mapping of nodes to mappings of keys to paths.
    """
    checked = check_mapping("feedback", feedback)
    for node, paths in checked.items():
        name = f"feedback[{node!r}]"
        if paths is None:
            raise ConfigError(f"{name}= is None, wanted a mapping of a score's key to its path; leave the node out.")
        for key, path in check_mapping(name, paths).items():
            check_text(f"{name}[{key!r}]", path)
    return checked


def read_scores(paths: Mapping[str, str], output: object) -> dict[str, float]:
    """Return the scores from 0 to 1 in a node's output, by key; a path that leads to anything else gives none."""
    scores = {}
    for key, path in paths.items():
        for update in updates_of(output):
            value: Any = update
            for name in path.split("."):
                value = value_at(value, name)
            if isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= 1:
                scores[key] = float(value)
    return scores
