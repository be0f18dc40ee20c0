"""Quality scores in the output of a node."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeAlias

from eco2_callbacks.runs.attribution import updates_of, value_at

__all__ = ["Feedback", "read_scores"]

# node -> score's key -> dotted path in the node's output
Feedback: TypeAlias = Mapping[str, Mapping[str, str]]


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
